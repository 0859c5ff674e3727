"""A small Vision Transformer: patches, a class token, blocks, head."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib import checks
from course_lib.models.attention import ATTENTION_KINDS, Attention
from course_lib.models.block import NORM_PLACES, Block, init_weights
from course_lib.models.patches import PatchEmbedding, check_patch


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a ViT."""

    n_classes: int
    image_size: int = 28
    """Side of the images, in pixels."""
    channels: int = 1
    patch: int = 4
    """Side of a patch, in pixels; a patch is one token."""
    stem: str = "patch"
    """How patches become tokens: by one convolution ("patch") or several ("conv")."""
    d_model: int = 64
    heads: int = 4
    layers: int = 6
    norm: str = "pre"
    """LayerNorm before each branch ("pre") or after each sum ("post")."""
    attention: str = "softmax"
    """How scores become weights, one of `ATTENTION_KINDS`."""
    qk_norm: bool = False
    """LayerNorm on queries and keys."""

    def __post_init__(self) -> None:
        for name in ("n_classes", "image_size", "channels", "patch", "d_model", "heads", "layers"):
            checks.count(name, getattr(self, name))
        check_patch(self.image_size, self.patch, self.stem)
        checks.choice("norm", self.norm, NORM_PLACES)
        checks.choice("attention", self.attention, ATTENTION_KINDS)
        checks.flag("qk_norm", self.qk_norm)


class ViT(nn.Module):
    """Encoder of patches: images (batch, channels, image_size, image_size) → logits (batch, n_classes).

    A learned class token stands before the patches, and the head reads the class token's output (Dosovitskiy
    et al., arXiv 2010.11929). Positions are learned. Every token sees all tokens.
    """

    def __init__(self, config: ViTConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        d, size = config.d_model, config.image_size
        self.patch_embedding = PatchEmbedding(size, config.channels, config.patch, d, config.stem)
        self.class_token = nn.Embedding(1, d)
        self.position_embedding = nn.Embedding(self.tokens[0], d)
        self.blocks = nn.ModuleList(
            Block(
                d,
                Attention(d, config.heads, kind=config.attention, causal=False, qk_norm=config.qk_norm),
                config.norm,
            )
            for _ in range(config.layers)
        )
        self.final_norm = nn.LayerNorm(d) if config.norm == "pre" else nn.Identity()
        self.head = nn.Linear(d, config.n_classes, bias=False)
        init_weights(self, config.layers, generator)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Number of tokens in each block's attention: the class token and the patches, row by row."""
        return ((self.config.image_size // self.config.patch) ** 2 + 1,) * self.config.layers

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embedding(images).flatten(1, 2)
        first = self.class_token.weight.expand(len(patches), 1, -1)
        x = torch.cat([first, patches], dim=1) + self.position_embedding.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.final_norm(x)[:, 0])
