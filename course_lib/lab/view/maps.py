"""Attention maps as a picture."""

import io
import zlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from seaborn import color_palette
from torch import Tensor

from course_lib.lab.view.bqplot_marks import Array

TILE = 64
"""Largest side of a map in the picture of all maps, in pixels."""
MAX_TILES = (8, 8)
"""Largest numbers of layers and heads in the picture of all maps."""


def map_picture(maps: Sequence[Tensor]) -> bytes:
    """All attention maps as one PNG: a row of tiles for each layer, a tile for each head.

    Darkness is the square root of the weight, so that a uniform row of 1/64 can be seen. All tiles have the
    size of the largest map, and layers with fewer heads have empty tiles.
    """
    shown = [layer[: MAX_TILES[1]].detach().float() for layer in maps[: MAX_TILES[0]]]
    tokens = max(layer.shape[-1] for layer in shown)
    if tokens > TILE:  # the largest weight of each patch: a sharp map stays sharp
        shown = [F.max_pool2d(layer, -(-tokens // TILE), ceil_mode=True) for layer in shown]
    side, heads = (max(layer.shape[dim] for layer in shown) for dim in (-1, 0))
    if any(layer.shape[-1] < side for layer in shown):
        shown = [F.interpolate(layer[None], size=(side, side))[0] for layer in shown]  # the nearest weight
    if all((layer.triu(1) == 0).all() for layer in shown):  # causal: hidden keys are white
        hidden = torch.ones_like(shown[0][0], dtype=torch.bool).triu(1)
        shown = [layer.masked_fill(hidden, torch.nan) for layer in shown]
    framed = torch.stack(
        [F.pad(layer, (1, 1, 1, 1, 0, heads - len(layer)), value=torch.nan) for layer in shown]
    )
    picture = framed.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    return png(picture.cpu().numpy())


def head_picture(weights: Tensor) -> bytes:
    """One head's map (queries, keys) as a PNG that stays sharp when it is enlarged."""
    shown = weights.detach().float()
    if (shown.triu(1) == 0).all():  # causal: hidden keys are white
        shown = shown.masked_fill(torch.ones_like(shown, dtype=torch.bool).triu(1), torch.nan)
    return png(_enlarged(shown.cpu().numpy(), 256))


def strip_picture(values: Array) -> bytes:
    """Values from 0 to 1, (layers, steps), as a PNG: dark is 0, light is 1, white is none."""
    return _png(_enlarged(values, 400), _STRIP_COLORS)


def _enlarged(values: Array, side: int) -> Array:
    """Every value as a block of pixels, which a browser's smoothing does not blur."""
    rows, columns = (max(1, side // n) for n in values.shape)
    return values.repeat(rows, axis=0).repeat(columns, axis=1)


def png(values: Array) -> bytes:
    """A PNG file of values from 0 to 1, (rows, columns); NaN is white."""
    return _png(np.sqrt(np.clip(values, 0, 1)), _MAP_COLORS)


def _png(values: Array, colors: bytes) -> bytes:
    """Values from 0 to 1 as a PNG of one byte a pixel. Four bytes would take most of a frame's time."""
    numbers = np.where(np.isnan(values), NONE, np.rint(np.clip(values, 0, 1) * (NONE - 1)))
    picture = Image.fromarray(numbers.astype(np.uint8))
    picture.putpalette(colors)
    file = io.BytesIO()
    picture.save(
        file, format="PNG", compress_level=1, compress_type=zlib.Z_RLE
    )  # by default half of a frame's time
    return file.getvalue()


NONE = 255
"""Number of the colour for NaN. The colours before it stand for 0 to 1."""


def _palette(name: str) -> bytes:
    """Red, green and blue of each colour."""
    rgba = color_palette(name, as_cmap=True)(np.linspace(0, 1, NONE), bytes=True)
    return bytes(rgba[:, :3].tobytes()) + b"\xff\xff\xff"


_STRIP_COLORS, _MAP_COLORS = _palette("mako"), _palette("mako_r")

NOTHING_SEEN = png(np.full((1, 1), np.nan))
"""A white picture."""
