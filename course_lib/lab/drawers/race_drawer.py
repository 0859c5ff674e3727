"""The drawer of the race: up to four arms side by side, from the same weights on the same batches."""

from html import escape
from typing import TYPE_CHECKING

import ipywidgets

from course_lib.lab.session.branches import MOST
from course_lib.lab.view.controls import action, hint, row
from course_lib.lab.view.text import describe
from course_lib.runs import RunConfig
from course_lib.studies.arms import DEFAULT_ARMS, WARMUP, arm_config

if TYPE_CHECKING:
    from course_lib.lab.lab import Lab


class Race:
    """The arms to be, and the button that starts them.

    Args:
        lab: where they race.
    """

    title = "Race"
    tooltip = "Train up to four arms in lock step from the same seed on the same data"

    def __init__(self, lab: "Lab") -> None:
        self.lab = lab
        self.arms: list[RunConfig] = []
        """What will start."""
        self.add = action("Add the settings above as an arm", "Optimizer, learning rate, warmup, τ, surgery")
        self.usual = action("Add the usual three", "AdamW without and with warmup, AdamW² without warmup")
        self.clear = action("Clear", "Take all arms off the list")
        self.start = action("Start race", "Train the arms in lock step; they take the place of all branches")
        self.list = ipywidgets.HTML()
        self.widget = ipywidgets.VBox(
            [
                hint(
                    "Line up to four arms up, then start: same weights, same batches, one colour each. "
                    "They take the place of all branches."
                ),
                row(self.add, self.usual, self.clear, self.start),
                self.list,
            ]
        )
        self.add.on_click(lab.guarded(lambda: self.line_up(lab.next_config())))
        self.usual.on_click(lab.guarded(self._line_up_usual))
        self.clear.on_click(lab.guarded(self._clear))
        self.start.on_click(lab.guarded(self._race))
        self.draw()

    def line_up(self, *arms: RunConfig) -> None:
        """Add arms to the list.

        Raises:
            ValueError: there would be too many, or one is on it already.
        """
        if len(self.arms) + len(arms) > MOST:
            raise ValueError(
                f"there would be {len(self.arms) + len(arms)} arms: expected at most {MOST}; "
                "start the race, or clear the list"
            )
        for arm in arms:
            if arm in self.arms:
                raise ValueError(
                    f"arm {describe(arm)} is on the list already: expected another; change a setting first"
                )
        self.arms += arms
        self.draw()

    def reset(self) -> None:
        self.draw()

    def draw(self) -> None:
        items = "".join(f"<li>{escape(describe(arm))}</li>" for arm in self.arms)
        self.list.value = f'<ol class="course-lab-hint">{items}</ol>' if items else ""
        self.start.disabled = self.clear.disabled = not self.arms

    def _line_up_usual(self) -> None:
        base = self.lab.next_config()
        warmup = min(WARMUP, base.steps)
        self.line_up(*(arm_config(base, arm, warmup) for arm in DEFAULT_ARMS))

    def _clear(self) -> None:
        self.arms.clear()
        self.draw()

    def _race(self) -> None:
        self.lab.race(*self.arms)
        self.lab.start()
