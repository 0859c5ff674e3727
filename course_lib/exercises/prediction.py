"""Ask the reader first, and play the answer back beside what happened."""

from collections.abc import Mapping
from html import escape
from typing import Any

from course_lib import checks
from course_lib.figures.static_display import display_live


class Prediction:
    """A question to answer before an experiment; as a cell's last value it shows the choices.

    Everything works when it is left unanswered.

    Args:
        question: what will happen?
        options: key → what the reader may choose.
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
        display_live(self.widget(), None, repr(self), self._static_html())

    def __repr__(self) -> str:
        return "\n".join(
            [f"Your prediction. {self.question}", *(f"○ {text}" for text in self.options.values())]
        )

    def _static_html(self) -> str:
        """What is shown where nothing is live."""
        items = "".join(f"<li>{escape(text)}</li>" for text in self.options.values())
        head = f"<p><b>Your prediction.</b> {escape(self.question)}</p>"
        return f"{head}<ul>{items}</ul><p><em>Run this cell to choose.</em></p>"

    def beside(self, outcome: str, measured: str = "") -> "Outcome":
        """The reader's answer beside the outcome (the key of the option that came true)."""
        checks.choice("outcome", outcome, self.options)
        said = None if self.answer is None else self.options[self.answer]
        return Outcome(said, self.options[outcome], measured)


class Outcome:
    """A prediction beside what happened, readable as text and in a notebook."""

    def __init__(self, said: str | None, happened: str, measured: str) -> None:
        self.said = said
        self.happened = happened
        self.measured = measured

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
