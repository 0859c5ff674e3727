"""Ask the reader for a prediction, and later show it beside what happened."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from course_lib import checks
from course_lib.figures.static_display import display_live


class Prediction:
    """A question to answer before an experiment; as a cell's last value it shows the choices.

    A reader may leave it unanswered.

    Args:
        question: what the reader predicts.
        options: key → an answer to choose.
    """

    def __init__(self, question: str, options: Mapping[str, str]) -> None:
        self.question = question
        self.options = dict(options)
        self._buttons: Any = None

    @property
    def answer(self) -> str | None:
        """Key of the reader's choice, None while there is none."""
        return None if self._buttons is None else self._buttons.value

    @answer.setter
    def answer(self, key: str | None) -> None:
        if key is not None:
            checks.choice("answer", key, self.options)
        self.widget()
        self._buttons.value = key

    def widget(self) -> Any:
        """The question with its choices, an ipywidget."""
        import ipywidgets  # here, so that checkers work without the notebook's packages

        if self._buttons is None:
            self._buttons = ipywidgets.RadioButtons(
                options=[(text, key) for key, text in self.options.items()],
                value=None,
                layout={"width": "max-content"},
            )
        head = ipywidgets.HTML(f"<b>Your prediction.</b> {escape(self.question)}")
        return ipywidgets.VBox([head, self._buttons])

    def _ipython_display_(self) -> None:
        items = "".join(f"<li>{escape(text)}</li>" for text in self.options.values())
        head = f"<p><b>Your prediction.</b> {escape(self.question)}</p>"
        page = f"{head}<ul>{items}</ul><p><em>Run this cell to choose.</em></p>"
        display_live(self.widget(), None, repr(self), page)

    def __repr__(self) -> str:
        return "\n○ ".join([f"Your prediction. {self.question}", *self.options.values()])

    def beside(self, outcome: str, measured: str = "") -> "Outcome":
        """The reader's answer beside the outcome (the key of the option that came true)."""
        checks.choice("outcome", outcome, self.options)
        said = None if self.answer is None else self.options[self.answer]
        return Outcome(said, self.options[outcome], measured)


@dataclass(frozen=True)
class Outcome:
    """A prediction beside what happened, readable as text and in a notebook."""

    said: str | None
    happened: str
    measured: str

    @property
    def right(self) -> bool | None:
        """Whether the prediction came true; None without one."""
        return None if self.said is None else self.said == self.happened

    def __repr__(self) -> str:
        said = f"You said: {self.said}" if self.said else "You made no prediction."
        return f"{said}\nWhat happened: {self.happened} {self.measured}".rstrip()

    def _repr_html_(self) -> str:
        said = f"<b>You said:</b> {escape(self.said)}" if self.said else "You made no prediction."
        close = {True: " You saw it coming.", False: " Not what you expected: good.", None: ""}
        return (
            '<div style="border-left: 5px solid #0173b2; padding: .3em .8em">'
            f"{said}<br><b>What happened:</b> {escape(self.happened)} {escape(self.measured)}"
            f"{close[self.right]}</div>"
        )
