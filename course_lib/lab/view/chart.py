"""One chart over the steps of a run; its axes stay put until a value leaves them."""

from collections.abc import Sequence
from typing import Any

import bqplot
import numpy as np

from course_lib.figures.palette import REFERENCE_COLOR
from course_lib.lab.view.bqplot_marks import (
    Array,
    chart_axes,
    clear_line,
    lab_figure,
    labels_mark,
    lines_mark,
    round_values,
    set_decades,
    set_labels,
    set_line,
)
from course_lib.lab.view.text import GHOST_COLOR, MARK_COLOR, OPTIMIZER_NAMES, number
from course_lib.runs import Change

SPIKE = 20
"""Longest duration of a spike, in steps."""
LATE = 0.7
"""Share of the steps after which the name of a change stands on its left."""
CURSOR_COLOR = "#949494"
"""Marks the moment that is looked at."""
SETTING_SYMBOLS = {"tau": "τ", "optimizer": "", "attention": ""}


class Chart:
    """One figure over the steps of a run: lines, level lines with their names, marks of changes."""

    def __init__(self, title: str, y_label: str, colors: Sequence[str], *, log: bool = False) -> None:
        self.log = log
        self.x = bqplot.LinearScale(min=0.0, max=1.0, allow_padding=False)
        self.y = bqplot.LogScale(min=0.1, max=1.0) if log else bqplot.LinearScale(min=0.0, max=1.0)
        self.y.allow_padding = False
        scales = {"x": self.x, "y": self.y}
        # Marks of changes run over the full height whatever the y axis shows.
        tall = {"x": self.x, "y": bqplot.LinearScale(min=0.0, max=1.0, allow_padding=False)}
        grey = [REFERENCE_COLOR]
        self.levels = lines_mark(scales, grey, line_style="dashed", stroke_width=1)
        self.level_names = labels_mark(scales, grey, x_offset=-3, align="end")
        self.changes = lines_mark(tall, [MARK_COLOR], line_style="dashed", stroke_width=1.5)
        # Late changes have no room for a name on their right.
        self.change_names, self.late_names = (
            labels_mark(tall, ["#8A5A2B"], x_offset=offset, y_offset=9, align=align)
            for offset, align in ((3, "start"), (-3, "end"))
        )
        self.cursor = lines_mark(tall, [CURSOR_COLOR], stroke_width=3, opacities=[0.5])
        self.ghost = lines_mark(scales, [GHOST_COLOR], stroke_width=1.2)
        self.lines = lines_mark(scales, list(colors), stroke_width=1.8)
        self.x_axis, self.y_axis = chart_axes(self.x, self.y, "step", y_label)
        self.x_axis.num_ticks, self.y_axis.num_ticks = 4, 5
        self.y_axis.tick_format = "~g"
        # Names stand above lines, with a rim (see `STYLE`).
        marks = [self.cursor, self.ghost, self.levels, self.changes, self.lines]
        marks += [self.level_names, self.change_names, self.late_names]
        self.figure = lab_figure(title, [self.x_axis, self.y_axis], marks)

    def clear(self, steps: int, low: float, high: float) -> None:
        """Empty the chart and set its axes."""
        self.x.max = float(steps)
        self._set_range(low, high)
        for mark in (self.lines, self.ghost, self.levels):
            clear_line(mark, low)
        for mark in (self.changes, self.cursor):
            clear_line(mark, 0.0)
        for label in (self.level_names, self.change_names, self.late_names):
            set_labels(label, [], [], [])

    def draw(self, steps: Array, values: Array) -> None:
        """Draw lines: steps (n,) or (lines, n), values (lines, n). The y axis grows for what does not fit.

        A linear axis does not grow for a spike of a few steps: the rest would become flat.
        """
        if self.log:  # no logarithm of zero
            values = np.where(values > 0, values, np.nan)
        finite = values[np.isfinite(values)]
        if self.log and len(finite):
            self._include(float(finite.min()), float(finite.max()))
        elif len(finite) > SPIKE:
            self._include(self.y.min, float(np.partition(finite, -SPIKE)[-SPIKE]))
        set_line(self.lines, steps, values)

    def draw_levels(self, levels: Sequence[tuple[str, float]]) -> None:
        """Draw horizontal lines, each with its name at its right end."""
        if levels:
            rows = np.array([[height, height] for _, height in levels])
            set_line(self.levels, np.array([0.0, float(self.x.max)]), rows)
        else:
            clear_line(self.levels, self.y.min)
        # The first name stands above its line, the others below theirs, out of the way of a loss that
        # ends between two lines.
        heights = [self._beside(h, 1 if i == 0 else -1) for i, (_, h) in enumerate(levels)]
        names = [name for name, _ in levels]
        set_labels(self.level_names, [float(self.x.max)] * len(levels), heights, names)

    def draw_changes(self, changes: Sequence[Change], *, named: bool) -> None:
        """Draw a vertical line where a setting was changed, with what it was set to if `named`."""
        if changes:
            x = np.array([[c.step, c.step] for c in changes], dtype=np.float64)
            set_line(self.changes, x, np.tile([0.0, 1.0], (len(changes), 1)))
        else:
            clear_line(self.changes, 0.0)
        if named:
            names = [
                f"{SETTING_SYMBOLS.get(c.setting, c.setting)} {_value(c.value)}".strip() for c in changes
            ]
            # One below the other, so that changes soon after each other stay legible.
            heights = [1.0 - 0.085 * (i % 5) for i in range(len(changes))]
            for label, late in ((self.change_names, False), (self.late_names, True)):
                some = [i for i, c in enumerate(changes) if (c.step > LATE * self.x.max) is late]
                steps = [changes[i].step for i in some]
                set_labels(label, steps, [heights[i] for i in some], [names[i] for i in some])

    def draw_cursor(self, step: int | None) -> None:
        """Mark the moment that is looked at; None: it is the present."""
        if step is None:
            clear_line(self.cursor, 0.0)
        else:
            set_line(self.cursor, np.full(2, float(step)), np.array([0.0, 1.0]))

    def _beside(self, height: float, side: int) -> float:
        """The height of a line's name, half a line of text above (side 1) or below (-1) it."""
        if self.log:
            return float(height * (self.y.max / self.y.min) ** (0.04 * side))
        return float(height + 0.042 * side * (self.y.max - self.y.min))

    def _include(self, low: float, high: float) -> None:
        if low < self.y.min or high > self.y.max + 1e-6:
            room = 1.0 if self.log else 1.1
            self._set_range(min(low, self.y.min), max(room * high, self.y.max))

    def _set_range(self, low: float, high: float) -> None:
        if self.log:
            set_decades(self.y, self.y_axis, low, high)
        else:
            self.y_axis.tick_values = round_values(low, high)
            self.y.min, self.y.max = float(low), float(high)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return OPTIMIZER_NAMES.get(value, value)
    return number(value) if value is None or isinstance(value, int | float) else "changed"
