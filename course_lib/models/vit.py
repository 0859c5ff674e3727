"""A small Vision Transformer: patches, a class token, blocks, head."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib.deprecated import renamed
from course_lib.models.block import Transformer, equal_blocks
from course_lib.models.patches import RENAMED, ImageConfig, PatchEmbedding


@renamed(**RENAMED)
@dataclass(frozen=True, kw_only=True)
class ViTConfig(ImageConfig):
    """Sizes of a ViT. A patch is one token."""

    layers: int = 6


class ViT(Transformer):
    """Encoder of patches: images (batch, channels, image_size, image_size) → logits (batch, n_classes).

    A learned class token stands before the patches, and the head reads the class token's output (Dosovitskiy
    et al., arXiv 2010.11929). Positions are learned. Every token sees all tokens.
    """

    def __init__(self, config: ViTConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config)
        self.class_token = nn.Embedding(1, config.d_model)
        self.position_embedding = nn.Embedding(self.tokens[0], config.d_model)
        blocks = equal_blocks(config, config.layers, causal=False)
        head = nn.Linear(config.d_model, config.n_classes, bias=False)
        self.add_blocks(blocks, head, config.norm, generator)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Number of tokens in each block's attention: the class token and the patches, row by row."""
        return (self.config.side**2 + 1,) * self.config.layers

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embedding(images).flatten(1, 2)
        first = self.class_token.weight.expand(len(patches), 1, -1)
        x = torch.cat([first, patches], dim=1) + self.position_embedding.weight
        return self.head(self.read(x)[:, 0])
