"""Find a model's attention: in our models, in those of `transformers`, or as described by hand."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from course_lib.models.attention import Attention


@dataclass(frozen=True)
class AttentionSite:
    """One attention layer of a model, described by the names of its parts.

    The names of the q and k projections suffice, so it also describes models that are not ours.
    """

    queries: str
    """Module that returns the queries: (batch, tokens, d_model) or (batch, heads, tokens, head_dim). Windows
    may follow the batch dimension."""
    keys: str
    w_q: str
    """Parameter W_q, (d_model, d_model), one row per query component."""
    w_k: str
    heads: int
    kind: str = "softmax"
    causal: bool = True
    fused: int = 1
    """Number of projections in one module, queries first and keys second: 3 if it computes q, k and v.
    `queries` and `keys` then both name this module."""
    transposed: bool = False
    """Whether weights have one *column* per component, as in GPT-2's Conv1D."""
    bias: str | None = None
    """Module whose output is added to the scores: (heads, queries, keys), or with 1 or batch in front."""
    mask: str | None = None
    """Module that is called with a mask (windows, queries, keys) or None, as its second argument or as
    `attention_mask`. A bool mask is true for visible keys. A number is added to the scores: 0 for visible
    keys, negative for hidden ones."""


def attention_sites(model: nn.Module) -> list[AttentionSite]:
    """The attention layers of a model, in its order.

    It recognises the course's models and GPT-2, ViT and Swin of `transformers` 5.10 or later, alone or inside
    a larger model.

    Raises:
        ValueError: no attention is recognised, or one scales its scores by another factor than 1/√head_dim.
    """
    sites = []
    for name, module in model.named_modules():
        describe = _KNOWN.get(type(module).__name__)
        if isinstance(module, Attention):
            sites.append(_ours(name, module))
        elif describe is not None and not getattr(module, "is_cross_attention", False):
            sites.append(describe(name, module))
    if not sites:
        raise ValueError(
            f"{type(model).__name__} has no attention that is known here: expected one of ours or a GPT-2, "
            "ViT or Swin of transformers; describe each layer by hand, as "
            "AttentionSite('layers.0.q', 'layers.0.k', 'layers.0.q.weight', 'layers.0.k.weight', heads=4)"
        )
    return sites


def _ours(name: str, module: Attention) -> AttentionSite:
    q, k, w_q, w_k = (f"{name}.{part}" for part in ("q_norm", "k_norm", "w_q.weight", "w_k.weight"))
    bias = None if module.position_bias is None else f"{name}.position_bias"
    return AttentionSite(q, k, w_q, w_k, module.heads, module.kind, module.causal, bias=bias, mask=name)


def _gpt2(name: str, module: Any) -> AttentionSite:
    _check_scale(name, module)
    qkv = f"{name}.c_attn"
    weight = f"{qkv}.weight"
    return AttentionSite(qkv, qkv, weight, weight, module.num_heads, fused=3, transposed=True)


def _vit(name: str, module: Any) -> AttentionSite:
    if not hasattr(module, "q_proj"):
        raise ValueError(
            f"{name} ({type(module).__name__}) has no q_proj: expected transformers 5.10 or later; "
            "upgrade it, or describe the layer by hand as an AttentionSite"
        )
    _check_scale(name, module)
    q, k = f"{name}.q_proj", f"{name}.k_proj"
    return AttentionSite(q, k, f"{q}.weight", f"{k}.weight", module.num_attention_heads, causal=False)


def _swin(name: str, module: Any) -> AttentionSite:
    return replace(_vit(name, module), bias=f"{name}.relative_position_bias", mask=name)


def _check_scale(name: str, module: Any) -> None:
    if not math.isclose(module.scaling, module.head_dim**-0.5):
        raise ValueError(
            f"{name} scales its scores by {module.scaling:.3g}: expected 1/√head_dim = "
            f"{module.head_dim**-0.5:.3g}; try scale_attn_weights=True, "
            "scale_attn_by_inverse_layer_idx=False in the model's config"
        )


# The keys are names of classes: course_lib does not import transformers.
_KNOWN: dict[str, Callable[[str, Any], AttentionSite]] = {
    "GPT2Attention": _gpt2,
    "ViTAttention": _vit,
    "SwinAttention": _swin,
}
