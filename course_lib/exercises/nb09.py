"""Exercises of notebook 09: the share that was cut, the attention of a model, first aid for a run."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.exercises.checking import NotYet, Wrong, call, checker, judge_cases, judge_numbers, numbers
from course_lib.extras import pandas as pd
from course_lib.optim import BoundReport
from course_lib.probes import AttentionSite


def _report(*cut: bool) -> BoundReport:
    was_cut = torch.tensor(cut if len(cut) > 1 else cut[0])
    factor = torch.where(was_cut, 0.25, 1.0)
    return BoundReport(torch.where(was_cut, 0.2, 0.01), factor, was_cut, lr=0.01 * factor)


_LAST_STEP = {
    "blocks.0.qkv.weight": _report(True, True, False),
    "blocks.0.out.weight": _report(False),
    "blocks.1.qkv.weight": _report(True, True, True),
    "blocks.1.out.weight": _report(False),
    "blocks.0.mlp.weight": _report(True),
    "blocks.1.mlp.weight": _report(False),
}
_SHARE = 6 / 10
_SHARE_MISTAKES = {
    "it counts parameters of which any part was cut: a fused q, k, v holds three matrices.": 3 / 6,
    "it counts parameters of which every part was cut: a fused q, k, v holds three matrices.": 2 / 6,
    "it takes a mean of means: a fused q, k, v holds three matrices, and counts for three.": (2 / 3 + 1 + 1)
    / 6,
    "that is the share of the matrices that were *not* cut.": 4 / 10,
    "that is how many were cut: divide by how many matrices there are.": 6.0,
    "the cut ones are counted by matrices, all of them by parameters: 10 matrices in 6 parameters.": 6 / 6,
    "the cut ones are counted by parameters, all of them by matrices.": 3 / 10,
}


@checker("The share that was cut")
def check_share_cut(answer: Any) -> str:
    """A function (`optimizer.last_step`) → share of the bounded matrices whose learning rate was cut."""
    given = numbers(call(answer, _LAST_STEP), (), "the share")
    otherwise = f"of 10 matrices 6 were cut, and it gives {given:.3f}: expected {_SHARE}."
    judge_numbers(given, _SHARE, otherwise, lambda: _SHARE_MISTAKES, ())
    single = numbers(call(answer, {"w": _report(True), "v": _report(False)}), (), "the share")
    otherwise = f"of two matrices one was cut, and it gives {single:.3f}: expected 0.5."
    judge_numbers(single, 0.5, otherwise)
    return "near 1 for a long time: τ holds the run back. 0 from the start: it does nothing."


_WIDTH, _HEADS, _LAYERS = 48, 6, 2


class SelfAttention(nn.Module):
    """Causal self-attention, added to its input; one projection makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(_WIDTH, 3 * _WIDTH, bias=False)
        self.out = nn.Linear(_WIDTH, _WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (_HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        mixed: Tensor = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class Stranger(nn.Module):
    """A model that somebody else wrote: causal, with q, k and v in one projection."""

    heads = _HEADS

    def __init__(self, symbols: int = 62) -> None:
        super().__init__()
        self.embed = nn.Embedding(symbols, _WIDTH)
        self.stack = nn.ModuleList(SelfAttention() for _ in range(_LAYERS))
        self.head = nn.Linear(_WIDTH, symbols)

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, tokens) int64 → (batch, tokens, symbols)."""
        x = self.embed(ids)
        for layer in self.stack:
            x = layer(x)
        logits: Tensor = self.head(x)
        return logits


def _site(layer: int) -> AttentionSite:
    name = f"stack.{layer}.qkv"
    return AttentionSite(name, name, f"{name}.weight", f"{name}.weight", heads=_HEADS, fused=3)


_DETAILS = {
    "heads": f"the model has {_HEADS} in each layer (`Stranger.heads`).",
    "fused": "q, k and v come out of one module, one after the other: 3.",
    "causal": "in this model no query sees what comes after it.",
    "transposed": "nn.Linear keeps one row per component, only GPT-2's Conv1D does not.",
    "kind": "expected 'softmax'.",
}
"""Field of a site → why it has the value that it has."""


def _names() -> tuple[set[str], set[str]]:
    """The names of the modules and of the parameters of `Stranger`."""
    with torch.device("meta"):
        model = Stranger()
    return set(dict(model.named_modules())), set(dict(model.named_parameters()))


@checker("Where attention is", prepare=_names)
def check_sites(answer: Any) -> str:
    """A list of the `AttentionSite` of every layer of `Stranger`."""
    if isinstance(answer, AttentionSite):
        answer = [answer]
    if not isinstance(answer, Iterable) or isinstance(answer, str | Mapping):
        raise Wrong("expected a list with one AttentionSite per layer.")
    sites = [site for site in islice(answer, 99) if site is not Ellipsis]
    if not sites:
        raise NotYet
    if not all(isinstance(site, AttentionSite) for site in sites):
        raise Wrong("expected AttentionSite(…) for every layer, and nothing else in the list.")
    if len(sites) != _LAYERS:
        raise Wrong(
            f"the list has {len(sites)}, the model {_LAYERS} layers: expected one for each, in order."
        )
    modules, parameters = _names()
    for layer, site in enumerate(sites):
        _check_site(layer, site, modules, parameters)
    return "with these the probes read a model that they have never seen."


def _check_site(layer: int, site: AttentionSite, modules: set[str], parameters: set[str]) -> None:
    right = _site(layer)
    for field in ("queries", "keys"):
        name = getattr(site, field)
        if name in parameters:
            raise Wrong(f"{field} is {name!r}, a parameter: expected the module, whose output is looked at.")
        if name not in modules:
            raise Wrong(f"{field} is {name!r}: the model has no such module. See named_modules().")
    for field in ("w_q", "w_k"):
        name = getattr(site, field)
        if name in modules:
            raise Wrong(f"{field} is {name!r}, a module: expected its parameter, {name}.weight.")
        if name not in parameters:
            raise Wrong(f"{field} is {name!r}: the model has no such parameter. See named_parameters().")
    if (site.queries, site.keys, site.w_q, site.w_k) != (right.queries, right.keys, right.w_q, right.w_k):
        raise Wrong(f"site {layer} names {site.queries!r} and {site.w_q!r}: expected those of layer {layer}.")
    for field, why in _DETAILS.items():
        if getattr(site, field) != getattr(right, field):
            raise Wrong(f"{field} is {getattr(site, field)!r}: {why}")


PATIENTS = pd.DataFrame(
    {
        "has learnt": ["no", "no", "yes", "no"],
        "entropy": [0.03, 0.98, 0.02, 0.71],
        "rank": [0.4, 1.0, 2.1, 1.2],
        "largest ρ, first 20 steps": ["3.1", "0.005", "0.05", "0.03"],
        "cut, last step": ["no bound", "100 %", "4 %", "0 %"],
        "τ": ["none", "0.005", "0.05", "0.05"],
    },
    index=pd.Index(["A", "B", "C", "D"], name="run"),
)
"""Invented runs with possible problems; the rank is a multiple of uniform attention's."""

REMEDIES = ("bound the steps", "raise tau", "leave it alone", "look elsewhere")

_RIGHT = {"A": "bound the steps", "B": "raise tau", "C": "leave it alone", "D": "look elsewhere"}
_WHY = {
    "A": {
        "look elsewhere": "A: a step three times as large as its matrix, then sharp attention of low rank. "
        "Start there.",
        "leave it alone": "A has not learnt and is sharp with a low rank: it will not come back by itself.",
        "raise tau": "A has no bound: there is no τ to raise.",
    },
    "B": {
        "bound the steps": "B is bounded already: every matrix is still cut in the last step.",
        "leave it alone": "B is still cut everywhere in the last step: left alone, it stays as slow.",
        "look elsewhere": "B is still cut everywhere in the last step, with a τ of 0.005: "
        "look no further yet.",
    },
    "C": {
        "bound the steps": "C has learnt: it is sharp because it is right. Its steps are bounded already.",
        "raise tau": "C has learnt, and next to nothing is cut any more: τ is not in its way.",
        "look elsewhere": "C has learnt: low entropy with a high rank is no illness.",
    },
    "D": {
        "bound the steps": "D is bounded, its steps were small, and its attention is well.",
        "raise tau": "D: nothing is cut, so that a larger τ would change nothing.",
        "leave it alone": "D has not learnt.",
    },
}


@checker("First aid")
def check_first_aid(answer: Any) -> str:
    """A dictionary run → remedy for `PATIENTS`."""
    judge_cases(answer, _RIGHT, REMEDIES, _WHY, "remedy")
    return "the steps first, then τ, and attention only where it is ill."
