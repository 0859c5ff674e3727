"""The drawer that looks inside: layers against step, spectrum, one head's map, step size of each matrix."""

import ipywidgets
import numpy as np
import torch

from course_lib.figures.palette import LAYER_COLORS
from course_lib.lab.drawers.drawer import Drawer
from course_lib.lab.session import Session
from course_lib.lab.view.bqplot_marks import Array, LivePicture, figure_grid, name_ticks, set_line
from course_lib.lab.view.chart import Chart
from course_lib.lab.view.controls import hint_html, menu, row
from course_lib.lab.view.maps import NOTHING_SEEN, head_picture, strip_picture
from course_lib.lab.view.ratios import StepSizes
from course_lib.lab.view.view import View
from course_lib.probes import SEC_DIRECTIONS, Observation, site_spectrum
from course_lib.runs import Run


class Strip(LivePicture):
    """A quantity as a picture: a row for each layer, a column for each probe."""

    def __init__(self, title: str) -> None:
        super().__init__(title, "step", "layer", NOTHING_SEEN)

    def reset(self, layers: int, steps: int) -> None:
        """Make it white, for a run with another number of steps or layers."""
        every = -(-layers // 8)
        name_ticks(self.y_axis, {1 - (i + 0.5) / layers: str(i + 1) for i in range(0, layers, every)})
        self.x.max = float(steps)
        self.show(NOTHING_SEEN, self.x.max)


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
        self.map = LivePicture("Attention map", "key (left to right)", "query (top to bottom)", NOTHING_SEEN)
        self.map.x_axis.num_ticks = self.map.y_axis.num_ticks = 0
        self.ratios = StepSizes()
        self.text = ipywidgets.HTML()
        figures = [self.entropy.figure, self.sec.figure, self.spectrum.figure]
        figures += [self.map.figure, self.ratios.figure]
        self.widget = ipywidgets.VBox([row(self.layer, self.head), figure_grid(figures), self.text])
        for choice in (self.layer, self.head):
            self._changes.observe(choice, lambda _: view.show(self))

    def reset(self) -> None:
        """Prepare for another branch, which may have another model."""
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
        # Between two probes there is nothing new to see before the end of the run.
        choice = (self.layer.value, self.head.value, None if session.busy else shown.updates)
        if shown.observation is self._observation and choice == self._choice:
            return
        self._observation, self._choice = shown.observation, choice
        curves = self.view.panels.curves[session.branches.current]
        for strip, quantity in ((self.entropy, "entropy"), (self.sec, "qk_sec")):
            steps, values = curves.layers(quantity)
            if len(steps):
                strip.show(strip_picture(values), float(max(steps[-1], 1)))
        self.ratios.draw_step(shown)
        self._draw_head(shown)

    def _first(self, run: Run) -> Array:
        """Spectrum (heads, n) of the chosen layer at the first kept moment."""
        site, timeline = run.sites[self.layer.value - 1], self.session.branches.current.timeline
        if timeline.steps:
            tensors = timeline.at(timeline.steps[0]).tensors
            return site_spectrum(site, lambda name: tensors[f"model.{name}"]).cpu().numpy()
        return site_spectrum(site, run.model.get_parameter).cpu().numpy()

    def _draw_head(self, shown: Run) -> None:
        """Draw the chosen layer's spectrum and the chosen head's map, and say what all panels show."""
        layer, site = self.layer.value, shown.sites[self.layer.value - 1]
        head = min(self.head.value, site.heads) - 1
        values = site_spectrum(site, shown.model.get_parameter).cpu().numpy()
        at = np.arange(1.0, values.shape[-1] + 1)
        tiny = 1e-6 * np.fmax.reduce(values, axis=None)  # rounding, not size
        self.spectrum.draw(at, np.where(values > tiny, values, np.nan))
        set_line(self.spectrum.ghost, at, np.fmax.reduce(self._first(shown), axis=0)[None])
        self.spectrum.lines.opacities = [1.0 if i == head else 0.35 for i in range(len(values))]
        self.spectrum.figure.title = f"Spectrum of W_qᵀW_k, layer {layer}"
        energy = np.square(values[head])
        sec = energy[:SEC_DIRECTIONS].sum() / energy.sum()
        text = f"Step {shown.updates}, layer {layer}, head {head + 1}: "
        text += f"σ₁ {values[head, 0]:.3g}, SEC({SEC_DIRECTIONS}) {sec:.2f}"
        if shown.observation is not None:
            weights = shown.observation.maps[layer - 1][head]
            self.map.show(head_picture(weights))
            self.map.figure.title = f"Map, layer {layer}, head {head + 1} (dark: more)"
            favourites = len(torch.unique(weights.argmax(-1)))
            text += f"; its queries favour {favourites} of {weights.shape[-1]} keys"
        self.text.value = hint_html(f"{text}. {self.ratios.describe(shown)}")
