"""Flatten-Swin: Swin's stages with focused linear attention in place of softmax in windows.

Source: Han et al., "FLatten Transformer: Vision Transformer using Focused Linear Attention",
arXiv 2308.00442: φ(Q)(φ(K)ᵀV), with φ as in `course_lib.models.attention.focus`, plus a depthwise convolution
of V, which restores the rank that a product of two thin factors lacks.

Three choices are ours. All blocks use focused attention, so that the model has no softmax. A window covers
the whole map, which the linear cost allows, so nothing is shifted or masked. Learned positions are added to
the tokens, because there are no scores to add a relative bias to.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from course_lib.models.attention import Attention
from course_lib.models.block import STD
from course_lib.models.swin import StageBlock, Swin, SwinConfig

KERNEL = 5
"""Side of the depthwise convolution's kernel, in tokens."""


class FocusedAttention(Attention):
    """Focused linear attention over a map of `side` × `side` tokens, plus a depthwise convolution of V."""

    def __init__(self, d_model: int, heads: int, *, side: int, kind: str, qk_norm: bool) -> None:
        super().__init__(d_model, heads, kind=kind, causal=False, qk_norm=qk_norm)
        self.side = side
        self.depthwise = nn.Conv2d(d_model, d_model, KERNEL, padding=KERNEL // 2, groups=d_model, bias=False)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        channels = v.transpose(-2, -1).flatten(1, 2)  # (batch, d_model, tokens)
        near = self.depthwise(channels.unflatten(2, (self.side, self.side))).flatten(2)
        return super().mix(q, k, v, mask) + near.view_as(v.transpose(-2, -1)).transpose(-2, -1)


class MapBlock(StageBlock):
    """A block whose attention covers the whole map."""

    def attend(self, x: Tensor) -> Tensor:
        return self.attention(x.flatten(1, 2)).view_as(x)


class FlattenSwin(Swin):
    """Encoder by linear attention: images (batch, channels, image, image) → logits (batch, classes).

    Args:
        config: Swin's sizes with `window=None`. `attention` is usually "focused"; other kinds work too, for
            comparison.
        generator: random generator of the initial weights.
    """

    def __init__(self, config: SwinConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator)
        self.position_embedding = nn.Embedding(config.sides[0] ** 2, config.d_model)
        nn.init.normal_(self.position_embedding.weight, std=STD, generator=generator)

    def make_blocks(self) -> Iterator[StageBlock]:
        c = self.config
        for side, _, width, heads, merges in c.stages():
            attention = FocusedAttention(width, heads, side=side, kind=c.attention, qk_norm=c.qk_norm)
            yield MapBlock(width, attention, c.norm, merges=merges)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Number of tokens in each block's attention."""
        return tuple(side**2 for side, *_ in self.config.stages())

    def embed(self, images: Tensor) -> Tensor:
        x = super().embed(images)
        return x + self.position_embedding.weight.view(x.shape[1:])
