"""Early warning: which probe raises an alarm first, and which one keeps still in runs that learn?

Alarms are read from records after a run. A probe raises its alarm when it first passes a threshold, which the
reader can move. An alarm is useful if it comes before the loss stalls and keeps still in runs that learn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from course_lib import checks
from course_lib.extras import pandas as pd
from course_lib.probes import SEC_DIRECTIONS
from course_lib.runs.records import losses, mean_over_heads, probed
from course_lib.runs.run import Run
from course_lib.runs.verdict import WINDOW

STALL_MARGIN = 0.1
"""Nats by which the loss of a stalled run may still fall."""


@dataclass(frozen=True)
class Alarm:
    """The alarm of a probe."""

    label: str
    """Name in plots and beside sliders."""
    threshold: float
    """Default threshold."""
    range: tuple[float, float]
    """Range of a slider of thresholds."""
    above: bool = True
    """True if it goes off above its threshold, False if below."""
    relative: bool = False
    """True if the threshold is a multiple of the first value."""


ALARMS = {
    "rho_applied": Alarm("ρ of a W_q or W_k", 1.0, (0.05, 5.0)),
    "sigma": Alarm("σ₁(W_qᵀW_k), × its start", 5.0, (1.1, 1000.0), relative=True),
    "score": Alarm("largest score", 10.0, (0.5, 500.0)),
    "sec": Alarm(f"SEC({SEC_DIRECTIONS}) of W_qᵀW_k", 0.8, (0.4, 1.0)),
    "entropy": Alarm("entropy of the sharpest layer", 0.5, (0.01, 1.0), above=False),
    "lowest_rank": Alarm("lowest rank of a layer, × uniform", 0.5, (0.05, 1.2), above=False),
}
"""Column of `signals` → its alarm."""


def signals(run: Run) -> pd.DataFrame:
    """The values that alarms watch, one row per step; NaN where a step was not probed.

    Columns: `loss` (nats); `rho_applied`, the largest ρ of any W_q or W_k in the next step; `sigma`, the
    largest σ₁(W_qᵀW_k); `score`, the largest score; `sec`, the largest SEC; `entropy` of the sharpest layer,
    and that layer's `rank` as a multiple of its reference; `lowest_rank`, the lowest rank of a layer.
    """
    table = pd.DataFrame({"loss": losses(run.records)})
    table.index = pd.Index([record.step for record in run.records], name="step")
    steps, entropies = probed(run.records, "entropy")
    if not len(steps):
        return table.assign(**dict.fromkeys([*ALARMS, "rank"], np.nan))
    layers = mean_over_heads(entropies)
    ranks = mean_over_heads(probed(run.records, "attention_rank")[1]) / np.array(run.reference_ranks)
    sharpest = np.where(np.isnan(layers), np.inf, layers).argmin(1)
    columns = {
        "entropy": np.fmin.reduce(layers, axis=1),
        "rank": ranks[range(len(steps)), sharpest],
        "lowest_rank": ranks.min(1),
    }
    for column, quantity in {"sigma": "qk_sigma", "score": "max_logit", "sec": "qk_sec"}.items():
        columns[column] = np.fmax.reduce(probed(run.records, quantity)[1], axis=(1, 2))
    for column, values in columns.items():
        table[column] = pd.Series(values, index=steps)
    qk = [i for i, name in enumerate(run.matrices) if "w_q" in name or "w_k" in name]
    ratio_steps, ratios = probed(run.records, "rho_applied")  # none after the last update
    table["rho_applied"] = pd.Series(ratios[:, qk].max(1), index=ratio_steps)
    return table


def first_alarms(table: pd.DataFrame, thresholds: Mapping[str, float] | None = None) -> "pd.Series[int]":
    """The step at which each alarm first goes off, missing if it never does.

    The other signals of a row are seen before the step, ρ is that of the step itself. Its alarm therefore
    counts from the next step on.

    Args:
        table: from `signals`.
        thresholds: column → threshold, where it differs from `ALARMS`.

    Raises:
        ValueError: a threshold has no alarm, or is no positive number.
    """
    own = thresholds or {}
    for name, value in own.items():
        checks.choice("threshold", name, ALARMS)
        checks.number(f"threshold of {name!r}", value)
    first: dict[str, int | None] = {}
    for name, alarm in ALARMS.items():
        values = table[name].dropna()
        threshold = own.get(name, alarm.threshold)
        if alarm.relative and len(values):
            values = values / values.iloc[0]
        off = values.index[(values > threshold) if alarm.above else (values < threshold)]
        first[name] = int(off[0]) + (name == "rho_applied") if len(off) else None
    return pd.Series(first, dtype="Int64")


def stall_step(
    curve: Sequence[float] | npt.NDArray[np.float64], margin: float = STALL_MARGIN, window: int = WINDOW
) -> int:
    """The first step from which the loss, a mean over `window` steps, never again falls by `margin`.

    This takes hindsight: only a finished run shows that its loss did not fall again.
    """
    values = np.asarray(curve, dtype=np.float64)
    if not len(values):
        raise ValueError("curve is empty: expected at least one loss; make a step first")
    width = min(window, len(values))
    means = np.convolve(values, np.ones(width) / width, mode="valid")
    falls = means - np.minimum.accumulate(means[::-1])[::-1]  # by how much the loss still falls from there
    largest_ahead = np.maximum.accumulate(falls[::-1])[::-1]
    return int(np.argmax(largest_ahead <= margin))


def signals_of(runs: Mapping[tuple[str, int], Run]) -> pd.DataFrame:
    """The signals of many runs, given as (arm, seed) → run, in one table with a row per probed step.

    Its further columns are arm, seed, `learnt`, as the run is judged now, and `stall`, the step at which the
    loss stalled (`stall_step`), missing for a run that has learnt.
    """
    tables = []
    for (arm, seed), run in runs.items():
        learnt = run.verdict().learnt
        stall = np.nan if learnt else stall_step(losses(run.records))
        table = signals(run).dropna(subset="score").reset_index()
        tables.append(table.assign(arm=arm, seed=seed, learnt=learnt, stall=stall))
    return pd.concat(tables, ignore_index=True)


def warnings_of(table: pd.DataFrame, thresholds: Mapping[str, float] | None = None) -> pd.DataFrame:
    """When the loss of each run of a table of `signals_of` stalled, and when its alarms first went off.

    There is one row per run, with the columns arm, seed, learnt, stall, and one per alarm (`first_alarms`).
    """
    rows = []
    for (arm, seed), run in table.groupby(["arm", "seed"], sort=False):
        outcome = run[["learnt", "stall"]].iloc[0]
        alarms = first_alarms(run.set_index("step"), thresholds)
        rows.append({"arm": arm, "seed": seed, **outcome, **alarms})
    frame = pd.DataFrame(rows, columns=["arm", "seed", "learnt", "stall", *ALARMS])
    return frame.astype({"learnt": bool, **dict.fromkeys(["stall", *ALARMS], "Int64")})


def track_record(warnings: pd.DataFrame) -> pd.DataFrame:
    """How reliable each alarm is, one row per alarm, from a table of `warnings_of`.

    Columns: `caught`, the share of failed runs in which it went off before the loss stalled; `false alarms`,
    the share of the runs that learnt in which it went off; `step`, the median over the failed runs in which
    it went off; `lead`, the median number of steps from there to the stall.
    """
    failed, learnt = warnings[~warnings["learnt"]], warnings[warnings["learnt"]]
    rows = {}
    for name, alarm in ALARMS.items():
        lead = failed["stall"] - failed[name]
        rows[alarm.label] = {
            "caught": float((lead > 0).fillna(False).mean()) if len(failed) else np.nan,
            "false alarms": float(learnt[name].notna().mean()) if len(learnt) else np.nan,
            "step": float(failed[name].astype("float").median()),
            "lead": float(lead.astype("float").median()),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def first_reliable(record: pd.DataFrame) -> pd.DataFrame:
    """Rows of `track_record` of the earliest alarms that catch every failed run, without a false alarm."""
    good = record[(record["caught"] == 1) & (record["false alarms"] == 0)]
    return good[good["step"] == good["step"].min()]
