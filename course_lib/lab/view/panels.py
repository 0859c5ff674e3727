"""The charts, the attention maps and the verdict, with all branches drawn into them."""

from contextlib import ExitStack

import ipywidgets
import numpy as np

from course_lib.figures.palette import LAYER_COLORS
from course_lib.lab.session.branches import Branch, Branches
from course_lib.lab.view.bqplot_marks import LivePicture, cell_layout, figure_grid, name_ticks, set_line
from course_lib.lab.view.chart import Chart
from course_lib.lab.view.curves import Curves, side_by_side, thinned
from course_lib.lab.view.maps import MAX_TILES, NOTHING_SEEN, map_picture
from course_lib.lab.view.text import branch_table_html, legend_html, number, verdict_html
from course_lib.models import DISTRIBUTIONS
from course_lib.runs import Run, Verdict
from course_lib.runs.verdict import LOW_ENTROPY

TITLES = {
    "entropy": ("Attention entropy", "Entropy of the lowest layer"),
    "qk_sigma": ("Size of W_qᵀW_k", "Size of W_qᵀW_k, largest layer"),
    "rho_applied": ("Step size beside its matrix", "Step size, largest layer"),
}
"""Titles for one branch alone, and for several."""
LINE_COLOR = "#333333"
"""The loss of a run without branches."""


