"""The drawer of the past: go back to a moment, and branch off another future."""

from typing import TYPE_CHECKING, Any

import ipywidgets

from course_lib.lab.view.controls import Quiet, action, hint, hint_html, row

if TYPE_CHECKING:
    from course_lib.lab.lab import Lab

NOW = -1
"""The slider's last position: the present."""


class Past:
    """A slider over the kept moments, and the buttons that make and choose branches.

    Args:
        lab: whose past it is.
    """

    title = "Rewind and fork"
    tooltip = "Go back to a moment before the crash, change something, and watch both futures"

    def __init__(self, lab: "Lab") -> None:
        self.lab = lab
        self._quiet = Quiet()
        self.slider = ipywidgets.SelectionSlider(
            options=[("now", NOW)],
            value=NOW,
            description="moment (step)",
            continuous_update=False,
            tooltip="All panels show the moment; the run is paused meanwhile",
            style={"description_width": "104px"},
            layout=ipywidgets.Layout(flex="1 1 320px", width="auto"),
        )
        self.slider.add_class("course-lab-choice")
        self.holds = ipywidgets.HTML()
        self.fork = action("Fork from here", "Train a branch from this moment on with the settings above")
        self.now = action("Back to now", "Look at the present again")
        self.branch = ipywidgets.Dropdown(
            description="branch",
            options=["A"],
            tooltip="The branch that is shown, and that the sliders act on",
            style={"description_width": "50px"},
            layout=ipywidgets.Layout(width="130px"),
        )
        self.remove = action("Remove branch", "Give up the branch that is shown")
        self.together = ipywidgets.Checkbox(
            description="Start trains all branches, in lock step",
            indent=False,
            layout=ipywidgets.Layout(width="auto"),
        )
        self.widget = ipywidgets.VBox(
            [
                hint(
                    "1 Move the slider back: all panels show that moment. 2 Change a setting above. "
                    "3 Fork: both futures are drawn, each in its colour."
                ),
                row(self.slider, self.fork, self.now),
                row(self.branch, self.remove, self.together),
                self.holds,
            ]
        )
        self.slider.observe(self._moved, "value")
        self.branch.observe(self._chosen, "value")
        self.together.observe(self._together, "value")
        self.fork.on_click(lab.guarded(self.fork_and_train))
        self.now.on_click(lab.guarded(lab.rewind))
        self.remove.on_click(lab.guarded(lambda: lab.remove(lab.branches.current.name)))

    def fork_and_train(self) -> None:
        """What the button does."""
        self.lab.fork()
        self.lab.start()

    def reset(self) -> None:
        self.draw()

    def draw(self) -> None:
        with self._quiet:
            lab, timeline = self.lab, self.lab.branches.current.timeline
            steps = timeline.steps
            options = [*((str(step), step) for step in steps), ("now", NOW)]
            shown = NOW if lab.past is None else lab.past.updates
            if list(self.slider.options) != options:
                self.slider.options = options
            self.slider.value = shown if shown in (*steps, NOW) else NOW
            names = [branch.name for branch in lab.branches]
            if list(self.branch.options) != names:
                self.branch.options = names
            self.branch.value = lab.branches.current.name
            self.together.value = lab.together
            several = len(names) > 1
            self.branch.disabled = self.remove.disabled = self.together.disabled = not several
            self.now.disabled = lab.past is None
            self.holds.value = hint_html(timeline.holds())

    def _moved(self, change: Any) -> None:
        if not self._quiet:
            step = None if change["new"] == NOW else change["new"]
            self.lab.guarded(lambda: self.lab.rewind(step))(None)

    def _chosen(self, change: Any) -> None:
        if not self._quiet:
            self.lab.guarded(lambda: self.lab.choose(change["new"]))(None)

    def _together(self, change: Any) -> None:
        if not self._quiet:
            self.lab.together = change["new"]
