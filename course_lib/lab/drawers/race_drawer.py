"""The drawer of the race: up to four arms, trained from the same weights on the same batches."""

from html import escape

import ipywidgets

from course_lib.lab.drawers.drawer import Drawer
from course_lib.lab.session import Session
from course_lib.lab.session.branches import MAX_BRANCHES
from course_lib.lab.view.controls import row
from course_lib.lab.view.text import describe
from course_lib.lab.view.view import View
from course_lib.runs import RunConfig
from course_lib.studies.arms import DEFAULT_ARMS, WARMUP, arm_config


class RaceDrawer(Drawer):
    """The list of arms, and the button that starts them."""

    title = "Race"
    tooltip = "Train up to four arms in lock step from the same seed on the same data"

    def __init__(self, session: Session, view: View) -> None:
        super().__init__(session, view)
        self.arms: list[RunConfig] = []
        """The arms on the list."""
        wanted, about = "Add the settings above as an arm", "Optimizer, learning rate, warmup, τ, surgery"
        usual = "AdamW without and with warmup, AdamW² without warmup"
        start = "Train the arms in lock step; they take the place of all branches"
        self.add, self.usual, self.clear, self.start = self._buttons(
            (wanted, about, lambda: self.add_arms(session.next_config())),
            ("Add the usual three", usual, self._add_usual_arms),
            ("Clear", "Take all arms off the list", self._clear),
            ("Start race", start, self._race),
        )
        self.list = ipywidgets.HTML()
        self._stack(
            "Line up to four arms up, then start: same weights, same batches, one colour each. "
            "They take the place of all branches.",
            row(self.add, self.usual, self.clear, self.start),
            self.list,
        )
        self.draw()

    def add_arms(self, *arms: RunConfig) -> None:
        """Add arms to the list.

        Raises:
            ValueError: there would be too many, or one is on the list already.
        """
        if len(self.arms) + len(arms) > MAX_BRANCHES:
            raise ValueError(
                f"there would be {len(self.arms) + len(arms)} arms: expected at most {MAX_BRANCHES}; "
                "start the race, or clear the list"
            )
        for arm in arms:
            if arm in self.arms:
                raise ValueError(
                    f"arm {describe(arm)} is on the list already: expected another; change a setting first"
                )
        self.arms += arms
        self.draw()

    def draw(self) -> None:
        items = "".join(f"<li>{escape(describe(arm))}</li>" for arm in self.arms)
        self.list.value = f'<ol class="course-lab-hint">{items}</ol>' if items else ""
        self.start.disabled = self.clear.disabled = not self.arms

    def _add_usual_arms(self) -> None:
        base = self.session.next_config()
        warmup = min(WARMUP, base.steps)
        self.add_arms(*(arm_config(base, arm, warmup) for arm in DEFAULT_ARMS))

    def _clear(self) -> None:
        self.arms.clear()
        self.draw()

    def _race(self) -> None:
        self.session.race(*self.arms)
        self.session.start()
