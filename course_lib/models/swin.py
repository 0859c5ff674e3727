"""A small Swin Transformer: attention in windows, which every second block shifts.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
arXiv 2103.14030.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib import checks
from course_lib.deprecated import renamed
from course_lib.models.attention import Attention
from course_lib.models.block import Block, Transformer
from course_lib.models.patches import RENAMED, ImageConfig, PatchEmbedding


@renamed(**RENAMED)
@dataclass(frozen=True, kw_only=True)
class SwinConfig(ImageConfig):
    """Sizes of a Swin. Each further stage halves the map's side and doubles width and heads."""

    patch: int = 2
    d_model: int = 32
    heads: int = 2
    depths: tuple[int, ...] = (2, 4)
    """Number of blocks in each stage."""
    window: int | None = 7
    """Side of a window, in tokens; None if attention covers the whole map (Flatten-Swin)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_depths(self.depths)
        for i, side in enumerate(self.sides[:-1], 1):
            if side % 2:
                raise ValueError(
                    f"depths is {self.depths}: expected at most {i} stages, a map of {side} × {side} tokens "
                    f"has no half; try {self.depths[:i]}, or another patch"
                )
        if self.window is None:
            return
        window = checks.count("window", self.window)
        if any(side % window for side in self.sides):
            near = checks.nearest_divisor(math.gcd(*self.sides), window)
            raise ValueError(
                f"window is {window}: expected a divisor of the side of every stage's map, "
                f"{' and '.join(map(str, self.sides))} tokens; try {near}"
            )
        if self.attention == "focused":
            raise ValueError(
                "attention is 'focused': expected a kind with scores that the windows' position bias can be "
                "added to; try model='flatten-swin'"
            )

    @property
    def sides(self) -> tuple[int, ...]:
        """Side of each stage's map, in tokens."""
        return tuple(self.side >> stage for stage in range(len(self.depths)))

    def stages(self) -> Iterator[tuple[int, int, int, int, bool]]:
        """Yield (side of the map, position in the stage, width, heads, whether it merges) of every block."""
        for stage, depth in enumerate(self.depths):
            for i in range(depth):
                width, heads = self.d_model << stage, self.heads << stage
                yield self.sides[stage], i, width, heads, stage > 0 and i == 0


def check_depths(depths: tuple[int, ...]) -> tuple[int, ...]:
    """Return `depths` if it lists the number of blocks of at least one stage."""
    if not isinstance(depths, tuple | list) or not depths:
        raise ValueError(f"depths is {depths!r}: expected the blocks of each stage, such as (2, 4)")
    return tuple(checks.count(f"depths[{i}]", depth) for i, depth in enumerate(depths))


class PatchMerging(nn.Module):
    """Merges four neighbours into one token: (batch, H, W, d) → (batch, H/2, W/2, 2·d)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * d_model)
        self.reduction = nn.Linear(4 * d_model, 2 * d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        squares = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # batch, H/2, row, W/2, column, d
        return self.reduction(self.norm(squares.permute(0, 1, 3, 4, 2, 5).flatten(3)))


class StageBlock(Block):
    """A block on a map of tokens (batch, H, W, d_model).

    If it `merges`, as the first block of a later stage does, it first merges four tokens into one. The input
    is then (batch, 2·H, 2·W, d_model/2).
    """

    def __init__(self, d_model: int, attention: Attention, norm: str, *, merges: bool) -> None:
        super().__init__(d_model, attention, norm)
        self.merging = PatchMerging(d_model // 2) if merges else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.merging(x))


class WindowBlock(StageBlock):
    """Attention inside windows of `window` × `window` tokens, shifted by half of that if there is a `mask`.

    The map is rolled, so that a shifted window becomes a plain one. The roll also puts tokens of opposite
    borders side by side; the mask hides these from each other (see `shifted_mask`).
    """

    mask: Tensor | None

    def __init__(
        self, d_model: int, attention: Attention, norm: str, *, merges: bool, window: int, mask: Tensor | None
    ) -> None:
        super().__init__(d_model, attention, norm, merges=merges)
        self.window, self.shift = window, 0 if mask is None else window // 2
        self.register_buffer("mask", mask, persistent=False)

    def attend(self, x: Tensor) -> Tensor:
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        x = from_windows(self.attention(to_windows(x, self.window), self.mask), self.window, x.shape[1])
        return x.roll((self.shift, self.shift), (1, 2)) if self.shift else x


def to_windows(x: Tensor, window: int) -> Tensor:
    """(batch, H, W, …) → (batch, windows, window², …), windows and their tokens row by row."""
    tiles = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(x: Tensor, window: int, height: int) -> Tensor:
    """Undo `to_windows`: (batch, windows, window², …) → (batch, height, W, …)."""
    tiles = x.unflatten(2, (window, window)).unflatten(1, (height // window, -1))
    return tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shifted_mask(side: int, window: int, shift: int) -> Tensor:
    """Which keys a query of a rolled map may see: bool (windows, window², window²).

    After the roll, the last `shift` rows and columns are the image's first. They may not see the rest of
    their window, which comes from the opposite border.
    """
    wrapped = torch.arange(side) >= side - shift
    region = 2 * wrapped[:, None] + wrapped  # the part of the image, of four, that a token is from
    parts = to_windows(region[None, ..., None], window)[0, ..., 0]
    return parts[:, :, None] == parts[:, None, :]


class Swin(Transformer):
    """Encoder of windows: images (batch, channels, image_size, image_size) → logits (batch, n_classes).

    The head reads the mean over the last map's tokens. The windows' relative bias encodes positions.
    """

    def __init__(self, config: SwinConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config)
        self.embedding_norm = nn.LayerNorm(config.d_model)
        last = config.d_model << (len(config.depths) - 1)
        head = nn.Linear(last, config.n_classes, bias=False)
        self.add_blocks(self.make_blocks(), head, config.norm, generator)

    def make_blocks(self) -> Iterator[StageBlock]:
        """Yield the blocks of all stages in order."""
        c = self.config
        window = checks.count("window", c.window)
        for side, i, width, heads, merges in c.stages():
            # A window that covers the whole map is not shifted.
            mask = shifted_mask(side, window, window // 2) if i % 2 and side > window > 1 else None
            attention = Attention(
                width, heads, kind=c.attention, causal=False, qk_norm=c.qk_norm, window=window
            )
            yield WindowBlock(width, attention, c.norm, merges=merges, window=window, mask=mask)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Number of tokens in each block's attention."""
        return ((self.config.window or 0) ** 2,) * sum(self.config.depths)

    def embed(self, images: Tensor) -> Tensor:
        """Embed images as the first stage's tokens, (batch, side, side, d_model)."""
        return self.embedding_norm(self.patch_embedding(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.read(self.embed(images)).mean((1, 2)))
