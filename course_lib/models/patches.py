"""Patch embedding: an image becomes a map of tokens."""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import checks
from course_lib.models.block import ModelConfig

STEMS = ("patch", "conv")
RENAMED = {"image": "image_size", "classes": "n_classes"}
"""Fields of a config whose old names are still accepted: old name → new name."""


@dataclass(frozen=True)
class ImageConfig(ModelConfig):
    """Sizes of a model of images, refused if patches do not fill the image or the stem cannot make them."""

    n_classes: int
    image_size: int = 28
    """Side of the images, in pixels."""
    channels: int = 1
    patch: int = 4
    """Side of a patch, in pixels."""
    stem: str = "patch"
    """How patches become tokens: by one convolution ("patch") or several ("conv")."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("stem", self.stem, STEMS)
        if self.image_size % self.patch:
            near = checks.nearest_divisor(self.image_size, self.patch)
            raise ValueError(
                f"patch is {self.patch}: expected a divisor of the image's side ({self.image_size}); "
                f"try {near}"
            )
        if self.stem == "conv" and (self.patch < 2 or self.patch & (self.patch - 1)):
            raise ValueError(
                f"patch is {self.patch}: expected a power of two for the stem 'conv', which halves the image "
                "repeatedly; try 4, or stem='patch'"
            )

    @property
    def side(self) -> int:
        """Side of the map of patches, in patches."""
        return self.image_size // self.patch


class PatchEmbedding(nn.Module):
    """One token for each square of `patch` × `patch` pixels.

    The stem "patch" is one convolution with a kernel of the patch's size. The stem "conv" halves the image by
    3 × 3 convolutions, each with a norm and a GELU, until each patch is one pixel (Xiao et al., "Early
    convolutions help transformers see better", arXiv 2106.14881). We replace their BatchNorm by a GroupNorm
    of one group, so that an image's tokens depend on that image alone.

    Shapes: images (batch, channels, image_size, image_size) → (batch, side, side, d_model).
    """

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        channels, patch, d_model = config.channels, config.patch, config.d_model
        self.expected = (channels, config.image_size, config.image_size)
        halvings = patch.bit_length() - 1 if config.stem == "conv" else 0
        # Each halving leaves a quarter of the pixels, so the width doubles.
        widths = [channels, *(max(1, d_model >> (halvings - i)) for i in range(1, halvings + 1))]
        self.convs = nn.ModuleList(
            nn.Conv2d(inside, out, 3, stride=2, padding=1, bias=False) for inside, out in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in widths[1:])
        size = 1 if halvings else patch
        self.project = nn.Conv2d(widths[-1], d_model, size, stride=size, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        if tuple(images.shape[1:]) != self.expected:
            channels, side, _ = self.expected
            raise ValueError(
                f"images have shape {tuple(images.shape)}: expected (batch, {channels}, {side}, {side}); "
                "resize them, or make a model for images of that size"
            )
        if not images.is_floating_point():
            raise ValueError(
                f"images have dtype {images.dtype}: expected floating point; try images.float() / 255"
            )
        if images.dtype == torch.float64 and self.project.weight.dtype == torch.float32:  # numpy's default
            raise ValueError(
                "images have dtype torch.float64: expected torch.float32, as the weights; try images.float()"
            )
        x = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.gelu(norm(conv(x)))
        return self.project(x).permute(0, 2, 3, 1)
