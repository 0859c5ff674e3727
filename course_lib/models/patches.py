"""Patch embedding: an image becomes a map of tokens."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import checks

STEMS = ("patch", "conv")


def check_patch(image_size: int, patch: int, stem: str) -> None:
    """Refuse a patch size (pixels) that does not divide the image or that the stem cannot make."""
    checks.choice("stem", stem, STEMS)
    if image_size % checks.count("patch", patch):
        near = checks.nearest_divisor(image_size, patch)
        raise ValueError(
            f"patch is {patch}: expected a divisor of the image's side ({image_size}); try {near}"
        )
    if stem == "conv" and (patch < 2 or patch & (patch - 1)):
        raise ValueError(
            f"patch is {patch}: expected a power of two for the stem 'conv', which halves the image "
            "repeatedly; try 4, or stem='patch'"
        )


class PatchEmbedding(nn.Module):
    """One token for each square of `patch` × `patch` pixels.

    The stem "patch" is one convolution with a kernel of the patch's size. The stem "conv" halves the image by
    3 × 3 convolutions, each with a norm and a GELU, until each patch is one pixel (Xiao et al., "Early
    convolutions help transformers see better", arXiv 2106.14881). We replace their BatchNorm by a GroupNorm
    of one group, so that an image's tokens depend on that image alone.

    Shapes: images (batch, channels, image_size, image_size) → (batch, side, side, d_model), where side is
    image_size / patch.
    """

    def __init__(self, image_size: int, channels: int, patch: int, d_model: int, stem: str = "patch") -> None:
        super().__init__()
        check_patch(image_size, patch, stem)
        self.expected = (channels, image_size, image_size)
        halvings = patch.bit_length() - 1 if stem == "conv" else 0
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
