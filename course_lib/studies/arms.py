"""Arms: variants of a run to compare, each with one name, label and colour throughout the course."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from course_lib import checks
from course_lib.models import BLOCK_GROUPS, GROUPS
from course_lib.runs.config import RunConfig, check_warmup, without_tau

COLOURS = (
    *("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"),
    *("#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"),
)
"""Seaborn's palette "colorblind", written out so that no study imports seaborn."""
OTHER_COLOUR = "#444444"
"""Colour of the other arms."""
WARMUP = 100
"""Default warmup of the arms that have one, in steps."""
TAU = 0.05
"""τ of the arms, unless told otherwise."""

_OUTSIDE = tuple(group for group in GROUPS if group not in BLOCK_GROUPS)


@dataclass(frozen=True)
class Arm:
    """One way to train, with its names and style in tables and charts."""

    name: str
    """The key in commands and records."""
    label: str
    """The name in legends."""
    colour: str
    changes: Mapping[str, Any] | None
    """Fields of a `RunConfig` that differ from AdamW without warmup. A `warmup` other than 0 stands for the
    number of steps that the comparison asks for. None: an experiment takes the schedule from another run."""
    treatment: str = ""
    """The name in tables of controls, which says what is warmed up; the label if left out."""
    relative_of: str | None = None
    """The arm that this one is a variant of. Charts of lines draw it in that arm's colour, dashed."""
    dash: str = "-"
    """The line style of matplotlib."""

    @property
    def line_colour(self) -> str:
        """The colour of the arm's lines, shared with its relatives."""
        return ARMS[self.relative_of or self.name].colour

    def apply(self, base: RunConfig, warmup: int = WARMUP) -> RunConfig:
        """Apply the arm's optimizer, warmup (in steps) and other changes to `base`.

        Groups keep their settings in `base`, but a τ only under AdamW².

        Raises:
            ValueError: a warmup longer than the run, or an arm whose schedule an experiment makes.
        """
        if self.changes is None:
            able = ", ".join(arm.name for arm in ARMS.values() if arm.changes is not None)
            raise ValueError(
                f"arm is {self.name!r}, whose schedule experiments/taming.py takes from another run: "
                f"expected one of {able}"
            )
        changes = {"optimizer": "adamw", "warmup": 0, **self.changes}
        groups: dict[str, Any] = {group: dict(own) for group, own in changes.pop("groups", {}).items()}
        for settings in (changes, *groups.values()):
            if settings.get("warmup"):
                settings["warmup"] = check_warmup(warmup, base.steps)
        for group, own in base.groups.items():
            kept = own if changes["optimizer"] == "adamw2" else without_tau(own)
            groups[group] = {**groups.get(group, {}), **kept}
        return replace(base, **changes, groups=groups)


_BOUND: dict[str, Any] = {"optimizer": "adamw2"}
_BOUND_QK: dict[str, Any] = {"optimizer": "adamw2", "tau": None, "warmup": WARMUP}
_WARM: dict[str, Any] = {"warmup": WARMUP}
_SHOCK_QK: dict[str, Any] = {"warmup": WARMUP, "groups": {"qk": {"warmup": 0}}}
_NORMED: dict[str, Any] = {"qk_norm": True}
_GREY = OTHER_COLOUR


def _of(groups: tuple[str, ...], **settings: Any) -> dict[str, Any]:
    return {"groups": {group: dict(settings) for group in groups}}


