"""The drawer of the rescue: turn the bound on here, and find out how late is too late."""

import bqplot
import ipywidgets
import numpy as np

from course_lib.figures.palette import ARM_COLORS, REFERENCE_COLOR
from course_lib.lab.drawers.drawer import Drawer
from course_lib.lab.session import Session
from course_lib.lab.view.bqplot_marks import GRID_COLOR, chart_axes, lab_figure, lines_mark, unit_scales
from course_lib.lab.view.controls import hint_html, row
from course_lib.lab.view.view import View
from course_lib.studies.arms import TAU
from course_lib.studies.rescue import Rescue


class RescueDrawer(Drawer):
    """The button that turns the bound on, the search for the last step at which it helps, and its chart."""

    title = "Rescue"
    tooltip = "Turn the bound on in mid-run: how late can a crash still be cured?"

    def __init__(self, session: Session, view: View) -> None:
        super().__init__(session, view)
        about = "Fork this moment into AdamW² with τ, and train the fork"
        self.here = self._button("Turn the bound on here", about, self.bound_here)
        about = "Search for the last step from which the bound saves it"
        self.sweep = self._button("How late is too late?", about, session.search_rescue)
        self.found = ipywidgets.HTML()
        self._make_chart()
        self._stack(
            "Turn the bound on at the moment shown (go back with Rewind and fork). Or let the lab "
            "search: it forks the branch at one step after another, bounds the fork, and trains it "
            "to the end. Stop ends the search; asked again, it goes on.",
            row(self.here, self.sweep),
            self.found,
        )

    def _make_chart(self) -> None:
        scales = unit_scales()
        self.x, self.y = scales.values()
        colors = [ARM_COLORS["adamw2"]], [ARM_COLORS["adamw"]]
        self.saved = bqplot.Scatter(x=[], y=[], scales=scales, colors=colors[0], marker="circle")
        self.lost = bqplot.Scatter(x=[], y=[], scales=scales, colors=colors[1], marker="cross")
        self.line = lines_mark(scales, [REFERENCE_COLOR], line_style="dashed", stroke_width=1)
        axes = chart_axes(self.x, self.y, "step from which it is bounded", "loss at the end (nats)")
        axes[0].grid_lines, axes[0].grid_color = "solid", GRID_COLOR
        self.figure = lab_figure("Saved (●) or lost (✚)", axes, [self.line, self.saved, self.lost])
        self.figure.layout.max_width = "560px"

    def bound_here(self) -> None:
        """Fork into AdamW² at the moment that is looked at, and train the fork."""
        self.session.fork(optimizer="adamw2", tau=self.session.tau or TAU)
        self.session.start()

    @property
    def search(self) -> Rescue | None:
        """The search that is shown."""
        return self.session.search

    def draw(self) -> None:
        search = self.search
        if search is None:
            return
        self.found.value = hint_html(f"<b>{search}</b>")
        trials = list(search.trials)
        if not trials:
            return
        line = search.run.task.reference
        self.x.max = float(search.config.steps)
        self.y.max = float(max(1.1 * line.loss, *(1.05 * t.loss for t in trials if np.isfinite(t.loss))))
        for mark, saved in ((self.saved, True), (self.lost, False)):
            some = [trial for trial in trials if trial.saved is saved]
            with mark.hold_sync():
                mark.x, mark.y = np.array([t.step for t in some]), np.array([t.loss for t in some])
        with self.line.hold_sync():
            self.line.x, self.line.y = np.array([0.0, self.x.max]), np.full(2, line.loss)
        if self.figure not in self.widget.children:  # an empty chart says nothing
            self.widget.children = [*self.widget.children, self.figure]
