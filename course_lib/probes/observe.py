"""Observe a model's attention through hooks, without editing the model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.distributed.sharding import whole
from course_lib.models.attention import DISTRIBUTIONS, attention_logits, attention_weights, visible_keys
from course_lib.probes.attention_maps import attention_rank, effective_rank, entropy, max_logit
from course_lib.probes.sites import AttentionSite
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
"""Quantities observed for each layer and head, with their axis labels in plots."""


@dataclass(frozen=True)
class Observation:
    """The result of observing a model once."""

    quantities: dict[str, list[Tensor]]
    """Quantity → one tensor (heads,) per layer, on the model's device."""
    maps: list[Tensor]
    """Attention maps of the first probe sequence, one tensor (heads, queries, keys) per layer."""


@torch.no_grad()
def observe(model: nn.Module, sites: list[AttentionSite], inputs: Tensor) -> Observation:
    """Run `inputs` through the model once and measure every site's attention and spectrum.

    The model runs in evaluation mode. Each quantity is the mean over the probe batch, `max_logit` the largest
    value; each of Swin's windows counts as a sequence. Entropy is NaN for weights that are not a distribution
    (sigmoid, ReLU², identity). The map of linear attention is the implied one: φ(Q)φ(K)ᵀ with rows divided
    by their sums, without the convolution beside it.

    All processes must call it together for a sharded model (FSDP2). Each runs the inputs and gathers W_q and
    W_k of one layer at a time.
    """
    observation = Observation({name: [] for name in HEAD_QUANTITIES}, [])
    for site, (logits, visible) in zip(sites, _scores(model, sites, inputs), strict=True):
        attention = attention_weights(logits, visible, site.kind)
        spectrum = site_spectrum(site, model.get_parameter)
        seen = {
            "entropy": _entropy(site, attention, visible).nanmean((0, 2)),
            "attention_rank": attention_rank(attention).mean(0),
            "max_logit": max_logit(logits, visible).amax(0),
            "qk_sigma": spectrum[..., 0],
            "qk_rank": effective_rank(spectrum),
            "qk_sec": spectral_energy_concentration(spectrum, SEC_DIRECTIONS),
        }
        for name, values in observation.quantities.items():
            values.append(seen[name])
        observation.maps.append(attention[0])
    return observation


@torch.no_grad()
def attention_maps(model: nn.Module, sites: list[AttentionSite], inputs: Tensor) -> list[Tensor]:
    """All attention maps for `inputs` in evaluation mode: (batch, heads, queries, keys) per site.

    Swin's windows join the batch: (images · windows, heads, queries, keys).
    """
    return [
        attention_weights(logits, visible, site.kind)
        for site, (logits, visible) in zip(sites, _scores(model, sites, inputs), strict=True)
    ]


def _scores(model: nn.Module, sites: list[AttentionSite], inputs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each site's scores (batch, heads, queries, keys) and, broadcastable, which keys are visible."""
    outputs, masks = _watch(model, sites, inputs)
    for site in sites:
        q = _by_head(_part(outputs[site.queries], site, 0, dim=-1), site.heads)
        k = _by_head(_part(outputs[site.keys], site, 1, dim=-1), site.heads)
        logits = attention_logits(q.float(), k.float(), site.kind)
        visible = visible_keys(q.shape[-2], k.shape[-2], site.causal, q.device)
        if site.bias is not None:
            logits = logits + outputs[site.bias].float()
        mask = masks.get(site.mask)
        if mask is not None:
            seen = mask if mask.dtype == torch.bool else mask >= 0
            visible = visible & seen.repeat(len(q) // len(mask), 1, 1).unsqueeze(1)
        yield logits, visible


def _entropy(site: AttentionSite, attention: Tensor, visible: Tensor) -> Tensor:
    """Entropy of each query, NaN if its weights are not a distribution."""
    none = torch.full_like(attention[..., 0], torch.nan)
    if site.kind not in DISTRIBUTIONS:
        return none
    # A focused query without a score above zero has a row of zeros, which has no entropy.
    return torch.where(attention.sum(-1) == 0, none, entropy(attention, visible))


@torch.no_grad()
def site_spectrum(site: AttentionSite, weight: Callable[[str], Tensor]) -> Tensor:
    """Singular values of W_qᵀW_k per head of a layer, in descending order: (heads, head_dim).

    Args:
        site: the layer.
        weight: returns the weight with a name, such as `model.get_parameter`.
    """
    rows = [whole(weight(name)) for name in (site.w_q, site.w_k)]
    rows = [w.mT if site.transposed else w for w in rows]
    w_q = split_head_rows(_part(rows[0], site, 0, dim=0), site.heads)
    w_k = split_head_rows(_part(rows[1], site, 1, dim=0), site.heads)
    return qk_singular_values(w_q, w_k)


def _part(tensor: Tensor, site: AttentionSite, part: int, dim: int) -> Tensor:
    """The queries' (0) or keys' (1) part of a tensor, if `site` says that it holds both."""
    return tensor.chunk(site.fused, dim)[part] if site.fused > 1 else tensor


def _by_head(x: Tensor, heads: int) -> Tensor:
    if x.ndim >= 4:
        return x.flatten(0, -4)  # (batch, windows, …)
    return x.unflatten(-1, (heads, x.shape[-1] // heads)).transpose(1, 2)


def _watch(
    model: nn.Module, sites: list[AttentionSite], inputs: Tensor
) -> tuple[dict[str, Tensor], dict[str | None, Tensor | None]]:
    """Run the model in evaluation mode and collect outputs and masks of the sites' modules through hooks.

    Afterwards the hooks are removed, and every module is back in its own mode.
    """
    outputs: dict[str, Tensor] = {}
    masks: dict[str | None, Tensor | None] = {}

    def keep_output(name: str, module: nn.Module, args: object, output: Tensor) -> None:
        outputs[name] = output

    def keep_mask(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        masks[name] = args[1] if len(args) > 1 else kwargs.get("attention_mask")

    training = [module for module in model.modules() if module.training]
    handles = []
    try:
        for name in {n for s in sites for n in (s.queries, s.keys, s.bias) if n is not None}:
            handles.append(model.get_submodule(name).register_forward_hook(partial(keep_output, name)))
        for name in {s.mask for s in sites if s.mask is not None}:
            hook, module = partial(keep_mask, name), model.get_submodule(name)
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        model.eval()(inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
    return outputs, masks
