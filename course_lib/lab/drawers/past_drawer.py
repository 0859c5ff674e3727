"""The drawer of the past: go back to a moment, and branch off another future."""

import ipywidgets

from course_lib.lab.drawers.drawer import Drawer
from course_lib.lab.session import Session
from course_lib.lab.view.controls import hint_html, menu, row
from course_lib.lab.view.view import View

PRESENT = -1
"""The slider's last position."""


class PastDrawer(Drawer):
    """A slider over the kept moments, and the buttons that make and choose branches."""

    title = "Rewind and fork"
    tooltip = "Go back to a moment before the crash, change something, and watch both futures"

    def __init__(self, session: Session, view: View) -> None:
        super().__init__(session, view)
        self.slider = ipywidgets.SelectionSlider(
            options=[("now", PRESENT)],
            value=PRESENT,
            description="moment (step)",
            continuous_update=False,
            tooltip="All panels show the moment; the run is paused meanwhile",
            style={"description_width": "104px"},
            layout=ipywidgets.Layout(flex="1 1 320px", width="auto"),
        )
        self.slider.add_class("course-lab-choice")
        self.holds = ipywidgets.HTML()
        self.branch = menu("branch", ["A"], "The branch that is shown, and that the sliders act on")
        about = "Train a branch from this moment on with the settings above"
        self.fork, self.now, self.remove = self._buttons(
            ("Fork from here", about, self.fork_and_train),
            ("Back to now", "Look at the present again", session.rewind),
            ("Remove branch", "Give up the branch that is shown", self.remove_shown),
        )
        self.together = ipywidgets.Checkbox(
            description="Start trains all branches, in lock step",
            indent=False,
            layout=ipywidgets.Layout(width="auto"),
        )
        self._stack(
            "1 Move the slider back: all panels show that moment. 2 Change a setting above. "
            "3 Fork: both futures are drawn, each in its colour.",
            row(self.slider, self.fork, self.now),
            row(self.branch, self.remove, self.together),
            self.holds,
        )
        self._changes.observe(self.slider, lambda step: session.rewind(None if step == PRESENT else step))
        self._changes.observe(self.branch, session.choose)
        self._changes.observe(self.together, lambda value: setattr(session, "together", value))

    def fork_and_train(self) -> None:
        """Fork at the moment that is looked at, and train the fork."""
        self.session.fork()
        self.session.start()

    def remove_shown(self) -> None:
        """Remove the branch that is shown."""
        self.session.remove(self.session.branches.current.name)

    def draw(self) -> None:
        session, timeline = self.session, self.session.branches.current.timeline
        with self._changes.ignored():
            steps = timeline.steps
            options = [*((str(step), step) for step in steps), ("now", PRESENT)]
            shown = PRESENT if session.past is None else session.past.updates
            if list(self.slider.options) != options:
                self.slider.options = options
            self.slider.value = shown if shown in (*steps, PRESENT) else PRESENT
            names = [branch.name for branch in session.branches]
            if list(self.branch.options) != names:
                self.branch.options = names
            self.branch.value = session.branches.current.name
            self.together.value = session.together
            several = len(names) > 1
            self.branch.disabled = self.remove.disabled = self.together.disabled = not several
            self.now.disabled = session.past is None
            self.holds.value = hint_html(timeline.holds())
