"""Look at a model's attention from outside, through hooks; the model is never edited."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib.models.attention import (
    Attention,
    attention_logits,
    attention_weights,
    visible_keys,
)
from course_lib.probes.attention import attention_rank, effective_rank, entropy, max_logit
from course_lib.probes.spectrum import (
    SEC_DIRECTIONS,
    qk_singular_values,
    spectral_energy_concentration,
    split_head_rows,
)

HEAD_QUANTITIES = {
    "entropy": "attention entropy (1 = uniform, 0 = one-hot)",
    "attention_rank": "effective rank of the attention map",
    "max_logit": "largest score before the softmax",
    "qk_sigma": "σ₁(W_qᵀW_k)",
    "qk_rank": "effective rank of W_qᵀW_k",
    "qk_sec": f"SEC({SEC_DIRECTIONS}) of W_qᵀW_k",
}
"""What is observed for each layer and head, and how a plot's axis calls it."""


@dataclass(frozen=True)
class AttentionSite:
    """Where one attention layer of a model is, by the names of its parts.

    Works for models that are not ours: all it needs are the names of the q and k projections.
    """

    queries: str
    """Module whose output are the queries: (batch, tokens, d_model) or (batch, heads, tokens, head_dim)."""
    keys: str
    w_q: str
    """Parameter W_q, (d_model, d_model), one row per query component."""
    w_k: str
    heads: int
    kind: str = "softmax"
    causal: bool = True


@dataclass(frozen=True)
class Observation:
    """What one look at a model shows."""

    quantities: dict[str, list[Tensor]]
    """Quantity → one tensor (heads,) per layer, on the model's device."""
    maps: list[Tensor]
    """Attention of the first probe sequence, one tensor (heads, queries, keys) per layer."""


def attention_sites(model: nn.Module) -> list[AttentionSite]:
    """The attention layers of a model of the course, in its order."""
    return [
        AttentionSite(
            queries=f"{name}.q_norm",
            keys=f"{name}.k_norm",
            w_q=f"{name}.w_q.weight",
            w_k=f"{name}.w_k.weight",
            heads=module.heads,
            kind=module.kind,
            causal=module.causal,
        )
        for name, module in model.named_modules()
        if isinstance(module, Attention)
    ]


@torch.no_grad()
def observe(model: nn.Module, sites: list[AttentionSite], inputs: Tensor) -> Observation:
    """Run `inputs` through the model once and measure every site's attention and spectrum.

    Each quantity is the mean over the probe batch (the largest value for `max_logit`). Entropy is NaN where
    weights are no distribution (sigmoid, ReLU², identity).
    """
    with _outputs_of(model, [s.queries for s in sites] + [s.keys for s in sites]) as outputs:
        model(inputs)
    observation = Observation({name: [] for name in HEAD_QUANTITIES}, [])
    for site in sites:
        q = _by_head(outputs[site.queries], site.heads)
        k = _by_head(outputs[site.keys], site.heads)
        _observe_attention(observation, site, q, k)
        _observe_spectrum(observation, site, model)
    return observation


def _observe_attention(observation: Observation, site: AttentionSite, q: Tensor, k: Tensor) -> None:
    visible = visible_keys(q.shape[-2], k.shape[-2], site.causal, q.device)
    logits = attention_logits(q.float(), k.float())
    attention = attention_weights(logits, visible, site.kind)
    distribution = site.kind in ("softmax", "uniform")
    h = entropy(attention, visible) if distribution else torch.full_like(attention[..., 0], torch.nan)
    into = observation.quantities
    into["entropy"].append(h.nanmean((0, 2)))
    into["attention_rank"].append(attention_rank(attention).mean(0))
    into["max_logit"].append(max_logit(logits, visible).amax(0))
    observation.maps.append(attention[0])


def _observe_spectrum(observation: Observation, site: AttentionSite, model: nn.Module) -> None:
    w_q = split_head_rows(model.get_parameter(site.w_q), site.heads)
    w_k = split_head_rows(model.get_parameter(site.w_k), site.heads)
    values = qk_singular_values(w_q, w_k)
    into = observation.quantities
    into["qk_sigma"].append(values[..., 0])
    into["qk_rank"].append(effective_rank(values))
    into["qk_sec"].append(spectral_energy_concentration(values, SEC_DIRECTIONS))


def _by_head(x: Tensor, heads: int) -> Tensor:
    if x.ndim == 4:
        return x
    return x.unflatten(-1, (heads, x.shape[-1] // heads)).transpose(1, 2)


@contextmanager
def _outputs_of(model: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of the named modules while the block runs; the hooks are then removed."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, args: object, output: Tensor) -> None:
            outputs[name] = output

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
