"""The drawer of the rescue: turn the bound on here, and find out how late is too late."""

from typing import TYPE_CHECKING

import bqplot
import ipywidgets
import numpy as np

from course_lib.figures.palette import ARM_COLORS, REFERENCE_COLOR
from course_lib.lab.session.worker import Worker
from course_lib.lab.view.bqplot_marks import SMALL, figure_of, lines_mark
from course_lib.lab.view.controls import action, hint, hint_html, row
from course_lib.studies.rescue import Cure, Rescue
from course_lib.studies.surgery import TAU

if TYPE_CHECKING:
    from course_lib.lab.lab import Lab


class RescueDrawer:
    """The button that turns the bound on, the search for the last step at which it helps, and its chart.

    Args:
        lab: whose run is to be rescued.
    """

    title = "Rescue"
    tooltip = "Turn the bound on in mid-run: how late can a crash still be cured?"

    def __init__(self, lab: "Lab") -> None:
        self.lab = lab
        self.search: Rescue | None = None
        """The search that is shown."""
        self._of: tuple[object, float] | None = None
        self.here = action(
            "Turn the bound on here", "Fork this moment into AdamW² with τ, and train the fork"
        )
        self.sweep = action("How late is too late?", "Search for the last step from which the bound saves it")
        self.found = ipywidgets.HTML()
        self._make_chart()
        self.widget = ipywidgets.VBox(
            [
                hint(
                    "Turn the bound on at the moment shown (go back with Rewind and fork). Or let the lab "
                    "search: it forks the branch at one step after another, bounds the fork, and trains it "
                    "to the end. Stop ends the search; asked again, it goes on."
                ),
                row(self.here, self.sweep),
                self.found,
            ]
        )
        self.here.on_click(lab.guarded(self.bound_here))
        self.sweep.on_click(lab.guarded(self.start_search))

    def _make_chart(self) -> None:
        self.x = bqplot.LinearScale(min=0.0, max=1.0)
        self.y = bqplot.LinearScale(min=0.0, max=1.0)
        scales = {"x": self.x, "y": self.y}
        colors = [ARM_COLORS["adamw2"]], [ARM_COLORS["adamw"]]
        self.saved = bqplot.Scatter(x=[], y=[], scales=scales, colors=colors[0], marker="circle")
        self.lost = bqplot.Scatter(x=[], y=[], scales=scales, colors=colors[1], marker="cross")
        self.line = lines_mark(scales, [REFERENCE_COLOR], line_style="dashed", stroke_width=1)
        axes = [
            bqplot.Axis(
                scale=self.x, label="step from which it is bounded", label_offset="28px", tick_style=SMALL
            ),
            bqplot.Axis(
                scale=self.y,
                label="loss at the end (nats)",
                side="left",
                label_offset="38px",
                tick_style=SMALL,
            ),
        ]
        for axis in axes:
            axis.grid_color = "#E6E6E6"
        self.figure = figure_of("Saved (●) or lost (✚)", axes, [self.line, self.saved, self.lost])
        self.figure.layout.max_width = "560px"

    def bound_here(self) -> None:
        """Fork into AdamW² at the moment that is looked at, and train the fork."""
        tau = self.lab.tau or TAU
        self.lab.fork(optimizer="adamw2", tau=tau)
        self.lab.start()

    def start_search(self) -> None:
        """Begin to search, or go on with a search that was stopped."""
        self.lab.search_rescue()

    def prepare(self) -> Rescue:
        """The search for the current branch: a new one, unless one of it was stopped.

        Raises:
            ValueError: nothing of the branch is kept.
        """
        lab = self.lab
        branch, tau = lab.branches.current, lab.tau or TAU
        if self.search is None or self.search.finished or self._of != (branch, tau):
            if branch.run.records:
                snapshots = [branch.timeline.at(step) for step in branch.timeline.steps]
                self.search = Rescue(branch.run, Cure(tau=tau), snapshots=snapshots)
            else:
                self.search = Rescue(lab.next_config(), Cure(tau=tau))
            self._of = (branch, tau)
        return self.search

    def work(self, worker: Worker) -> None:
        """What the lab's thread does."""
        if self.search is not None:
            for _ in self.search:
                worker.tick()
                if worker.halted:
                    return

    def reset(self) -> None:
        self.draw()

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
