"""Follow the links of the circle through a run: tokens, gradient, update, spectrum, attention map."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from course_lib.data import IGNORED
from course_lib.extras import pandas as pd
from course_lib.probes import (
    AttentionGradient,
    attention_gradients,
    attention_rank,
    effective_rank,
    entropy,
    entropy_floor,
    qk_singular_values,
    score_gap_limit,
)
from course_lib.probes.spectrum import split_head_rows
from course_lib.runs import Run, RunConfig

DENSE = 60
"""The first steps are all measured; later ones every `EVERY`."""
EVERY = 10
SEQUENCES = 4
"""Number of sequences of a batch whose attention maps are measured."""

LINKS = {
    "tokens": "effective rank of X",
    "gradient": "effective rank of ∂L/∂(W_qᵀW_k)",
    "update": "effective rank of Adam's ΔW of W_q",
    "product": "effective rank of W_qᵀW_k",
    "entropy": "entropy H",
}
"""The links of the circle, in order: column of a table of `follow` → name of an axis."""


@dataclass(frozen=True)
class Followed:
    """A run and the measurements of its links."""

    run: Run
    table: pd.DataFrame
    """One row per (step, layer), means over the heads: `LINKS`; `gradient_q`, the effective rank of W_q's own
    gradient; `sigma`, σ₁(W_qᵀW_k); `rank` of the map (× uniform's); `floor`, the least entropy that the
    scores' range admits, and `sigma_floor`, the least that σ₁ does; `loss` in nats."""
    spectra: npt.NDArray[np.float32]
    """Singular values of W_qᵀW_k: (measured steps, layers, heads, head_dim)."""

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """The measured steps."""
        return self.table.index.get_level_values("step").unique().to_numpy()

    def of(self, layer: int) -> pd.DataFrame:
        """The rows of one layer, counted from 0, by step."""
        return self.table.xs(layer, level="layer")


def follow(config: RunConfig, label: str = "training", until: int | None = None) -> Followed:
    """Train a run, or its steps before `until`, and measure every link of the circle before the steps.

    Gradients are those of the step's batch. The model must be a GPT with softmax attention, without QK-norm.
    """
    run = Run(config)
    steps = config.steps if until is None else min(until, config.steps)
    rows: list[dict[str, Any]] = []
    spectra = []
    for step in tqdm(range(steps), desc=label, leave=False):
        if step >= DENSE and step % EVERY:
            run.step()
            continue
        looks = attention_gradients(run.model, lambda: next_loss(run))
        weights = [look.attention.w_q.weight.detach().clone() for look in looks]
        values = torch.stack([_spectrum(look) for look in looks])
        seen = [_seen(look, run, v) for look, v in zip(looks, values, strict=True)]
        record = run.step()
        for layer, (look, before) in enumerate(zip(looks, weights, strict=True)):
            place = {"step": step, "layer": layer, "loss": record.loss}
            rows.append({**place, **seen[layer], **_moved(look, before, run, record.lr)})
        spectra.append(values)
    if until is None or until > config.steps:
        run.step()
    table = pd.DataFrame(rows).set_index(["step", "layer"])
    return Followed(run, table, torch.stack(spectra).numpy())


def next_loss(run: Run) -> Tensor:
    """The loss that a GPT's run will have at its next step, 0-dim, in nats, to differentiate."""
    inputs, targets = run.task.batch(run.updates, run.config.batch)
    logits = run.model(inputs.to(run.device))
    return F.cross_entropy(logits.flatten(0, 1), targets.to(run.device).flatten(), ignore_index=IGNORED)


def _spectrum(look: AttentionGradient) -> Tensor:
    heads = look.attention.heads
    w_q, w_k = look.attention.w_q.weight.detach(), look.attention.w_k.weight.detach()
    return qk_singular_values(split_head_rows(w_q, heads), split_head_rows(w_k, heads)).cpu()


def _rank(matrices: Tensor) -> float:
    """Effective rank, mean over leading dimensions; in double: gradients can be tiny."""
    return effective_rank(torch.linalg.svdvals(matrices.double())).mean().item()


@torch.no_grad()
def _seen(look: AttentionGradient, run: Run, spectrum: Tensor) -> dict[str, float]:
    """Measure the links before a step."""
    layer, x = look.attention, look.tokens[:SEQUENCES]
    logits, weights = layer.attention(*layer.queries_and_keys(x))
    visible = torch.ones(logits.shape[-2:], dtype=torch.bool, device=x.device).tril()
    keys = visible.sum(-1)
    gap = logits.masked_fill(~visible, -torch.inf).amax(-1) - logits.masked_fill(~visible, torch.inf).amin(-1)
    limit = score_gap_limit(spectrum[:, 0].to(x.device), x, layer.head_dim)
    return {
        "tokens": _rank(x),
        "gradient": _rank(look.product),
        "product": effective_rank(spectrum).mean().item(),
        "sigma": spectrum[:, 0].mean().item(),
        "entropy": entropy(weights, visible).nanmean().item(),
        "rank": attention_rank(weights).mean().item() / run.reference_ranks[0],
        "floor": entropy_floor(gap, keys).nanmean().item(),
        "sigma_floor": entropy_floor(limit, keys).nanmean().item(),
    }


def _moved(look: AttentionGradient, before: Tensor, run: Run, lr: float) -> dict[str, float]:
    """Effective ranks, per head, of W_q's gradient and of the update made from it."""
    weight = look.attention.w_q.weight
    assert weight.grad is not None
    update = (before * (1 - lr * run.config.weight_decay) - weight.detach()) / lr
    by_head = [split_head_rows(m, look.attention.heads) for m in (weight.grad, update)]
    return {"gradient_q": _rank(by_head[0]), "update": _rank(by_head[1])}


def half_lost(followed: Followed, layer: int) -> "pd.Series[Any]":
    """Per link, the first measured step where it is below half of its first value; missing if never."""
    table = followed.of(layer)[list(LINKS)]
    below = table < table.iloc[0] / 2
    return pd.Series({LINKS[name]: (below[name].idxmax() if below[name].any() else None) for name in LINKS})


@torch.no_grad()
def weight_path(config: RunConfig, steps: int) -> Tensor:
    """W_q and W_k of every layer of a GPT before a run's first step and after each further one.

    They are (steps + 1, matrices, d_model, d_model), with W_q and W_k of layer 1 first.
    """
    run = Run(config)
    chosen: list[Tensor] = [p for name, p in run.matrices.items() if "w_q" in name or "w_k" in name]
    path = [torch.stack(chosen)]
    for _ in range(steps):
        with torch.enable_grad():
            run.step()
        path.append(torch.stack(chosen))
    return torch.stack(path)
