"""Rows of dots, one for each run or draw: final losses, first steps, shares."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.figures.palette import ARM_COLORS, LAYER_COLORS, REFERENCE_COLOR, arm_style, styled
from course_lib.figures.picture import Picture, Values, finish, label, legend, legend_below, listed, panels
from course_lib.figures.sweeps import step_scale
from course_lib.studies.alarms import ALARMS, first_reliable, track_record
from course_lib.studies.arms import ARMS, LABELS, TREATMENTS
from course_lib.studies.coverage import PARTS, coverage_name


def _loss_rows(
    losses_of: Mapping[str, pd.Series],
    colors: Mapping[str, str],
    lines: Mapping[str, float],
    height: float,
    what: str,
) -> tuple[Figure, Axes, list[str]]:
    """Draw a row of final losses for each name, lowest mean on top, and return the names in that order."""
    names = sorted(losses_of, key=lambda name: losses_of[name].mean())
    figure, ((axis,),) = panels(9.2, height * len(names) + 1.7)
    for row, name in enumerate(names):
        values, color = losses_of[name], colors[name]
        axis.plot(values, [row] * len(values), "o", color=color, alpha=0.7, markersize=7)
        axis.plot(values.mean(), row, "|", color=color, markersize=18, markeredgewidth=2)
    for name, value in lines.items():
        axis.axvline(value, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
        axis.text(value, -0.75, f" {name}", color=REFERENCE_COLOR, fontsize=9, va="bottom")
    _row_names(axis, names, (len(names) - 0.5, -0.8))
    label(axis, "validation loss at the last step (nats); a dot is a seed, a bar the mean", what)
    return figure, axis, names


def _never(axis: Axes, names: list[str], end: float, never: float) -> None:
    """Name the rows, the first at the top, and label the column of what never happened."""
    axis.axvline(end, color=REFERENCE_COLOR, linewidth=1, linestyle=":")
    axis.text(never, len(names) - 0.45, "never", color=REFERENCE_COLOR, fontsize=9, ha="center")
    _row_names(axis, names[::-1], (-0.6, len(names) - 0.2))


def _row_names(axis: Axes, names: Sequence[str], limits: tuple[float, float]) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(*limits)
    axis.grid(axis="y", color="#e5e5e5")


def controls_chart(
    frame: pd.DataFrame, compare: tuple[str, str], lines: Mapping[str, float], here: Mapping[str, float]
) -> Picture:
    """Final losses of arms, one dot per seed, lowest mean at the top.

    Args:
        frame: columns `arm` (of the registry), `seed`, `final_val_loss`.
        compare: two arms that the title compares.
        lines: name → loss of a line to draw.
        here: arm → loss of a run made just now, drawn as a star.
    """
    losses_of = {TREATMENTS[arm]: rows["final_val_loss"] for arm, rows in frame.groupby("arm")}
    colors = {TREATMENTS[arm]: ARMS[arm].colour for arm in ARMS}
    figure, axis, names = _loss_rows(losses_of, colors, lines, 0.36, "arm")
    for arm, loss in here.items():
        star: dict[str, Any] = {"markersize": 15, "markeredgecolor": "white", "label": "made just now"}
        axis.plot(loss, names.index(TREATMENTS[arm]), "*", color=LAYER_COLORS[1], **star)
    if here:
        legend(axis, "lower left")
    compared = [TREATMENTS[arm] for arm in compare]
    a, b = (losses_of[name] for name in compared)
    verb = "ends above" if a.min() > b.max() else "ends below" if a.max() < b.min() else "overlaps"
    title = f"“{compared[0]}” {verb} “{compared[1]}” (means {a.mean():.2f} and {b.mean():.2f})"
    facts = "; ".join(f"{name} {losses_of[name].mean():.2f}" for name in names)
    return finish(figure, title, f"Final losses by arm, mean over seeds: {facts}.")


def first_signs(signs: pd.DataFrame, steps: int) -> Picture:
    """When each sign was first seen, one row per sign, one mark per arm.

    `signs` has a row per sign and a column per arm: the first step, missing if none of `steps` showed it.
    """
    figure, ((axis,),) = panels(8.4, 0.5 * len(signs) + 1.6)
    rows = np.arange(len(signs))[::-1]
    for i, (column, style) in enumerate(styled(signs)):
        shift = 0.14 * (i - (signs.shape[1] - 1) / 2)
        seen = column.notna().to_numpy()
        values = column.fillna(steps).astype(float).to_numpy()
        axis.plot(values[seen], rows[seen] - shift, "o", markersize=8, **style | {"linestyle": ""})
        axis.plot(values[~seen], rows[~seen] - shift, "x", color=style["color"], markersize=8)
    _never(axis, list(map(str, signs.index)), steps - 0.5, steps)
    legend_below(figure, signs.shape[1])
    label(axis, "step at which it was first seen", "sign")
    first = str(signs.columns[0])
    title = f"{LABELS.get(first, first)}: {_first_finding(signs[first], steps)}"
    when = signs.map(lambda step: "never" if pd.isna(step) else f"step {step:.0f}")
    when = when.rename(columns=LABELS).T
    facts = "; ".join(
        f"{sign}: {', '.join(f'{arm} {step}' for arm, step in when[sign].items())}" for sign in when
    )
    return finish(figure, title, f"First step of each sign. {facts}.")


def _first_finding(seen: "pd.Series[int]", steps: int) -> str:
    if seen.isna().all():
        return f"none of the signs was seen in {steps} steps"
    first = [f"“{sign}”" for sign in seen.index[(seen == seen.min()).fillna(False)]]
    return f"{listed(first)} {'comes' if len(first) == 1 else 'come'} first, at step {seen.min():.0f}"


def which_matrices(frame: pd.DataFrame, chosen: Collection[str], line: tuple[str, float]) -> Picture:
    """Final losses by what is bounded, lowest mean at the top, with one choice in colour.

    Args:
        frame: columns of `PARTS` (whether each is bounded), `seed`, `final_val_loss`.
        chosen: parts in the order of `PARTS`.
        line: a reference line's name and loss in nats.
    """
    runs = {
        coverage_name(part for part, bounded in zip(PARTS, covered, strict=True) if bounded): rows
        for covered, rows in frame.groupby(list(PARTS))["final_val_loss"]
    }
    name = coverage_name(chosen)
    colors = dict.fromkeys(runs, "#b0b0b0") | {name: ARM_COLORS["adamw2"]}
    figure, axis, names = _loss_rows(runs, colors, {line[0]: line[1]}, 0.29, "bounded")
    axis.get_yticklabels()[names.index(name)].set_fontweight("bold")
    title = (
        f"Bound on {name}: {runs[name].mean():.2f}, place {names.index(name) + 1} of {len(names)}; "
        f"best on {names[0]} ({runs[names[0]].mean():.2f})"
    )
    facts = "; ".join(f"{other} {runs[other].mean():.2f}" for other in names)
    return finish(figure, title, f"Mean final loss by what is bounded: {facts}.")


def growth_shares(shares: Mapping[str, Values]) -> Picture:
    """How much of the growth that Weyl allows was used: one row of dots per kind of update.

    `shares` has draws of (σ₁(W − αΔW) − σ₁(W)) / (ασ₁(ΔW)) for each arm or other name.
    """
    figure, ((axis,),) = panels(8.4, 0.55 * len(shares) + 1.7)
    names = [LABELS.get(arm, arm) for arm in shares]
    for row, (arm, values) in enumerate(shares.items()):
        color = ARMS[arm].colour if arm in ARMS else REFERENCE_COLOR
        axis.plot(values, np.full(len(values), row), "o", color=color, alpha=0.25, markersize=6)
        axis.plot(np.median(values), row, "|", color=color, markersize=22, markeredgewidth=3)
    for edge in (-1, 1):
        axis.axvline(edge, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
    axis.set_yticks(range(len(names)), names)
    limits: dict[str, Any] = {"xlim": (-1.08, 1.08), "ylim": (len(names) - 0.5, -0.5)}
    label(axis, "growth of σ₁, as a share of what Weyl allows (bar: median)", "update", **limits)
    facts = [f"{np.median(v):.2f} ({name})" for name, v in zip(names, shares.values(), strict=True)]
    most = max(float(np.abs(values).max()) for values in shares.values())
    kept = "None exceeds what Weyl allows" if most <= 1 + 1e-4 else "Some exceed what Weyl allows"
    title = f"{kept}; median share used {listed(facts)}"
    return finish(figure, title, f"Dots between −1 and 1, one row per kind of update. {title}.")


def warning_chart(warnings: pd.DataFrame, steps: int) -> Picture:
    """When each alarm first went off, one mark per run, and when the losses of failed runs stalled.

    `course_lib.studies.alarms.warnings_of` makes the table; `steps` is the length of a run.
    """
    names = {**{name: alarm.label for name, alarm in ALARMS.items()}, "stall": "the loss stalls"}
    figure, ((axis,),) = panels(9.2, 0.5 * len(names) + 1.9)
    rows = np.arange(len(names))[::-1]
    never = steps * 1.5
    arms = list(warnings["arm"].unique())
    for i, arm in enumerate(arms):
        own = warnings[warnings["arm"] == arm]
        offsets = 0.13 * ((len(arms) - 1) / 2 - i) + 0.025 * (np.arange(len(own)) - (len(own) - 1) / 2)
        style = arm_style(arm, i)
        color = style["color"]
        for name, row in zip(names, rows, strict=True):
            seen = own[name].astype("float").to_numpy()
            if name == "stall":
                offsets, seen = offsets[~own["learnt"]], seen[~own["learnt"]]
            missing = np.isnan(seen)
            axis.plot(seen[~missing], (row + offsets)[~missing], "o", color=color, alpha=0.7, markersize=6)
            axis.plot(np.full(missing.sum(), never), (row + offsets)[missing], "x", color=color, markersize=5)
        axis.plot([], [], "o", color=color, label=style["label"])
    step_scale(axis, steps)
    axis.set_xlim(-0.2, never * 1.3)
    _never(axis, list(names.values()), steps, never)
    legend_below(figure, len(arms))
    label(axis, "step of the first alarm; a mark is a run", "")
    record = track_record(warnings)
    facts = [
        f"{name}: before the stall in {row['caught']:.0%} of the failed runs, "
        f"false alarm in {row['false alarms']:.0%} of those that learn"
        for name, row in record.iterrows()
    ]
    return finish(figure, warning_finding(record), "First alarms. " + "; ".join(facts) + ".")


def warning_finding(record: pd.DataFrame) -> str:
    """Name the earliest alarm that catches every failed run and disturbs none that learns."""
    first = first_reliable(record)
    if first.empty:
        return "No alarm catches every failed run in time and keeps still in all that learn"
    step, lead = first[["step", "lead"]].iloc[0]
    return (
        f"first to tell without a false alarm: {listed(list(first.index))}, "
        f"at step {step:.0f}, {lead:.0f} before the loss stalls (medians)"
    )
