"""The drawer of what goes on inside: layers over the steps, spectrum, one head's map, every matrix's step."""

import ipywidgets
import numpy as np
import torch

from course_lib.figures.palette import LAYER_COLORS
from course_lib.lab.drawers.drawer import Drawer
from course_lib.lab.session import Session
from course_lib.lab.view.bqplot_marks import (
    Array,
    LivePicture,
    figure_grid,
    lab_figure,
    name_ticks,
    picture_axes,
    set_line,
    unit_scales,
)
from course_lib.lab.view.chart import Chart
from course_lib.lab.view.controls import hint_html, menu, row
from course_lib.lab.view.maps import NOTHING_SEEN, head_picture, strip_picture
from course_lib.lab.view.ratios import StepSizes
from course_lib.lab.view.view import View
from course_lib.probes import SEC_DIRECTIONS, Observation, site_spectrum
from course_lib.runs import Run


class Strip:
    """A quantity as a picture: a row for each layer, a column for each probe."""

    def __init__(self, title: str) -> None:
        scales = unit_scales()
        self.x = scales["x"]
        self.axes = picture_axes(scales, "step", "layer")
        self.picture = LivePicture(scales, NOTHING_SEEN)
        self.figure = lab_figure(title, self.axes, [self.picture.mark])

    def reset(self, layers: int, steps: int) -> None:
        """Make it white, for a run of so many steps of a model of so many layers."""
        every = -(-layers // 8)
        name_ticks(self.axes[1], {1 - (i + 0.5) / layers: str(i + 1) for i in range(0, layers, every)})
        self.x.max = float(steps)
        self.picture.show(NOTHING_SEEN, x=np.array([0.0, self.x.max]))

    def draw(self, steps: Array, values: Array) -> None:
        """Show values (layers, n) from 0 to 1 at steps (n,)."""
        self.picture.show(strip_picture(values), x=np.array([0.0, float(max(steps[-1], 1))]))


class InsideDrawer(Drawer):
    """Five more panels of the current branch, drawn while the drawer is open."""

    title = "Look inside"
    tooltip = "Entropy and SEC by layer, the spectrum of W_qᵀW_k, one head's map, every matrix's step size"

    def __init__(self, session: Session, view: View) -> None:
        super().__init__(session, view)
        self._observation: Observation | None = None
        self._choice: tuple[int, int, int | None] | None = None
        self.layer = menu("layer", [1], "Of the spectrum and the map")
        self.head = menu("head", [1], "Of the map; thick in the spectrum")
        self.entropy = Strip("Entropy by layer (dark 0, light 1)")
        self.sec = Strip(f"SEC({SEC_DIRECTIONS}) by layer (dark 0, light 1)")
        self.spectrum = Chart("Spectrum of W_qᵀW_k", "singular value σᵢ", LAYER_COLORS, log=True)
        self.spectrum.x_axis.label = "i (grey: first kept moment)"
        self._make_map()
        self.ratios = StepSizes()
        self.text = ipywidgets.HTML()
        figures = [self.entropy.figure, self.sec.figure, self.spectrum.figure]
        figures += [self.map_figure, self.ratios.figure]
        self.widget = ipywidgets.VBox([row(self.layer, self.head), figure_grid(figures), self.text])
        for choice in (self.layer, self.head):
            self._changes.observe(choice, lambda _: view.show(self))

    def _make_map(self) -> None:
        scales = unit_scales()
        axes = picture_axes(scales, "key (left to right)", "query (top to bottom)")
        for axis in axes:
            axis.num_ticks = 0
        self.map = LivePicture(scales, NOTHING_SEEN)
        self.map_figure = lab_figure("Attention map", axes, [self.map.mark])

    def reset(self) -> None:
        """Another branch, maybe of another model."""
        self._choice = None
        run = self.session.run
        with self._changes.ignored():
            for choice, n in ((self.layer, len(run.sites)), (self.head, max(run.heads))):
                if list(choice.options) != list(range(1, n + 1)):
                    choice.options = list(range(1, n + 1))
        for strip in (self.entropy, self.sec):
            strip.reset(len(run.sites), run.config.steps)
        self.ratios.reset(run)
        self.spectrum.clear(self._first(run).shape[-1] + 1, 1e-3, 10.0)

    def draw(self) -> None:
        session, shown = self.session, self.session.shown
        # Without probes there is nothing new to see before the end.
        choice = (self.layer.value, self.head.value, None if session.busy else shown.updates)
        if shown.observation is self._observation and choice == self._choice:
            return
        self._observation, self._choice = shown.observation, choice
        curves = self.view.panels.curves(session.branches.current)
        for strip, quantity in ((self.entropy, "entropy"), (self.sec, "qk_sec")):
            steps, values = curves.layers(quantity)
            if len(steps):
                strip.draw(steps, values)
        self._draw_spectrum(shown)
        self._draw_map(shown)
        self.ratios.draw(shown)
        self.text.value = hint_html(self._describe(shown))

    def _first(self, run: Run) -> Array:
        """Spectrum (heads, n) of the chosen layer at the first kept moment."""
        site, timeline = run.sites[self.layer.value - 1], self.session.branches.current.timeline
        if timeline.steps:
            tensors = timeline.at(timeline.steps[0]).tensors
            return site_spectrum(site, lambda name: tensors[f"model.{name}"]).cpu().numpy()
        return site_spectrum(site, run.model.get_parameter).cpu().numpy()

    def _draw_spectrum(self, shown: Run) -> None:
        site = shown.sites[self.layer.value - 1]
        values = site_spectrum(site, shown.model.get_parameter).cpu().numpy()
        first = self._first(shown)
        at = np.arange(1.0, values.shape[-1] + 1)
        tiny = 1e-6 * np.fmax.reduce(values, axis=None)  # rounding, not size
        self.spectrum.draw(at, np.where(values > tiny, values, np.nan))
        set_line(self.spectrum.ghost, at, np.fmax.reduce(first, axis=0)[None])
        head = self._head(shown)
        self.spectrum.lines.opacities = [1.0 if i == head else 0.35 for i in range(len(values))]
        self.spectrum.figure.title = f"Spectrum of W_qᵀW_k, layer {self.layer.value}"

    def _head(self, run: Run) -> int:
        return min(self.head.value, run.heads[self.layer.value - 1]) - 1

    def _draw_map(self, shown: Run) -> None:
        if shown.observation is None:
            return
        head = self._head(shown)
        self.map.show(head_picture(shown.observation.maps[self.layer.value - 1][head]))
        self.map_figure.title = f"Map, layer {self.layer.value}, head {head + 1} (dark: more)"

    def _describe(self, shown: Run) -> str:
        """What the panels show, for those who cannot see them."""
        layer = self.layer.value
        values = site_spectrum(shown.sites[layer - 1], shown.model.get_parameter)[self._head(shown)]
        energy = values.square()
        sec = (energy[:SEC_DIRECTIONS].sum() / energy.sum()).item()
        text = f"Step {shown.updates}, layer {layer}, head {self._head(shown) + 1}: "
        text += f"σ₁ {values[0].item():.3g}, SEC({SEC_DIRECTIONS}) {sec:.2f}"
        if shown.observation is not None:
            weights = shown.observation.maps[layer - 1][self._head(shown)]
            favourite = weights.argmax(-1)
            text += f"; its queries favour {len(torch.unique(favourite))} of {weights.shape[-1]} keys"
        return f"{text}. {self.ratios.describe(shown)}"
