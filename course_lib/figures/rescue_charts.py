"""Pictures of rescues, of alarms and of surgery."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from course_lib.data import Baseline
from course_lib.figures.palette import ARM_COLORS, LAYER_COLORS, REFERENCE_COLOR
from course_lib.figures.picture import Picture, finish, label, listed, panels
from course_lib.models import GROUPS
from course_lib.studies.alarms import ALARMS, track_record
from course_lib.studies.arms import LABELS

GROUP_LABELS = {
    "qk": "W_q, W_k",
    "vo": "W_v, W_o",
    "mlp": "MLPs",
    "embedding": "embeddings",
    "head": "head",
    "norm": "norms",
}


# --- rescue -------------------------------------------------------------------------------------


CURES = (
    "τ = 0.05",
    "τ = 0.05, W_q and W_k put back",
    "warmup of 100",
    "τ = 0.05, given a whole run",
    "lr × 0.1",
)
"""The cures of the records: each has the same colour in every chart."""


def rescue_chart(
    trials: pd.DataFrame, reference: Baseline, lines: Mapping[str, float] | None = None
) -> Picture:
    """Where runs end against the step at which they were cured, one colour per cure.

    Args:
        trials: columns cure, seed, step, saved, loss, such as `Rescue.frame` with two columns more.
        reference: the line below which a run has learnt.
        lines: name → loss of further lines to draw.
    """
    figure, ((axis,),) = panels(9.2, 4.2)
    cures = list(trials["cure"].unique())
    for i, cure in enumerate(cures):
        color = _cure_color(cure, i)
        own = trials[trials["cure"] == cure]
        # Cures side by side, by some hundredths of a decade.
        own = own.assign(step=own["step"] * 1.06**i + (own["step"] == 0) * 0.04 * i)
        for _, run in own.sort_values("step").groupby("seed"):
            axis.plot(run["step"], run["loss"], color=color, linewidth=0.8, alpha=0.4)
        for saved, face in ((True, color), (False, "white")):
            part = own[own["saved"] == saved]
            name = cure if saved or own["saved"].sum() == 0 else None
            axis.plot(
                part["step"], part["loss"], "o", color=color, markerfacecolor=face,
                markersize=7, label=name,
            )  # fmt: skip
    for name, value in {reference.name: reference.loss, **(lines or {})}.items():
        axis.axhline(value, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
        axis.annotate(
            name, (1, value), xytext=(4, 0), xycoords=("axes fraction", "data"), va="center",
            textcoords="offset points", color=REFERENCE_COLOR, fontsize=9, annotation_clip=False,
        )  # fmt: skip
    _step_scale(axis, float(trials["step"].max()))
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=4)
    label(axis, "step at which the cure begins", "validation loss at the end (nats)")
    facts = [f"{cure}: {_borders(trials[trials['cure'] == cure])}" for cure in cures]
    alt = "Final loss against the step of the cure; filled dots have learnt. " + "; ".join(facts) + "."
    return finish(figure, "Last step in time. " + "; ".join(facts), alt)


def _cure_color(cure: str, place: int) -> str:
    return LAYER_COLORS[CURES.index(cure) if cure in CURES else place % len(LAYER_COLORS)]


def _borders(trials: pd.DataFrame) -> str:
    """The last step saved, of each seed: "2 to 5 (5 seeds)"."""
    last = [run.loc[run["saved"], "step"].max() for _, run in trials.groupby("seed")]
    known = [int(step) for step in last if not pd.isna(step)]
    seeds = f"{len(last)} seed{'s' * (len(last) != 1)}"
    if not known:
        return f"none ({seeds})"
    span = f"{min(known)}" if min(known) == max(known) else f"{min(known)} to {max(known)}"
    lost = len(last) - len(known)
    mixed = sum(not _in_order(run) for _, run in trials.groupby("seed"))
    seeds += f", {lost} never saved" if lost else ""
    seeds += f", {mixed} out of order" if mixed else ""
    return f"step {span} ({seeds})"


def _in_order(trials: pd.DataFrame) -> bool:
    """Whether all that were saved come before all that were lost."""
    saved = trials["saved"]
    return saved.all() or not saved.any() or trials["step"][saved].max() < trials["step"][~saved].min()


def _step_scale(axis: Axes, last: float) -> None:
    """Steps from 0 on a scale that spreads the first ones."""
    axis.set_xscale("symlog", linthresh=1, linscale=0.4)
    ticks = [t for t in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500) if t <= last]
    axis.set_xticks(ticks, [str(t) for t in ticks])
    axis.minorticks_off()
    axis.set_xlim(-0.2, last * 1.15)


# --- alarms -------------------------------------------------------------------------------------


def warning_chart(warnings: pd.DataFrame, steps: int) -> Picture:
    """When each alarm first went off, one mark per run, and when the losses of failed runs stalled.

    Args:
        warnings: of `course_lib.studies.alarms.warnings_of`.
        steps: of a whole run.
    """
    names = {**{name: alarm.label for name, alarm in ALARMS.items()}, "stall": "the loss stalls"}
    figure, ((axis,),) = panels(9.2, 0.5 * len(names) + 1.9)
    rows = np.arange(len(names))[::-1]
    never = steps * 1.5
    arms = list(warnings["arm"].unique())
    for i, arm in enumerate(arms):
        own = warnings[warnings["arm"] == arm]
        offsets = 0.13 * ((len(arms) - 1) / 2 - i) + 0.025 * (np.arange(len(own)) - (len(own) - 1) / 2)
        color = ARM_COLORS.get(arm, LAYER_COLORS[i])
        for name, row in zip(names, rows, strict=True):
            seen = own[name].astype("float").to_numpy()
            if name == "stall":
                offsets, seen = offsets[~own["learnt"]], seen[~own["learnt"]]
            missing = np.isnan(seen)
            axis.plot(seen[~missing], (row + offsets)[~missing], "o", color=color, alpha=0.7, markersize=6)
            axis.plot(np.full(missing.sum(), never), (row + offsets)[missing], "x", color=color, markersize=5)
        axis.plot([], [], "o", color=color, label=LABELS.get(arm, arm))
    _step_scale(axis, steps)
    axis.set_xlim(-0.2, never * 1.3)
    axis.axvline(steps, color=REFERENCE_COLOR, linewidth=1, linestyle=":")
    axis.text(never, len(names) - 0.45, "never", color=REFERENCE_COLOR, fontsize=9, ha="center")
    axis.set_yticks(rows, names.values())
    axis.set_ylim(-0.6, len(names) - 0.2)
    axis.grid(axis="y", color="#e5e5e5")
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=len(arms))
    label(axis, "step of the first alarm; a mark is a run", "")
    record = track_record(warnings)
    facts = [
        f"{name}: before the stall in {row['caught']:.0%} of the failed runs, "
        f"false alarm in {row['false alarms']:.0%} of those that learn"
        for name, row in record.iterrows()
    ]
    return finish(figure, warning_finding(record), "First alarms. " + "; ".join(facts) + ".")


def warning_finding(record: pd.DataFrame) -> str:
    """The title: the earliest alarm that catches every failed run and disturbs none that learns."""
    good = record[(record["caught"] == 1) & (record["false alarms"] == 0)]
    if good.empty:
        return "No alarm catches every failed run in time and keeps still in all that learn"
    first = good[good["step"] == good["step"].min()]
    step, lead = first[["step", "lead"]].iloc[0]
    return (
        f"first to tell without a false alarm: {listed(list(first.index))}, "
        f"at step {step:.0f}, {lead:.0f} before the loss stalls (medians)"
    )


# --- surgery ------------------------------------------------------------------------------------


def surgery_chart(frame: pd.DataFrame, reference: Baseline) -> Picture:
    """Final losses by group and operation, mean over seeds, with the number of runs that learnt.

    Args:
        frame: columns arm (of `experiments/surgery.py`), seed, final_val_loss, learnt; of one preset.
        reference: the line below which a run has learnt.
    """
    operations = {
        **{f"shock {{}} × {k}": f"shocked\nlr × {k}" for k in (1, 3, 10)},
        "shield {}": "bounded\nalone",
        "shield the blocks but {}": "blocks bounded\nbut this",
        "put back {}": "put back late,\nblocks bounded",
    }
    by_arm = dict(iter(frame.groupby("arm")))
    groups = [g for g in GROUPS if any(op.format(g) in by_arm for op in operations)]
    shown = [op for op in operations if any(op.format(g) in by_arm for g in groups)]
    figure, ((axis,),) = panels(1.45 * len(shown) + 2.6, 0.5 * len(groups) + 1.9)
    values = np.full((len(groups), len(shown)), np.nan)
    for i, group in enumerate(groups):
        for j, operation in enumerate(shown):
            runs = by_arm.get(operation.format(group))
            if runs is not None:
                values[i, j] = runs["final_val_loss"].mean()
    low, high = frame["final_val_loss"].min(), frame["final_val_loss"].max()
    axis.imshow(values, cmap="cividis_r", vmin=low, vmax=high, aspect="auto")
    for i, j in zip(*np.nonzero(~np.isnan(values)), strict=True):
        runs = by_arm[shown[j].format(groups[i])]
        text = f"{values[i, j]:.2f}  ({runs['learnt'].sum()}/{len(runs)})"
        style = {
            "color": "white" if values[i, j] > (low + high) / 2 else "black",
            "fontweight": "bold" if values[i, j] < reference.loss else "normal",
        }
        axis.text(j, i, text, ha="center", va="center", fontsize=9, **style)
    axis.set_xticks(range(len(shown)), [operations[op] for op in shown])
    axis.set_yticks(range(len(groups)), [GROUP_LABELS[g] for g in groups])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    edges = [
        f"{name}: {by_arm[arm]['final_val_loss'].mean():.2f}"
        for arm, name in _PATIENTS.items()
        if arm in by_arm
    ]
    label(axis, "operation\n" + "; ".join(edges), "group")
    title = surgery_finding(by_arm)
    cells = [
        f"{arm} {runs['final_val_loss'].mean():.2f} nats, {runs['learnt'].sum()} of {len(runs)} learnt"
        for arm, runs in by_arm.items()
    ]
    return finish(figure, title, "Mean final loss by group and operation. " + "; ".join(cells) + ".")


_PATIENTS = {
    "warmup on everything": "all warmed up",
    "no warmup at all": "no warmup",
    "shield the blocks": "blocks bounded",
}
"""Arm without an operation on a single group → how the chart calls it."""


def surgery_finding(by_arm: Mapping[str, pd.DataFrame]) -> str:
    """The title: which shock alone, at lr × 1, wrecks all runs, which bound alone saves all."""

    def those(operation: str, learnt: bool) -> list[str]:
        arms = {g: by_arm.get(operation.format(g)) for g in GROUPS}
        return [
            GROUP_LABELS[g]
            for g, runs in arms.items()
            if runs is not None and (runs["learnt"] == learnt).all()
        ]

    wreck, save = those("shock {} × 1", learnt=False), those("shield {}", learnt=True)
    first = (
        f"shocking {' or '.join(wreck)} alone, at lr × 1, wrecks every run"
        if wreck
        else "no shock at lr × 1 wrecks all runs"
    )
    second = (
        f"bounding {' or '.join(save)} alone saves every run" if save else "no single bound saves them all"
    )
    return f"{first}; {second}"
