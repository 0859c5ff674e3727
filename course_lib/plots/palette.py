"""One colour per arm, the same in every figure, panel and notebook (seaborn "colorblind")."""

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
