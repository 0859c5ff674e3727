"""The charts of the lab, and how a run is drawn into them.

A frame sends as little as it can: one message for each chart that has something new, arrays in binary,
axes that stay put until a value leaves them. What it costs the browser comes off the training where both
share the same cores.
"""

import io
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import bqplot
import ipywidgets
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.image import imsave
from torch import Tensor

from course_lib.lab.words import number, verdict_html
from course_lib.models import DISTRIBUTIONS
from course_lib.plots.palette import LAYER_COLORS, REFERENCE_COLOR
from course_lib.training import Change, Record, Run, mean_over_heads
from course_lib.training.records import layer_of
from course_lib.training.verdict import LOW_ENTROPY

Array = npt.NDArray[Any]

MAX_POINTS = 400
"""Points that a curve keeps; more would not be seen."""
SPIKE = 20
"""Steps that a spike lasts at most."""
MARK_COLOR = "#CA9161"
GHOST_COLOR = "#B8B8B8"
"""Of the loss of the run before."""
TILE = 64
"""Pixels that an attention map takes at most in the picture of all maps."""
MAX_TILES = (8, 8)
"""Layers and heads that the picture of all maps has room for."""

CHART_HEIGHT = "244px"
SMALL = {"font-size": "10px"}
SETTING_SYMBOLS = {"lr": "lr", "warmup": "warmup", "tau": "τ"}


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
        self.levels = _lines(scales, grey, line_style="dashed", stroke_width=1)
        self.level_names = _labels(scales, grey, x_offset=-3, align="end")
        self.changes = _lines(tall, [MARK_COLOR], line_style="dashed", stroke_width=1.5)
        self.change_names = _labels(tall, ["#8A5A2B"], x_offset=3, y_offset=9)
        self.ghost = _lines(scales, [GHOST_COLOR], stroke_width=1.2)
        self.lines = _lines(scales, list(colors), stroke_width=1.8)
        self.x_axis = bqplot.Axis(
            scale=self.x,
            label="step",
            num_ticks=4,
            grid_lines="none",
            tick_style=SMALL,
            label_offset="28px",
        )
        self.y_axis = bqplot.Axis(
            scale=self.y,
            label=y_label,
            side="left",
            num_ticks=5,
            grid_color="#E6E6E6",
            tick_style=SMALL,
            label_offset="38px",
            tick_format="~g",
        )
        self.figure = _figure(
            title,
            [self.x_axis, self.y_axis],
            [
                self.ghost,
                self.levels,
                self.level_names,
                self.changes,
                self.change_names,
                self.lines,
            ],
        )

    def clear(self, steps: int, low: float, high: float) -> None:
        """Empty the chart and set its axes."""
        self.x.max = float(steps)
        self._set_range(low, high)
        for mark in (self.lines, self.ghost, self.levels):
            _clear_line(mark, low)
        _clear_line(self.changes, 0.0)
        for label in (self.level_names, self.change_names):
            _set_labels(label, [], [], [])

    def draw(self, steps: Array, values: Array) -> None:
        """Draw lines: steps (n,), values (lines, n). The y axis grows for what does not fit.

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
            _clear_line(self.levels, self.y.min)
        # The first name stands above its line, the others below theirs, out of the way of a loss that
        # ends between two lines.
        heights = [self._beside(h, 1 if i == 0 else -1) for i, (_, h) in enumerate(levels)]
        names = [name for name, _ in levels]
        _set_labels(self.level_names, [float(self.x.max)] * len(levels), heights, names)

    def draw_changes(self, changes: Sequence[Change], *, named: bool) -> None:
        """Draw a vertical line where a setting was changed, with what it was set to if `named`."""
        if not changes:
            return
        x = np.array([[c.step, c.step] for c in changes], dtype=np.float64)
        set_line(self.changes, x, np.tile([0.0, 1.0], (len(changes), 1)))
        if named:
            names = [f"{SETTING_SYMBOLS.get(c.setting, c.setting)} {_value(c.value)}" for c in changes]
            # One below the other, so that changes soon after each other stay legible.
            heights = [1.0 - 0.085 * (i % 5) for i in range(len(changes))]
            _set_labels(self.change_names, [c.step for c in changes], heights, names)

    def _beside(self, height: float, side: int) -> float:
        """Where a line's name stands, half a text above (side 1) or below (-1) the line."""
        if self.log:
            return float(height * (self.y.max / self.y.min) ** (0.04 * side))
        return float(height + 0.042 * side * (self.y.max - self.y.min))

    def _include(self, low: float, high: float) -> None:
        if low < self.y.min or high > self.y.max + 1e-6:
            room = 1.0 if self.log else 1.1
            self._set_range(min(low, self.y.min), max(room * high, self.y.max))

    def _set_range(self, low: float, high: float) -> None:
        if self.log:  # whole decades
            low, high = 10.0 ** np.floor(np.log10(low)), 10.0 ** np.ceil(np.log10(high))
            decades = np.arange(round(np.log10(low)), round(np.log10(high)) + 1)
            every = 1 + (len(decades) - 1) // 6
            self.y_axis.tick_values = 10.0 ** decades[::every]
        else:
            self.y_axis.tick_values = _round_values(low, high)
        self.y.min, self.y.max = float(low), float(high)


