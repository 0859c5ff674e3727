"""One colour per arm, the same in every figure, panel and notebook (seaborn "colorblind")."""

from collections.abc import Collection

from seaborn import color_palette

_COLORS = color_palette("colorblind").as_hex()

ARM_COLORS = {
    "adamw": _COLORS[3],
    "adamw-warmup": _COLORS[0],
    "adamw-warmup-blocks": _COLORS[9],
    "adamw2": _COLORS[2],
}
ARM_LABELS = {
    "adamw": "AdamW, no warmup",
    "adamw-warmup": "AdamW, warmup",
    "adamw-warmup-blocks": "AdamW, warmup on the block matrices",
    "adamw2": "AdamW², no warmup",
}
LAYER_COLORS = [_COLORS[i] for i in (0, 1, 2, 4, 5, 6, 8, 9)]
"""For lines of single layers, in order."""
REFERENCE_COLOR = "#767676"
"""Reference lines: n-grams, constant guess."""
BRANCH_COLORS = ("#333333", _COLORS[1], _COLORS[4], _COLORS[5])
"""For the branches of a run that are no arm of the course, in order."""


def branch_color(arm: str | None, taken: Collection[str]) -> str:
    """The colour of `arm` if it is still to be had, else the first of `BRANCH_COLORS` that is."""
    wanted = [ARM_COLORS[arm]] if arm in ARM_COLORS else []
    return next(color for color in (*wanted, *BRANCH_COLORS) if color not in taken)
