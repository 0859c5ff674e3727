"""One chart over the steps of a run. Its axes change only when a value leaves their range."""

from collections.abc import Sequence
from typing import Any

import bqplot
import numpy as np

from course_lib.figures.palette import REFERENCE_COLOR
from course_lib.lab.view import bqplot_marks as marks
from course_lib.lab.view.bqplot_marks import Array, set_line
from course_lib.lab.view.text import GHOST_COLOR, MARK_COLOR, OPTIMIZER_NAMES, number
from course_lib.runs import Change

SPIKE = 20
"""Longest duration of a spike, in steps."""
LATE = 0.7
"""Share of the steps after which the name of a change stands on the left of its line."""
CURSOR_COLOR = "#949494"
"""Colour of the line at the past moment that is looked at."""
SETTING_SYMBOLS = {"tau": "τ", "optimizer": "", "attention": ""}


class Chart:
    """One figure over the steps of a run: lines, level lines with their names, marks of changes."""

    def __init__(self, title: str, y_label: str, colors: Sequence[str], *, log: bool = False) -> None:
        self.log = log
        self.x = bqplot.LinearScale(min=0.0, max=1.0, allow_padding=False)
        self.y = bqplot.LogScale(min=0.1, max=1.0) if log else bqplot.LinearScale(min=0.0, max=1.0)
        self.y.allow_padding = False
        scales = {"x": self.x, "y": self.y}
        # Marks of changes have the full height, whatever range the y axis shows.
        tall = {"x": self.x, "y": bqplot.LinearScale(min=0.0, max=1.0, allow_padding=False)}
        grey = [REFERENCE_COLOR]
        self.levels = marks.lines_mark(scales, grey, line_style="dashed", stroke_width=1)
        self.level_names = marks.labels_mark(scales, grey, x_offset=-3, align="end")
        self.changes = marks.lines_mark(tall, [MARK_COLOR], line_style="dashed", stroke_width=1.5)
        # Late changes have no room for a name on their right.
        self.change_names, self.late_names = (
            marks.labels_mark(tall, ["#8A5A2B"], x_offset=offset, y_offset=9, align=align)
            for offset, align in ((3, "start"), (-3, "end"))
        )
        self.cursor = marks.lines_mark(tall, [CURSOR_COLOR], stroke_width=3, opacities=[0.5])
        self.ghost = marks.lines_mark(scales, [GHOST_COLOR], stroke_width=1.2)
        self.lines = marks.lines_mark(scales, list(colors), stroke_width=1.8)
        self.x_axis, self.y_axis = marks.chart_axes(self.x, self.y, "step", y_label)
        self.x_axis.num_ticks, self.y_axis.num_ticks = 4, 5
        self.y_axis.tick_format = "~g"
        # Names stand above lines, with a rim (see `STYLE`).
        drawn = [self.cursor, self.ghost, self.levels, self.changes, self.lines]
        drawn += [self.level_names, self.change_names, self.late_names]
        self.figure = marks.lab_figure(title, [self.x_axis, self.y_axis], drawn)

    def clear(self, steps: int, low: float, high: float) -> None:
        """Empty the chart and set its axes."""
        self.x.max = float(steps)
        self._set_range(low, high)
        for mark in (self.lines, self.ghost, self.levels, self.changes, self.cursor):
            set_line(mark, np.empty(0), np.empty(0))
        for label in (self.level_names, self.change_names, self.late_names):
            marks.set_labels(label, [], [], [])

    def draw(self, steps: Array, values: Array) -> None:
        """Draw lines: steps (n,) or (lines, n), values (lines, n). The y axis grows to show all values.

        A linear axis does not grow for a spike of a few steps, which would make the rest of the line flat.
        """
        if self.log:  # zero has no logarithm
            values = np.where(values > 0, values, np.nan)
        finite = values[np.isfinite(values)]
        if self.log and len(finite):
            self._include(float(finite.min()), float(finite.max()))
        elif len(finite) > SPIKE:
            self._include(self.y.min, float(np.partition(finite, -SPIKE)[-SPIKE]))
        set_line(self.lines, steps, values)

    def draw_levels(self, levels: Sequence[tuple[str, float]]) -> None:
        """Draw horizontal lines, each with its name at its right end."""
        rows = np.array([[height, height] for _, height in levels])
        set_line(self.levels, np.array([0.0, float(self.x.max)]), rows)
        # The first name stands above its line, the others below theirs. A loss that ends between two lines
        # does not cross them.
        heights = [self._beside(h, 1 if i == 0 else -1) for i, (_, h) in enumerate(levels)]
        names = [name for name, _ in levels]
        marks.set_labels(self.level_names, [float(self.x.max)] * len(levels), heights, names)

    def draw_changes(self, changes: Sequence[Change], *, named: bool) -> None:
        """Draw a vertical line where a setting was changed, if `named` with its new value."""
        x = np.array([[c.step, c.step] for c in changes], dtype=np.float64)
        set_line(self.changes, x, np.tile([0.0, 1.0], (len(changes), 1)))
        if named:
            names = [
                f"{SETTING_SYMBOLS.get(c.setting, c.setting)} {_value(c.value)}".strip() for c in changes
            ]
            # Names stand at different heights, so that those of neighbouring changes do not overlap.
            heights = [1.0 - 0.085 * (i % 5) for i in range(len(changes))]
            for label, late in ((self.change_names, False), (self.late_names, True)):
                some = [i for i, c in enumerate(changes) if (c.step > LATE * self.x.max) is late]
                steps = [changes[i].step for i in some]
                marks.set_labels(label, steps, [heights[i] for i in some], [names[i] for i in some])

    def draw_cursor(self, step: int | None) -> None:
        """Mark the past moment that is looked at, None for the present."""
        x = np.array([] if step is None else [step, step], dtype=np.float64)
        set_line(self.cursor, x, np.array([0.0, 1.0])[: len(x)])

    def _beside(self, height: float, side: int) -> float:
        """Height of the name of a line: half a line of text above (side 1) or below (-1) the line."""
        if self.log:
            return float(height * (self.y.max / self.y.min) ** (0.04 * side))
        return float(height + 0.042 * side * (self.y.max - self.y.min))

    def _include(self, low: float, high: float) -> None:
        if low < self.y.min or high > self.y.max + 1e-6:
            room = 1.0 if self.log else 1.1
            self._set_range(min(low, self.y.min), max(room * high, self.y.max))

    def _set_range(self, low: float, high: float) -> None:
        if self.log:
            marks.set_decades(self.y, self.y_axis, low, high)
        else:
            self.y_axis.tick_values = marks.round_values(low, high)
            self.y.min, self.y.max = float(low), float(high)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return OPTIMIZER_NAMES.get(value, value)
    return number(value) if value is None or isinstance(value, int | float) else "changed"
