"""Parts of the lab's figures: marks, axes, pictures that change, and their layout.

The browser's work slows the training if both share the same cores. So a frame sends one message for each mark
that has changed, with arrays in binary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import bqplot
import ipywidgets
import numpy as np
import numpy.typing as npt

from course_lib.figures.palette import REFERENCE_COLOR

Array = npt.NDArray[Any]

CHART_HEIGHT = "244px"
SMALL = {"font-size": "10px"}
GRID_COLOR = "#E6E6E6"


def set_line(mark: bqplot.Lines, x: Array, y: Array) -> None:
    """Give a mark new points, or hide it if there are none."""
    if not y.size:  # browsers log errors for lines without points, but not for a line without length
        x, y = np.zeros(2), np.ones(2)
    if x.shape[-1] == 1:  # bqplot would read lines of one point each as the points of one line
        x, y = np.repeat(x, 2, axis=-1), np.repeat(y, 2, axis=-1)
    with mark.hold_sync():  # in one message
        mark.x, mark.y = x.astype(np.float32), y.astype(np.float32)


def set_labels(mark: bqplot.Label, x: Sequence[float], y: Sequence[float], text: Sequence[str]) -> None:
    """Give a mark new texts and their positions."""
    with mark.hold_sync():
        mark.x, mark.y = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
        mark.text = np.array(text, dtype=str)


def lines_mark(scales: dict[str, Any], colors: list[str], **style: Any) -> bqplot.Lines:
    """Lines, which are invisible until they get points."""
    return bqplot.Lines(x=np.zeros(2), y=np.ones(2), scales=scales, colors=colors, **style)


def labels_mark(scales: dict[str, Any], colors: list[str], **style: Any) -> bqplot.Label:
    """A mark for labels, without any at first."""
    style |= {"scales": scales, "colors": colors, "default_size": 10, "font_weight": "normal"}
    return bqplot.Label(x=[], y=[], text=[], **style)


def lab_figure(title: str, axes: list[bqplot.Axis], marks: list[bqplot.Mark]) -> bqplot.Figure:
    """A figure of the size that all figures of the lab have."""
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
    """Figures in rows of three, or fewer in a narrow window."""
    layout = ipywidgets.Layout(
        grid_template_columns="repeat(auto-fit, minmax(max(290px, 30%), 1fr))",
        grid_gap="8px 12px",
        width="100%",
        overflow="hidden",
    )
    return ipywidgets.GridBox(figures, layout=layout)


def set_decades(scale: bqplot.LogScale, axis: bqplot.Axis, low: float, high: float) -> None:
    """Let a scale and its axis show a range in whole decades, with at most seven ticks."""
    first, last = np.floor(np.log10(low)), np.ceil(np.log10(high))
    powers = np.arange(first, last + 1)
    axis.tick_values = 10.0 ** powers[:: 1 + (len(powers) - 1) // 6]
    scale.min, scale.max = float(10.0**first), float(10.0**last)


def name_ticks(axis: bqplot.Axis, names: Mapping[float, str]) -> None:
    """Give an axis ticks with names, which appear when its figure is displayed next."""
    axis.tick_values = np.array(list(names), dtype=np.float64)
    # bqplot looks names up by the numbers as JavaScript writes them.
    axis.tick_labels = {repr(float(at)).removesuffix(".0"): name for at, name in names.items()}


def chart_axes(x: bqplot.Scale, y: bqplot.Scale, x_label: str, y_label: str) -> list[bqplot.Axis]:
    """Axes of a chart. Only the y axis has grid lines."""
    below = {"label": x_label, "label_offset": "28px", "grid_lines": "none"}
    left = {"label": y_label, "label_offset": "38px", "side": "left", "grid_color": GRID_COLOR}
    return [bqplot.Axis(scale=s, tick_style=SMALL, **style) for s, style in ((x, below), (y, left))]


class LivePicture:
    """A figure with a picture that fills it; both axes run from 0 to 1 until they are changed.

    bqplot redraws only when it gets another image, so two images take turns. `empty` is the first PNG file.
    """

    def __init__(self, title: str, x_label: str, y_label: str, empty: bytes) -> None:
        scales = {axis: bqplot.LinearScale(min=0.0, max=1.0, allow_padding=False) for axis in "xy"}
        self.x, self.y = scales.values()
        self.x_axis, self.y_axis = chart_axes(self.x, self.y, x_label, y_label)
        self.y_axis.grid_lines, self.x_axis.num_ticks = "none", 4
        self._turns = [ipywidgets.Image(value=empty, format="png") for _ in range(2)]
        self.mark = bqplot.Image(image=self._turns[0], scales=scales)
        self.widgets = (self.mark, *self._turns)
        """All widgets that send messages. Widgets held in this order send in reverse. The mark must be last,
        since it shows the picture as it is when its message arrives."""
        self.figure = lab_figure(title, [self.x_axis, self.y_axis], [self.mark])

    def show(self, picture: bytes, end: float | None = None) -> None:
        """Show another PNG file, up to `end` of the x axis if that has changed."""
        self._turns.reverse()
        self._turns[0].value = picture
        with self.mark.hold_sync():  # in one message
            self.mark.image = self._turns[0]
            if end is not None:
                self.mark.x = np.array([0.0, end])


class DotChart:
    """A figure of two kinds of dots, each given by colour and marker, and a dashed level line."""

    def __init__(
        self, title: str, x_label: str, y_label: str, y: bqplot.Scale, *kinds: tuple[str, str], **style: Any
    ) -> None:
        self.x, self.y = bqplot.LinearScale(min=0.0, max=1.0), y
        style |= {"x": [], "y": [], "scales": {"x": self.x, "y": self.y}}
        self.kinds = [bqplot.Scatter(colors=[color], marker=marker, **style) for color, marker in kinds]
        self.level = lines_mark(style["scales"], [REFERENCE_COLOR], line_style="dashed", stroke_width=1)
        self.x_axis, self.y_axis = chart_axes(self.x, self.y, x_label, y_label)
        self.figure = lab_figure(title, [self.x_axis, self.y_axis], [self.level, *self.kinds])

    def draw(self, x: Array, y: Array, second: Array, level: float | None) -> None:
        """Draw dots (n,), those of the second kind where `second` is True, and the level if there is one."""
        for mark, some in zip(self.kinds, (~second, second), strict=True):
            with mark.hold_sync():  # in one message
                mark.x, mark.y = x[some], y[some]
        height = np.array([] if level is None else [level, level])
        set_line(self.level, np.array([0.0, self.x.max]), height)
