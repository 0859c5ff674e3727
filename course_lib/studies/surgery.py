"""Surgery: shock a parameter group of a run that learns, or shield one of a run that crashes."""

from collections.abc import Iterable
from dataclasses import replace

from course_lib import checks
from course_lib.models import GROUPS
from course_lib.runs.config import GroupSettings, RunConfig

TAU = 0.05
"""τ of a shield, unless told otherwise."""


def operate(
    patient: RunConfig,
    *,
    shock: str | Iterable[str] = (),
    shield: str | Iterable[str] = (),
    lr_multiplier: float = 1.0,
    tau: float = TAU,
) -> RunConfig:
    """The config of a patient with some of its parameter groups shocked, some shielded, the rest as it was.

        operate(preset("copy", warmup=100), shock="qk")             # who can wreck a run that learns?
        operate(preset("copy"), shield=("qk", "vo"))                # whose bound saves one that crashes?

    Args:
        patient: what to operate on, under AdamW.
        shock: groups (`course_lib.models.GROUPS`) that start without warmup, at `lr_multiplier` times the
            learning rate, throughout the run.
        shield: groups whose steps are bounded by `tau`, as AdamW² bounds them; no other group is.
        lr_multiplier: of the shocked groups.

    Raises:
        ValueError: an unknown group, one to be shocked and shielded, norms to be shielded (they are no
            matrices), or a patient that is bounded already.
    """
    shocked, shielded = _groups("shock", shock), _groups("shield", shield)
    if both := [group for group in shocked if group in shielded]:
        raise ValueError(f"shield is {both[0]!r}, which is shocked too: expected one or the other")
    if patient.optimizer != "adamw":
        raise ValueError(
            f"optimizer is {patient.optimizer!r}: expected a patient under 'adamw', without a bound; "
            "to bound all but one group, shield the others"
        )
    checks.number("lr_multiplier", lr_multiplier, "a positive number such as 3")
    groups: dict[str, GroupSettings] = {name: own.copy() for name, own in patient.groups.items()}
    for group in shocked:
        groups[group] = {**groups.get(group, {}), "warmup": 0, "lr_multiplier": lr_multiplier}
    for group in shielded:
        groups[group] = {**groups.get(group, {}), "tau": tau}
    if not shielded:
        return replace(patient, groups=groups)
    return replace(patient, optimizer="adamw2", tau=None, groups=groups)


def _groups(name: str, groups: str | Iterable[str]) -> tuple[str, ...]:
    names = (groups,) if isinstance(groups, str) else tuple(groups)
    return tuple(checks.choice(name, group, GROUPS) for group in names)