class Panels:
    """All charts, the attention maps and the verdict of a lab."""

    def __init__(self) -> None:
        self.loss = Chart("Loss on each step's batch", "loss (nats)", ["#333333"])
        self.entropy = Chart(
            "Attention entropy (1 uniform, 0 one-hot)", "entropy, mean over heads", LAYER_COLORS
        )
        self.sigma = Chart("Size of W_qᵀW_k", "σ₁, largest head", LAYER_COLORS, log=True)
        self.ratio = Chart("Step size beside its matrix", "σ₁ ratio ρ", LAYER_COLORS, log=True)
        self.legend = ipywidgets.HTML()
        self.verdict = ipywidgets.HTML(layout=_cell())
        self._make_maps()
        charts = (self.loss, self.entropy, self.sigma, self.ratio)
        self._changing = [*(c.lines for c in charts), *self._pictures, self.maps, self.verdict]
        self.widget = ipywidgets.VBox(
            [
                self.legend,
                ipywidgets.GridBox(
                    [
                        self.loss.figure,
                        self.entropy.figure,
                        self.maps_figure,
                        self.sigma.figure,
                        self.ratio.figure,
                        self.verdict,
                    ],
                    layout=ipywidgets.Layout(
                        grid_template_columns="repeat(auto-fit, minmax(290px, 1fr))",
                        grid_gap="8px 12px",
                        width="100%",
                        overflow="hidden",
                    ),
                ),
            ]
        )

    def _make_maps(self) -> None:
        scales = {
            "x": bqplot.LinearScale(min=0.0, max=1.0),
            "y": bqplot.LinearScale(min=0.0, max=1.0),
        }
        for scale in scales.values():
            scale.allow_padding = False
        # bqplot redraws a picture when it is handed another one, not when the one it has changes.
        empty = _png(np.ones((1, 1)))
        self._pictures = [ipywidgets.Image(value=empty, format="png") for _ in range(2)]
        self.map_axes = [
            bqplot.Axis(
                scale=scales["x"],
                label="key (left to right)",
                grid_lines="none",
                tick_style=SMALL,
                label_offset="28px",
            ),
            bqplot.Axis(
                scale=scales["y"],
                label="query (top to bottom)",
                side="left",
                grid_lines="none",
                tick_style=SMALL,
                label_offset="38px",
            ),
        ]
        self.maps = bqplot.Image(image=self._pictures[0], scales=scales)
        self.maps_figure = _figure("Attention maps (darker: more)", self.map_axes, [self.maps])

    def reset(self, run: Run, previous: Run | None) -> None:
        """Show a run that is new here; `previous` stays as a grey line behind its loss."""
        self._loss: list[float] = []
        self._seen = 0
        self._probes: list[Record] = []
        self._marked = -1
        self._tau: float | None = -1.0
        steps, layers = run.config.steps, len(run.sites)
        references = [(f"{line.name} {line.loss:.2f}", line.loss) for line in run.task.references]
        # A text of one letter has no loss to speak of; an axis needs a height.
        top = max(0.1, np.log(run.task.vocab), *(loss for _, loss in references))
        self.loss.clear(steps, 0.0, 1.12 * top)
        self.loss.draw_levels(references)
        if previous is not None and previous.records:
            curve = np.array([r.loss for r in previous.records])
            at = _thinned(len(curve))
            set_line(self.loss.ghost, np.array([r.step for r in previous.records])[at], curve[None, at])
        self.entropy.clear(steps, 0.0, 1.0)
        self.entropy.draw_levels([(f"low: below {LOW_ENTROPY}", LOW_ENTROPY)])
        distribution = run.config.attention in DISTRIBUTIONS
        self.entropy.figure.title = (
            "Attention entropy (1 uniform, 0 one-hot)"
            if distribution
            else f"No entropy: {run.config.attention} is no distribution"
        )
        self.sigma.clear(steps, 0.01, 1000.0)
        self.ratio.clear(steps, 0.001, 10.0)
        self._layers = [layer_of(name) for name in run.matrices]
        self._layer_count, self._ghost = layers, previous is not None
        self._draw_map_axes(run)
        self.draw(run, run.observe().maps)

    def draw(self, run: Run, maps: Sequence[Tensor] | None = None) -> None:
        """Draw what is new since the last frame; `maps` if not those of the last probe."""
        with ExitStack() as held:  # sent together, the messages of a frame are painted together
            for widget in self._changing:
                held.enter_context(widget.hold_sync())
            self._draw(run, maps)

    def draw_loss(self, run: Run) -> None:
        """Draw what is new in the loss, in a single message."""
        new = run.records[len(self._loss) :]
        self._loss += [record.loss for record in new]
        if new:
            at = _thinned(len(self._loss))
            self.loss.draw(at.astype(np.float64), np.array(self._loss)[None, at])

    def _draw(self, run: Run, maps: Sequence[Tensor] | None) -> None:
        self.draw_loss(run)
        records = run.records[: len(self._loss)]
        probes = [record for record in records[self._seen :] if record.probes]
        self._seen = len(records)
        self._probes += probes
        if probes:
            self._draw_probes()
            if maps is None and run.observation is not None:
                maps = run.observation.maps
        if maps is not None:
            self._pictures.reverse()
            self._pictures[0].value = map_picture(maps)
            self.maps.image = self._pictures[0]
        if probes or run.finished or not records:
            self.verdict.value = verdict_html(run.verdict() if records else None)
        self._draw_settings(run)

    def _draw_probes(self) -> None:
        steps = np.array([record.step for record in self._probes], dtype=np.float64)
        at = _thinned(len(steps))
        kept = [self._probes[i] for i in at]
        entropies = np.stack([mean_over_heads(r.probes["entropy"]) for r in kept], axis=1)
        self.entropy.draw(steps[at], entropies)
        sigmas = np.stack([np.fmax.reduce(r.probes["qk_sigma"], axis=-1) for r in kept], axis=1)
        self.sigma.draw(steps[at], sigmas)
        # The record after the last update has no step to measure.
        stepped = [record for record in kept if "sigma_ratio" in record.probes]
        if stepped:
            ratios = np.stack([self._by_layer(r.probes["sigma_ratio"]) for r in stepped], axis=1)
            self.ratio.draw(np.array([r.step for r in stepped], dtype=np.float64), ratios)

    def _by_layer(self, values: Array) -> Array:
        """The largest value among each block's matrices."""
        blocks = sorted({layer for layer in self._layers if layer is not None})
        of = np.array([-1 if layer is None else layer for layer in self._layers])
        return np.array([values[of == block].max() for block in blocks])

    def _draw_settings(self, run: Run) -> None:
        if len(run.changes) != self._marked:
            self._marked = len(run.changes)
            self.legend.value = _legend(self._layer_count, ghost=self._ghost, changes=bool(self._marked))
            for chart in (self.loss, self.entropy, self.sigma, self.ratio):
                chart.draw_changes(run.changes, named=chart is self.loss)
        if run.tau != self._tau:
            self._tau = run.tau
            self.ratio.draw_levels([] if run.tau is None else [(f"τ = {number(run.tau)}", run.tau)])

    def _draw_map_axes(self, run: Run) -> None:
        rows, columns = min(len(run.sites), MAX_TILES[0]), min(max(run.heads), MAX_TILES[1])
        ticks = (
            [((i + 0.5) / columns, f"head {i + 1}") for i in range(columns)],
            [(1 - (i + 0.5) / rows, f"{i + 1}") for i in range(rows)],
        )
        for axis, at in zip(self.map_axes, ticks, strict=True):
            axis.tick_values = np.array([value for value, _ in at])
            axis.tick_labels = {repr(float(value)): text for value, text in at}


