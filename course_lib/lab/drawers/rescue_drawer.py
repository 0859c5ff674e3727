"""The drawer of the rescue: bound a run from here on, and search for the last step at which that helps."""

import bqplot
import ipywidgets
import numpy as np

from course_lib.figures.palette import ARM_COLORS
from course_lib.lab.drawers.drawer import Drawer
from course_lib.lab.session import Session
from course_lib.lab.view.bqplot_marks import GRID_COLOR, DotChart
from course_lib.lab.view.controls import hint_html, row
from course_lib.lab.view.view import View
from course_lib.studies.arms import TAU


class RescueDrawer(Drawer):
    """Two buttons, one to turn the bound on and one to search, and the chart of the search."""

    title = "Rescue"
    tooltip = "Turn the bound on in mid-run: how late can a crash still be cured?"

    def __init__(self, session: Session, view: View) -> None:
        super().__init__(session, view)
        about = "Fork this moment into AdamW² with τ, and train the fork"
        self.here = self._button("Turn the bound on here", about, self.bound_here)
        about = "Search for the last step from which the bound saves it"
        self.sweep = self._button("How late is too late?", about, session.search_rescue)
        self.found = ipywidgets.HTML()
        title, x_label = "Saved (●) or lost (✚)", "step from which it is bounded"
        kinds = (ARM_COLORS["adamw2"], "circle"), (ARM_COLORS["adamw"], "cross")
        y = bqplot.LinearScale(min=0.0, max=1.0)
        self.chart = DotChart(title, x_label, "loss at the end (nats)", y, *kinds)
        self.saved, self.lost = self.chart.kinds
        self.chart.x_axis.grid_lines, self.chart.x_axis.grid_color = "solid", GRID_COLOR
        self.chart.figure.layout.max_width = "560px"
        self._stack(
            "Turn the bound on at the moment shown (go back with Rewind and fork). Or let the lab "
            "search: it forks the branch at one step after another, bounds the fork, and trains it "
            "to the end. Stop ends the search; asked again, it goes on.",
            row(self.here, self.sweep),
            self.found,
        )

    def bound_here(self) -> None:
        """Fork into AdamW² at the moment that is looked at, and train the fork."""
        self.session.fork(optimizer="adamw2", tau=self.session.tau or TAU)
        self.session.start()

    def draw(self) -> None:
        search = self.session.search
        if search is None:
            return
        self.found.value = hint_html(f"<b>{search}</b>")
        trials = list(search.trials)
        if not trials:
            return
        level, chart = search.run.task.reference.loss, self.chart
        steps, losses = np.array([t.step for t in trials]), np.array([t.loss for t in trials])
        chart.x.max = float(search.config.steps)
        chart.y.max = float(max(1.1 * level, *(1.05 * losses[np.isfinite(losses)])))
        chart.draw(steps, losses, np.array([not t.saved for t in trials]), level)
        if chart.figure not in self.widget.children:  # an empty chart says nothing
            self.widget.children = [*self.widget.children, chart.figure]
