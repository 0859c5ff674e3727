"""A table with coloured cells: the loss by operation and by group of parameters."""

import pandas as pd

from course_lib.data import Baseline
from course_lib.figures.picture import Picture, finish, label, panels
from course_lib.models import GROUPS
from course_lib.studies.arms import TREATMENTS
from course_lib.studies.surgery import GROUP_LABELS, decisive, surgery_table

_COLUMNS = {
    **{("shock", factor): f"shocked\nlr × {factor}" for factor in (1, 3, 10)},
    ("shield", 0): "bounded\nalone",
    ("shield-blocks-but", 0): "blocks bounded\nbut this",
    ("put-back", 0): "put back late,\nblocks bounded",
}
_PATIENTS = {
    ("adamw-warmup", "none", "none"): "all warmed up",
    ("adamw", "none", "none"): "no warmup",
    ("adamw", "shield", "blocks"): "blocks bounded",
}
"""Arm, operation and group of runs without an operation on a single group → their name in the chart."""


def surgery_chart(frame: pd.DataFrame, reference: Baseline) -> Picture:
    """Final losses by group and operation, mean over seeds, with the number of runs that learnt.

    `course_lib.studies.surgery.surgery_table` says which columns the runs of one preset need.
    """
    table = surgery_table(frame)
    single = table[table["group"].isin(GROUPS)].fillna({"factor": 0})
    cells = single.set_index(["group", "operation", "factor"])
    groups = [group for group in GROUPS if group in set(table["group"])]
    shown = [column for column in _COLUMNS if any((group, *column) in cells.index for group in groups)]
    figure, ((axis,),) = panels(1.45 * len(shown) + 2.6, 0.5 * len(groups) + 1.9)
    place = pd.MultiIndex.from_tuples([(group, *column) for group in groups for column in shown])
    placed = cells.reindex(place)
    low, high = frame["final_val_loss"].min(), frame["final_val_loss"].max()
    losses = placed["loss"].to_numpy().reshape(len(groups), len(shown))
    axis.imshow(losses, cmap="cividis_r", vmin=low, vmax=high, aspect="auto")
    for i, (loss, learnt, runs) in enumerate(placed[["loss", "learnt", "runs"]].to_numpy()):
        if pd.notna(loss):
            style = {
                "color": "white" if loss > (low + high) / 2 else "black",
                "fontweight": "bold" if loss < reference.loss else "normal",
            }
            text = f"{loss:.2f}  ({learnt:.0f}/{runs:.0f})"
            axis.text(i % len(shown), i // len(shown), text, ha="center", va="center", fontsize=9, **style)
    axis.set_xticks(range(len(shown)), [_COLUMNS[column] for column in shown])
    axis.set_yticks(range(len(groups)), [GROUP_LABELS[group] for group in groups])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    patients = table.set_index(["arm", "operation", "group"])["loss"]
    edges = [f"{name}: {patients[key]:.2f}" for key, name in _PATIENTS.items() if key in patients.index]
    label(axis, "operation\n" + "; ".join(edges), "group")
    facts = []
    for row in table.itertuples():
        what = TREATMENTS[row.arm] if row.operation == "none" else f"{row.operation} {row.group}"
        factor = "" if pd.isna(row.factor) else f" × {row.factor:g}"
        facts.append(f"{what}{factor} {row.loss:.2f} nats, {row.learnt} of {row.runs} learnt")
    alt = "Mean final loss by group and operation. " + "; ".join(facts) + "."
    return finish(figure, surgery_finding(table), alt)


def surgery_finding(table: pd.DataFrame) -> str:
    """Say which shock alone, at lr × 1, wrecks all runs, and which bound alone saves all."""
    wreck = [GROUP_LABELS[group] for group in decisive(table, "shock", learnt=False)]
    save = [GROUP_LABELS[group] for group in decisive(table, "shield", learnt=True)]
    first = "no shock at lr × 1 wrecks all runs"
    if wreck:
        first = f"shocking {' or '.join(wreck)} alone, at lr × 1, wrecks every run"
    second = "no single bound saves them all"
    if save:
        second = f"bounding {' or '.join(save)} alone saves every run"
    return f"{first}; {second}"