class Panels:
    """All charts, the attention maps and the verdict of a lab.

    A single branch is drawn layer by layer. If there are several, each has one line in its own colour, which
    shows its worst layer.
    """

    def __init__(self) -> None:
        self.loss = Chart("Loss on each step's batch", "loss (nats)", [LINE_COLOR])
        self.entropy = Chart("", "entropy (1 uniform, 0 one-hot)", LAYER_COLORS)
        self.sigma = Chart("Size of W_qᵀW_k", "σ₁, largest head", LAYER_COLORS, log=True)
        self.ratio = Chart("Step size beside its matrix", "σ₁ ratio ρ", LAYER_COLORS, log=True)
        self.by_layer = {"entropy": self.entropy, "qk_sigma": self.sigma, "rho_applied": self.ratio}
        self.charts = (self.loss, *self.by_layer.values())
        self.legend = ipywidgets.HTML()
        self.verdict = ipywidgets.HTML(layout=cell_layout())
        self.judged: Verdict | None = None
        """The verdict that is shown."""
        labels = "key (left to right)", "query (top to bottom)"
        self.maps = LivePicture("Attention maps (dark: more)", *labels, NOTHING_SEEN)
        self.curves: dict[Branch, Curves] = {}
        """The curves of each branch, as far as its records are read."""
        self._changing = [*(c.lines for c in self.charts), *self.maps.widgets, self.verdict]
        figures = [self.loss.figure, self.entropy.figure, self.maps.figure]
        figures += [self.sigma.figure, self.ratio.figure, self.verdict]
        self.widget = ipywidgets.VBox([self.legend, figure_grid(figures)])

    # --- what is shown --------------------------------------------------------------------------

    def reset(self, branches: Branches, previous: Run | None) -> None:
        """Show other branches, or another current one; no thread may train them during the call.

        The loss of `previous` is a grey line behind the loss of a single branch.
        """
        self.branches = branches
        self.curves = {branch: self.curves.get(branch) or Curves(branch) for branch in branches}
        self._current = branches.current  # until the next reset, also if another thread adds one
        self._stale = True
        run = branches.current.run
        if run.observation is None:
            run.observation = run.observe()
        self._pictured: object = None
        self._previous = previous if len(branches) == 1 and previous and previous.records else None
        self._set_axes(run)
        self.draw()

    def _set_axes(self, run: Run) -> None:
        steps = max(branch.run.config.steps for branch in self.branches)
        references = [(f"{line.name} {line.loss:.2f}", line.loss) for line in run.task.references]
        # The loss of a text of one letter is zero, but an axis needs a height.
        top = max(0.1, np.log(run.task.n_outputs), *(loss for _, loss in references))
        self.loss.clear(steps, 0.0, 1.12 * top)
        self.loss.draw_levels(references)
        if self._previous is not None:
            curve = np.array([r.loss for r in self._previous.records])
            at = thinned(len(curve))
            set_line(self.loss.ghost, np.array([r.step for r in self._previous.records])[at], curve[None, at])
        self.entropy.clear(steps, 0.0, 1.0)
        self.entropy.draw_levels([(f"low: below {LOW_ENTROPY}", LOW_ENTROPY)])
        self.sigma.clear(steps, 0.01, 1000.0)
        self.ratio.clear(steps, 0.001, 10.0)
        self._tau: float | None = -1.0
        self._marked: list[object] = []
        self._cursor: int | None = None
        several = len(self.branches) > 1
        colors = [b.color for b in self.branches] if several else None
        for quantity, chart in self.by_layer.items():
            chart.figure.title = TITLES[quantity][several]
            chart.lines.colors = colors or LAYER_COLORS
        if run.config.attention not in DISTRIBUTIONS:
            self.entropy.figure.title = f"No entropy: {run.config.attention} is no distribution"
        self.loss.lines.colors = colors or [LINE_COLOR]
        rows, columns = min(len(run.sites), MAX_TILES[0]), min(max(run.heads), MAX_TILES[1])
        name_ticks(self.maps.x_axis, {(i + 0.5) / columns: f"head {i + 1}" for i in range(columns)})
        name_ticks(self.maps.y_axis, {1 - (i + 0.5) / rows: str(i + 1) for i in range(rows)})

    # --- frames ---------------------------------------------------------------------------------

    def draw(self, past: Run | None = None, *, maps: bool = True) -> None:
        """Draw what is new since the last frame, and with `maps` the attention maps.

        `past` is the current branch at an earlier moment, with its observation; None for the present.
        """
        with ExitStack() as held:  # a browser paints messages together that are sent together
            for widget in self._changing:
                held.enter_context(widget.hold_sync())
            self._draw(past)
            if maps:
                self.draw_maps(past)

    def draw_loss(self) -> None:
        """Draw new losses, in a single message."""
        new = [curves.read_losses() for curves in self.curves.values()]
        if any(new) or self._stale:
            x, y = side_by_side([curves.loss() for curves in self.curves.values()])
            if y.size:
                self.loss.draw(x, y)

    def draw_maps(self, past: Run | None = None) -> None:
        """Draw the attention maps, if there are new ones."""
        shown = past or self._current.run
        if shown.observation is not None and shown.observation is not self._pictured:
            self._pictured = shown.observation
            self.maps.show(map_picture(shown.observation.maps))

    def _draw(self, past: Run | None) -> None:
        self.draw_loss()
        probed = [branch for branch, curves in self.curves.items() if curves.read_probes()]
        if probed or self._stale:
            self._draw_curves()
            self._stale = False
        self.judged = self.curves[self._current].verdict
        if past is not None:
            self.judged = past.verdict() if past.records else None
        self.verdict.value = verdict_html(self.judged)
        self._draw_settings(self._current.run, past)

    def _draw_curves(self) -> None:
        for quantity, chart in self.by_layer.items():
            if len(self.curves) == 1:
                x, y = next(iter(self.curves.values())).layers(quantity)
            else:
                x, y = side_by_side([curves.extreme(quantity) for curves in self.curves.values()])
            if y.size:
                chart.draw(x, y)

    def _draw_settings(self, run: Run, past: Run | None) -> None:
        if run.changes != self._marked:
            self._marked = list(run.changes)
            for chart in self.charts:
                chart.draw_changes(run.changes, named=chart is self.loss)
        cursor = None if past is None else past.updates
        if cursor != self._cursor:
            self._cursor = cursor
            for chart in self.charts:
                chart.draw_cursor(cursor)
        tau = (past or run).tau
        if tau != self._tau:
            self._tau = tau
            self.ratio.draw_levels([] if tau is None else [(f"τ = {number(tau)}", tau)])
        if len(self.branches) > 1:
            rows = [(branch, curves.verdict) for branch, curves in self.curves.items()]
            self.legend.value = branch_table_html(rows, self._current)
        else:
            layers = [(LAYER_COLORS[i % len(LAYER_COLORS)], f"layer {i + 1}") for i in range(len(run.sites))]
            self.legend.value = legend_html(
                layers, ghost=self._previous is not None, changes=bool(run.changes)
            )
