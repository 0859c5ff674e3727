"""What a checker answers."""

from dataclasses import dataclass
from html import escape

PASSED, NOT_QUITE, NOT_YET = "passed", "not quite", "not yet"

_SIGNS = {PASSED: "✓", NOT_QUITE: "✗", NOT_YET: "…"}
_COLORS = {PASSED: "#029e73", NOT_QUITE: "#d55e00", NOT_YET: "#767676"}


@dataclass(frozen=True)
class Result:
    """The outcome of a check: readable as text, and as a coloured box in a notebook."""

    exercise: str
    status: str
    """`passed`, `not quite` (an answer that is wrong) or `not yet` (no answer)."""
    message: str

    @property
    def passed(self) -> bool:
        return self.status == PASSED

    def __str__(self) -> str:
        return f"{_SIGNS[self.status]} {self.exercise}, {self.status}: {self.message}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = f"{_SIGNS[self.status]} {self.exercise}: {self.status}"
        return (
            f'<div style="border-left: 5px solid {_COLORS[self.status]}; padding: .3em .8em">'
            f"<b>{escape(head)}</b><br>{escape(self.message)}</div>"
        )
