"""Colours of lines: one per arm in every figure, panel and notebook (seaborn "colorblind")."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from course_lib.studies.arms import ARMS, COLOURS, MAIN_ARMS

T = TypeVar("T")

ARM_COLORS = {name: ARMS[name].colour for name in MAIN_ARMS}
LAYER_COLORS = [COLOURS[i] for i in (0, 1, 2, 4, 5, 6, 8, 9)]
"""For lines of single layers, in order."""
REFERENCE_COLOR = "#767676"
"""Reference lines: n-grams, constant guess."""


def arm_style(arm: str, place: int = 0) -> dict[str, Any]:
    """Colour, line style and label of an arm's line; other names get the colour of their place."""
    if arm not in ARMS:
        return {"color": LAYER_COLORS[place], "label": arm}
    known = ARMS[arm]
    return {"color": known.line_colour, "linestyle": known.dash, "label": known.label}


def styled(runs: Mapping[str, T], **more: Any) -> Iterator[tuple[T, dict[str, Any]]]:
    """Each arm's run with the style of its line."""
    return ((run, arm_style(arm, i) | more) for i, (arm, run) in enumerate(runs.items()))


def spoken(arm: str) -> str:
    """An arm's label without a comma, for sentences that list several. Other names stay as they are."""
    name = ARMS[arm].label if arm in ARMS else arm
    return name.replace(", no warmup", " without warmup").replace(", warmup", " with warmup")