# fmt: off
_ALL = (
    Arm("adamw", "AdamW, no warmup", COLOURS[3], {}, "no warmup at all"),
    Arm("adamw-warmup", "AdamW, warmup", COLOURS[0], _WARM, "warmup on everything"),
    # The fair rival of AdamW²: it warms up the matrices that the bound covers.
    Arm("adamw-warmup-blocks", "AdamW, warmup on the block matrices", COLOURS[9],
        _WARM | _of(_OUTSIDE, warmup=0), "warmup on the block matrices only"),
    Arm("adamw2", "AdamW², no warmup", COLOURS[2], _BOUND, "AdamW²"),
    Arm("qk-norm", "QK-norm, no warmup", _GREY, _NORMED, "no warmup at all, QK-norm", "adamw", "--"),
    Arm("qk-norm-warmup", "QK-norm, warmup", _GREY,
        _WARM | _NORMED, "warmup on everything, QK-norm", "adamw-warmup", "--"),
    Arm("qk-norm-adamw2", "QK-norm and AdamW²", _GREY, _BOUND | _NORMED, "AdamW², QK-norm", "adamw2", "--"),
    Arm("adamw2-tau-0.02", "AdamW², τ = 0.02", _GREY, _BOUND | {"tau": 0.02}, "", "adamw2", ":"),
    Arm("adamw2-warmup", "AdamW², warmup", _GREY, _BOUND | _WARM, "", "adamw2", "-."),
    Arm("adamw2-warm-embeddings", "AdamW², embeddings warmed up", _GREY,
        _BOUND | _of(("embedding",), warmup=WARMUP)),
    Arm("adamw2-warm-outside", "AdamW², all else warmed up", _GREY, _BOUND | _of(_OUTSIDE, warmup=WARMUP)),
    Arm("adamw2-bound-outside", "AdamW², embeddings and head bounded, too", _GREY,
        _BOUND | _of(("embedding", "head"), tau=TAU)),
    Arm("shock-qk", "no warmup for W_q, W_k only", _GREY, _SHOCK_QK),
    Arm("shock-qk-bound-qk", "no warmup for W_q, W_k only, bounded", _GREY,
        _BOUND_QK | _of(("qk",), warmup=0, tau=TAU)),
    Arm("shock-qk-norm", "no warmup for W_q, W_k only, QK-norm", _GREY, _SHOCK_QK | _NORMED),
    Arm("warmup-bound-qk", "warmup on everything, W_q, W_k bounded", _GREY,
        _BOUND_QK | _of(("qk",), tau=TAU)),
    Arm("warmup-qk-only", "no warmup for all but W_q, W_k", _GREY, _of(("qk",), warmup=WARMUP)),
    Arm("uniform-warmup", "uniform attention, warmup", _GREY, _WARM | {"attention": "uniform"}),
    Arm("replayed", "its α replayed on everything", _GREY, None),
    Arm("replayed-blocks", "its α replayed on the block matrices", _GREY, None),
    Arm("replayed-seed-0", "the α of seed 0, on other seeds", _GREY, None),
    Arm("constant", "a constant factor of the same mean", _GREY, None),
)
# fmt: on
ARMS: dict[str, Arm] = {arm.name: arm for arm in _ALL}
"""Every arm of the course by name, in the order of legends."""
MAIN_ARMS = ("adamw", "adamw-warmup", "adamw-warmup-blocks", "adamw2")
"""The arms with colours of their own."""
DEFAULT_ARMS = ("adamw", "adamw-warmup", "adamw2")
LABELS = {arm.name: arm.label for arm in _ALL}
TREATMENTS = {arm.name: arm.treatment or arm.label for arm in _ALL}


def arm_config(base: RunConfig, arm: str, warmup: int = WARMUP) -> RunConfig:
    """The config of an arm by its name (see `Arm.apply`)."""
    return ARMS[checks.choice("arm", arm, ARMS)].apply(base, warmup)


def arm_of(config: RunConfig) -> str:
    """The name of the arm whose optimizer and warmup a config has."""
    if config.optimizer == "adamw2" and config.tau is not None:
        return "adamw2-warmup" if config.warmup else "adamw2"
    if not config.warmup:
        return "adamw"
    blocks = all(config.groups.get(group, {}).get("warmup") == 0 for group in _OUTSIDE)
    return "adamw-warmup-blocks" if blocks else "adamw-warmup"
