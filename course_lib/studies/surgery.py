"""Surgery: shock a parameter group of a run that learns, or shield a group of a run that crashes."""

from collections.abc import Iterable
from dataclasses import replace

from course_lib import checks
from course_lib.extras import pandas as pd
from course_lib.models import GROUPS
from course_lib.runs.config import GroupSettings, RunConfig
from course_lib.studies.arms import TAU

GROUP_LABELS = {
    "qk": "W_q, W_k",
    "vo": "W_v, W_o",
    "mlp": "MLPs",
    "embedding": "embeddings",
    "head": "head",
    "norm": "norms",
}
OPERATIONS = {
    "none": "the run as it is",
    "shock": "the group starts without warmup, at `factor` times the learning rate",
    "shield": "the steps of the group alone are bounded",
    "shield-blocks-but": "the steps of the blocks' other groups are bounded",
    "put-back": "late in the run the group goes back to its start, and the blocks are bounded",
    "put-back-all-but": "late in the run all others go back to their start, and the blocks are bounded",
}
"""Name of an operation in the records → its effect on a parameter group."""


def operate(
    patient: RunConfig,
    *,
    shock: str | Iterable[str] = (),
    shield: str | Iterable[str] = (),
    lr_multiplier: float = 1.0,
    tau: float = TAU,
) -> RunConfig:
    """Shock some parameter groups of a patient's config, shield others, and leave the rest as it is.

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


def surgery_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs of one preset by operation, group, factor and arm.

    `frame` has the columns operation, group, factor (NaN except for shocks), arm, seed, final_val_loss and
    learnt. The result has the mean `loss` over seeds in nats, how many have `learnt`, and how many `runs`.
    """
    found = frame.groupby(["arm", "operation", "group", "factor"], sort=False, dropna=False)
    columns = {"loss": ("final_val_loss", "mean"), "learnt": ("learnt", "sum"), "runs": ("seed", "size")}
    return found.agg(**columns).reset_index()


def decisive(table: pd.DataFrame, operation: str, *, learnt: bool) -> list[str]:
    """The groups for which an operation alone saves all runs or, if `learnt` is False, wrecks all.

    `surgery_table` makes the table. Only shocks at the plain learning rate count.
    """
    own = table[(table["operation"] == operation) & (table["factor"].isna() | (table["factor"] == 1))]
    own = own[own["learnt"] == (own["runs"] if learnt else 0)]
    return [group for group in GROUPS if group in set(own["group"])]
