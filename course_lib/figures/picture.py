"""A figure that says what it shows, with a text for those who cannot see it."""

import base64
import io
import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from course_lib.figures.palette import REFERENCE_COLOR

Values = npt.NDArray[np.float64]

SMOOTHING = 9
"""A drawn training loss is a mean over this many steps."""
LIMIT = 60_000
"""Largest PNG file of a picture in bytes, since notebooks are committed with their pictures."""
_DOTS = 170  # per inch: sharp on a screen that doubles its pixels
_TRIES = ((170, 128), (170, 32), (120, 64), (100, 32), (70, 32), (40, 16))
"""Dots per inch and number of colours, tried in turn until the file is small enough."""
_PIXELS = 85  # of the page per inch of the figure


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure with its finding as title, and its alt text; a notebook shows both."""

    figure: Figure
    title: str
    alt: str

    def png(self) -> bytes:
        """The figure as a PNG file with a palette, as sharp as `LIMIT` bytes allow."""
        drawn_at, image = 0, None
        for dots, colors in _TRIES:
            if image is None or dots != drawn_at:
                drawn, drawn_at = io.BytesIO(), dots
                self.figure.savefig(drawn, format="png", dpi=dots)
                image = Image.open(drawn).convert("RGB")
            file = io.BytesIO()
            image.quantize(colors, dither=Image.Dither.NONE).save(file, format="PNG", optimize=True)
            if file.tell() <= LIMIT:
                break
        return file.getvalue()

    def html(self) -> str:
        """An <img> with alt text, the picture inside it."""
        data = base64.b64encode(self.png()).decode("ascii")
        width = round(self.figure.get_figwidth() * _PIXELS)
        return (
            f'<img alt="{escape(self.alt, quote=True)}" width="{width}" style="max-width: 100%" '
            f'src="data:image/png;base64,{data}">'
        )

    _repr_html_ = html

    def __repr__(self) -> str:
        return f"{self.title}\n{self.alt}"

    def save(self, path: str | Path) -> None:
        """Write the figure to a file; its ending names the format."""
        self.figure.savefig(path, dpi=_DOTS)


def panels(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Figure, Any]:
    """A figure (inches) with an array (rows, columns) of axes, labels kept from overlapping."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **grid)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def finish(figure: Figure, title: str, alt: str) -> Picture:
    """Set the finding above the figure, wrapped to its width, and return the picture."""
    title = title[0].upper() + title[1:]
    lines = textwrap.fill(title, width=round(figure.get_figwidth() * 9.5))
    figure.suptitle(lines, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return Picture(figure, title, alt)


def label(axis: Axes, x: str, y: str, title: str = "", color: str = "black", **others: Any) -> None:
    """Name both axes and the panel, and set other properties of the axes, such as limits."""
    axis.set(xlabel=x, ylabel=y, **others)
    if title:
        axis.set_title(title, fontsize=10, color=color)


def bare(axis: Axes, title: str = "", size: float = 10, color: str = "black") -> None:
    """Name an image, and leave out its ticks."""
    axis.set_xticks([])
    axis.set_yticks([])
    if title:
        axis.set_title(title, fontsize=size, color=color)


def listed(names: list[str]) -> str:
    """Names as in a sentence: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def legend(axis: Axes, loc: Any = "best", **style: Any) -> None:
    """Name the lines inside the axes."""
    axis.legend(frameon=False, fontsize=9, loc=loc, **style)


def legend_below(figure: Figure, columns: int, **style: Any) -> None:
    """Name the lines, once each, below all axes."""
    named: dict[str, Any] = {}
    for axis in figure.axes:
        for line, name in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(name, line)
    style |= {"loc": "outside lower center", "ncols": columns, "frameon": False, "fontsize": 9}
    figure.legend(list(named.values()), list(named), **style)


def reference_line(
    axis: Axes, height: float, name: str = "", *, dash: str = "--", inside: bool = False
) -> None:
    """Draw a grey line across the axes. Its name stands right of them, or inside below the line."""
    axis.axhline(height, color=REFERENCE_COLOR, linestyle=dash, linewidth=1)
    if not name:
        return
    place: dict[str, Any] = {"xytext": (4, 0), "va": "center", "annotation_clip": False}
    if inside:
        place = {"xytext": (-2, -2), "va": "top", "ha": "right"}
    place |= {"xycoords": axis.get_yaxis_transform(), "textcoords": "offset points"}
    axis.annotate(name, (1, height), color=REFERENCE_COLOR, fontsize=9, **place)


def smooth(values: Values, width: int = SMOOTHING) -> Values:
    """Running mean, shorter at both ends."""
    kernel = np.ones(min(width, len(values)))
    weight = np.convolve(np.ones_like(values), kernel, mode="same")
    return np.asarray(np.convolve(values, kernel, mode="same") / weight, dtype=np.float64)
