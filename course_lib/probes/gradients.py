"""Gradients of the loss with respect to attention's scores and to W_qᵀW_k."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib.models.attention import Attention, attention_weights, visible_keys


@dataclass(frozen=True)
class AttentionGradient:
    """The gradients of one attention layer, and its input."""

    attention: Attention
    tokens: Tensor
    """Attention's input after its LayerNorm, Xᵀ of each sequence: (batch, tokens, d_model)."""
    scores: Tensor
    """∂L/∂P for P = XᵀW_qᵀW_kX, without the factor 1/√head_dim: (batch, heads, queries, keys)."""

    @property
    def product(self) -> Tensor:
        """∂L/∂(W_qᵀW_k) = Σ X (∂L/∂P) Xᵀ, summed over the batch: (heads, d_model, d_model)."""
        return torch.einsum("bid,bhij,bje->hde", self.tokens, self.scores, self.tokens)


def attention_gradients(model: nn.Module, loss: Callable[[], Tensor]) -> list[AttentionGradient]:
    """The gradients of every `Attention` of a model, in order, at its present weights.

    The parameters' `.grad` stay as they are.

    Args:
        model: its `Attention` modules must compute scores P = XᵀW_qᵀW_kX: no windows, no QK-norm, and not of
            the kind "uniform" or "focused".
        loss: runs the model and returns a loss, 0-dim.

    Raises:
        ValueError: an attention has windows, QK-norm or one of these two kinds.
    """
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    for layer in layers:
        plain = layer.position_bias is None and isinstance(layer.q_norm, nn.Identity)
        if layer.kind in ("uniform", "focused") or not plain:
            what = f"of the kind {layer.kind!r}" if plain else "with windows or QK-norm"
            raise ValueError(
                f"model has attention {what}: expected scores that are XᵀW_qᵀW_kX and nothing else; "
                "try a GPT with attention='softmax' and qk_norm=False"
            )
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        inputs.append(args[0].detach())
        outputs.append(output)

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with torch.enable_grad():
            wanted = torch.autograd.grad(loss(), outputs)
    finally:
        for handle in handles:
            handle.remove()
    return [
        AttentionGradient(layer, x, _score_gradient(layer, x, above))
        for layer, x, above in zip(layers, inputs, wanted, strict=True)
    ]


def _score_gradient(layer: Attention, x: Tensor, above: Tensor) -> Tensor:
    """Repeat the layer in full, and return ∂L/∂P from `above`, the gradient of its output."""
    with torch.no_grad():
        q, k = layer.queries_and_keys(x)
        v = layer.split_heads(layer.w_v(x))
        scores = q @ k.mT
    scores.requires_grad_()
    visible = visible_keys(q.shape[-2], k.shape[-2], layer.causal, q.device)
    with torch.enable_grad():
        attention = attention_weights(scores / math.sqrt(layer.head_dim), visible, layer.kind)
        output = layer.w_o((attention @ v).transpose(-3, -2).flatten(-2))
        (gradient,) = torch.autograd.grad(output, scores, above)
    return gradient