def map_picture(maps: Sequence[Tensor]) -> bytes:
    """All attention maps as one PNG: a row of tiles for each layer, a tile for each head.

    Brightness goes with the square root of the weight, so that a uniform row of 1/64 can be seen. All tiles
    are as large as the largest map's; layers with fewer heads have empty tiles.
    """
    shown = [layer[: MAX_TILES[1]].detach().float() for layer in maps[: MAX_TILES[0]]]
    tokens = max(layer.shape[-1] for layer in shown)
    if tokens > TILE:  # the largest weight of each patch: a sharp map stays sharp
        shown = [F.max_pool2d(layer, -(-tokens // TILE), ceil_mode=True) for layer in shown]
    side, heads = (max(layer.shape[dim] for layer in shown) for dim in (-1, 0))
    shown = [F.interpolate(layer[None], size=(side, side))[0] for layer in shown]  # the nearest weight
    if all((layer.triu(1) == 0).all() for layer in shown):  # causal: leave out what cannot be seen
        hidden = torch.ones_like(shown[0][0], dtype=torch.bool).triu(1)
        shown = [layer.masked_fill(hidden, torch.nan) for layer in shown]
    framed = torch.stack(
        [F.pad(layer, (1, 1, 1, 1, 0, heads - len(layer)), value=torch.nan) for layer in shown]
    )
    picture = framed.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    return _png(picture.cpu().numpy())


def _png(values: Array) -> bytes:
    file = io.BytesIO()
    rgba = _MAP_COLORS(np.sqrt(np.clip(values, 0, 1)), bytes=True)
    imsave(file, rgba, format="png", pil_kwargs={"compress_level": 1})
    return file.getvalue()


_MAP_COLORS = colormaps["mako_r"].with_extremes(bad="#FFFFFF")


def _clear_line(mark: bqplot.Lines, low: float) -> None:
    """Nothing to be seen: a line without length (without points, browsers log errors)."""
    set_line(mark, np.zeros(2), np.full(2, low))


def set_line(mark: bqplot.Lines, x: Array, y: Array) -> None:
    """Give a mark new points."""
    if x.shape[-1] == 1:  # bqplot would take the lines of a single point for the points of a single line
        x, y = np.repeat(x, 2, axis=-1), np.repeat(y, 2, axis=-1)
    with mark.hold_sync():  # in one message
        mark.x, mark.y = x.astype(np.float32), y.astype(np.float32)


def _set_labels(mark: bqplot.Label, x: Sequence[float], y: Sequence[float], text: Sequence[str]) -> None:
    with mark.hold_sync():
        mark.x, mark.y = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
        mark.text = np.array(text, dtype=str)


def _lines(scales: dict[str, Any], colors: list[str], **style: Any) -> bqplot.Lines:
    return bqplot.Lines(x=np.zeros(2), y=np.ones(2), scales=scales, colors=colors, **style)


def _labels(scales: dict[str, Any], colors: list[str], **style: Any) -> bqplot.Label:
    return bqplot.Label(
        x=[],
        y=[],
        text=[],
        scales=scales,
        colors=colors,
        default_size=10,
        font_weight="normal",
        **style,
    )


def _figure(title: str, axes: list[bqplot.Axis], marks: list[bqplot.Mark]) -> bqplot.Figure:
    figure = bqplot.Figure(
        title=title,
        axes=axes,
        marks=marks,
        fig_margin={"top": 36, "bottom": 40, "left": 52, "right": 12},
        title_style={"font-size": "13px", "font-weight": "600"},
        padding_x=0.0,
        padding_y=0.0,
        display_toolbar=False,
        layout=_cell(),
    )
    figure.add_class("course-lab-chart")
    return figure


def _cell() -> ipywidgets.Layout:
    return ipywidgets.Layout(height=CHART_HEIGHT, width="auto", min_width="0", overflow="hidden")


def _thinned(n: int) -> npt.NDArray[np.int64]:
    """Indices of at most `MAX_POINTS` of n points, the last one among them."""
    every = -(-n // MAX_POINTS)
    return np.arange(n)[::-1][::every][::-1] if n else np.arange(0)


def _round_values(low: float, high: float) -> Array:
    """Four to eight round numbers from `low` to `high`."""
    unit = 10.0 ** np.floor(np.log10(high - low))
    step = next(s for s in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0) if (high - low) / (s * unit) < 7) * unit
    return np.arange(np.ceil(low / step), np.floor(high / step + 1e-9) + 1) * step


def _value(value: Any) -> str:
    return number(value) if value is None or isinstance(value, int | float) else "changed"


def _legend(layers: int, *, ghost: bool, changes: bool) -> str:
    items = [(LAYER_COLORS[i % len(LAYER_COLORS)], f"layer {i + 1}") for i in range(layers)]
    if changes:
        items.append((MARK_COLOR, "a setting was changed"))
    if ghost:
        items.append((GHOST_COLOR, "the run before"))
    swatches = "".join(f'<span><i style="background: {color}"></i>{name}</span>' for color, name in items)
    return f'<div class="course-lab-legend">{swatches}</div>'
