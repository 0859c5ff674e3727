"""Parts of the lab's figures: marks, axes, pictures that change, and their layout.

A frame sends as little as it can: one message for each mark that has something new, arrays in binary. The
browser's work slows the training where both share the same cores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import bqplot
import ipywidgets
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CHART_HEIGHT = "244px"
SMALL = {"font-size": "10px"}
GRID_COLOR = "#E6E6E6"
MAX_POINTS = 400
"""Largest number of points of a curve; more would not be visible."""


def clear_line(mark: bqplot.Lines, low: float) -> None:
    """Make a mark invisible: a line without length, as browsers log errors for one without points."""
    set_line(mark, np.zeros(2), np.full(2, low))


def set_line(mark: bqplot.Lines, x: Array, y: Array) -> None:
    """Give a mark new points."""
    if x.shape[-1] == 1:  # bqplot would take the lines of a single point for the points of a single line
        x, y = np.repeat(x, 2, axis=-1), np.repeat(y, 2, axis=-1)
    with mark.hold_sync():  # in one message
        mark.x, mark.y = x.astype(np.float32), y.astype(np.float32)


def set_labels(mark: bqplot.Label, x: Sequence[float], y: Sequence[float], text: Sequence[str]) -> None:
    """Give a mark new texts and their places."""
    with mark.hold_sync():
        mark.x, mark.y = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
        mark.text = np.array(text, dtype=str)


def lines_mark(scales: dict[str, Any], colors: list[str], **style: Any) -> bqplot.Lines:
    """Lines, invisible until they get points."""
    return bqplot.Lines(x=np.zeros(2), y=np.ones(2), scales=scales, colors=colors, **style)


def labels_mark(scales: dict[str, Any], colors: list[str], **style: Any) -> bqplot.Label:
    """Labels, none at first."""
    style |= {"scales": scales, "colors": colors, "default_size": 10, "font_weight": "normal"}
    return bqplot.Label(x=[], y=[], text=[], **style)


def lab_figure(title: str, axes: list[bqplot.Axis], marks: list[bqplot.Mark]) -> bqplot.Figure:
    """A figure as large as all others of the lab."""
    figure = bqplot.Figure(
        title=title,
        axes=axes,
        marks=marks,
        fig_margin={"top": 36, "bottom": 40, "left": 52, "right": 12},
        title_style={"font-size": "13px", "font-weight": "600"},
        padding_x=0.0,
        padding_y=0.0,
        display_toolbar=False,
        layout=cell_layout(),
    )
    figure.add_class("course-lab-chart")
    return figure


def cell_layout() -> ipywidgets.Layout:
    """The layout of a cell in the grid of panels."""
    return ipywidgets.Layout(height=CHART_HEIGHT, width="auto", min_width="0", overflow="hidden")


def round_values(low: float, high: float) -> Array:
    """Four to eight round numbers from `low` to `high`."""
    unit = 10.0 ** np.floor(np.log10(high - low))
    step = next(s for s in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0) if (high - low) / (s * unit) < 7) * unit
    return np.arange(np.ceil(low / step), np.floor(high / step + 1e-9) + 1) * step


def figure_grid(figures: Sequence[ipywidgets.Widget]) -> ipywidgets.GridBox:
    """Figures in rows of three, or fewer where there is no room for so many."""
    layout = ipywidgets.Layout(
        grid_template_columns="repeat(auto-fit, minmax(max(290px, 30%), 1fr))",
        grid_gap="8px 12px",
        width="100%",
        overflow="hidden",
    )
    return ipywidgets.GridBox(figures, layout=layout)


def thinned(n: int) -> npt.NDArray[np.int64]:
    """Indices of at most `MAX_POINTS` of n points, the last one among them."""
    every = -(-n // MAX_POINTS)
    return np.arange(n)[::-1][::every][::-1] if n else np.arange(0)


def round_decades(low: float, high: float) -> tuple[float, float]:
    """The powers of ten around a range."""
    return float(10.0 ** np.floor(np.log10(low))), float(10.0 ** np.ceil(np.log10(high)))


def decades(low: float, high: float) -> Array:
    """At most seven powers of ten from `low` to `high`, both powers of ten themselves."""
    powers = np.arange(round(np.log10(low)), round(np.log10(high)) + 1)
    return 10.0 ** powers[:: 1 + (len(powers) - 1) // 6]


def name_ticks(axis: bqplot.Axis, names: Mapping[float, str]) -> None:
    """Give an axis ticks with names; takes effect when its figure is displayed next."""
    axis.tick_values = np.array(list(names), dtype=np.float64)
    # As JavaScript writes the numbers.
    axis.tick_labels = {repr(float(at)).removesuffix(".0"): name for at, name in names.items()}


def chart_axes(x: bqplot.Scale, y: bqplot.Scale, x_label: str, y_label: str) -> list[bqplot.Axis]:
    """Axes of a chart, with lines across it from the y axis alone."""
    below = {"label": x_label, "label_offset": "28px", "grid_lines": "none"}
    left = {"label": y_label, "label_offset": "38px", "side": "left", "grid_color": GRID_COLOR}
    return [bqplot.Axis(scale=s, tick_style=SMALL, **style) for s, style in ((x, below), (y, left))]


def unit_scales() -> dict[str, bqplot.Scale]:
    """Linear scales from 0 to 1."""
    return {axis: bqplot.LinearScale(min=0.0, max=1.0) for axis in "xy"}


def picture_axes(scales: dict[str, bqplot.Scale], x_label: str, y_label: str) -> list[bqplot.Axis]:
    """Axes of a picture that fills its figure."""
    x, y = scales["x"], scales["y"]
    x.allow_padding = y.allow_padding = False
    style = {"grid_lines": "none", "tick_style": SMALL}
    return [
        bqplot.Axis(scale=x, label=x_label, num_ticks=4, label_offset="28px", **style),
        bqplot.Axis(scale=y, label=y_label, side="left", label_offset="38px", **style),
    ]


class LivePicture:
    """A picture in a figure. bqplot redraws when it is handed another one, so that two take turns.

    Args:
        scales: "x" and "y", from 0 to 1 where the picture fills the figure.
        empty: a PNG file to begin with.
    """

    def __init__(self, scales: dict[str, bqplot.Scale], empty: bytes) -> None:
        self._turns = [ipywidgets.Image(value=empty, format="png") for _ in range(2)]
        self.mark = bqplot.Image(image=self._turns[0], scales=scales)
        self.widgets = (self.mark, *self._turns)
        """All widgets that send messages. Held in this order they send in reverse: the mark last, as it shows
        the picture as it is at that moment."""

    def show(self, picture: bytes, **place: Any) -> None:
        """Show another PNG file; `place`: ends of the mark, `x` and `y`."""
        self._turns.reverse()
        self._turns[0].value = picture
        with self.mark.hold_sync():  # in one message
            self.mark.image = self._turns[0]
            for name, ends in place.items():
                setattr(self.mark, name, ends)
