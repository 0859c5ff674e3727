"""Pictures of rescues, alarms and surgery: their titles follow from the data."""

import numpy as np
import pandas as pd
import pytest

from course_lib.data import Baseline
from course_lib.figures.dot_rows import warning_chart
from course_lib.figures.heat_table import surgery_chart
from course_lib.figures.sweeps import rescue_chart
from course_lib.studies.alarms import ALARMS

LINE = Baseline("bigram", 2.3)
SHOCK_QK, SHOCK_MLP = ("shock", "qk", 1), ("shock", "mlp", 1)
SHIELD_QK, SHIELD_MLP = ("shield", "qk", None), ("shield", "mlp", None)


def trials(borders, cure="bound"):
    """Trials of one cure: seed → last step saved, -1 for none."""
    return pd.DataFrame(
        [
            {"cure": cure, "seed": seed, "step": t, "saved": t <= border, "loss": 2.0 if t <= border else 2.5}
            for seed, border in borders.items()
            for t in (0, 1, 2, 10, 100)
        ]
    )


@pytest.mark.parametrize(
    ("borders", "words"),
    [
        ({0: 1, 1: 2}, "step 1 to 2 (2 seeds)"),
        ({0: 1}, "step 1 (1 seed)"),
        ({0: -1, 1: -1}, "none (2 seeds)"),
        ({0: -1, 1: 10}, "step 10 (2 seeds, 1 never saved)"),
    ],
)
def test_a_rescue_chart_names_the_last_step_of_each_cure(borders, words):
    picture = rescue_chart(pd.concat([trials(borders), trials({0: 10}, "lr")]), LINE, {"warmup": 1.9})
    assert f"τ = 0.05: {words}" in picture.title
    assert "lr × 0.1: step 10" in picture.title
    assert words in picture.alt
    assert picture.png()


def test_a_rescue_chart_tells_outcomes_that_are_out_of_order():
    mixed = trials({0: 10, 1: 1})
    mixed.loc[1, "saved"] = False
    assert "step 1 to 10 (2 seeds, 1 out of order)" in rescue_chart(mixed, LINE).title


def warnings(**columns):
    rows = {"arm": ["adamw", "adamw2"], "seed": [0, 0], "learnt": [False, True], "stall": [50, None]}
    rows |= {name: columns.get(name, [None, None]) for name in ALARMS}
    return pd.DataFrame(rows).astype(dict.fromkeys(["stall", *ALARMS], "Int64"))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"rho_applied": [1, None], "score": [3, 20]},
            "First to tell without a false alarm: ρ of a W_q or W_k, at step 1",
        ),
        ({"rho_applied": [1, None]}, "49 before the loss stalls"),
        ({"score": [3, 20]}, "No alarm catches every failed run"),
        ({"score": [60, None]}, "No alarm catches every failed run"),
        ({"score": [4, None], "sigma": [4, None]}, "start and largest score, at step 4"),
    ],
)
def test_a_warning_chart_names_the_first_alarm_that_is_never_false(columns, words):
    picture = warning_chart(warnings(**columns), steps=300)
    assert words in picture.title
    assert picture.png()


def test_a_warning_chart_draws_a_mark_for_every_run_and_alarm_and_stall():
    (axis,) = warning_chart(warnings(rho_applied=[1, None], score=[3, 20]), steps=300).figure.axes
    marks = sum(len(line.get_xdata()) for line in axis.lines if line.get_marker() in "ox")
    assert marks == 2 * len(ALARMS) + 1


def surgery(losses):
    return pd.DataFrame(
        [
            {"operation": operation, "group": group, "factor": factor, "seed": seed, "final_val_loss": loss}
            for (operation, group, factor), values in losses.items()
            for seed, loss in enumerate(values)
        ]
    ).assign(arm="adamw", learnt=lambda f: f["final_val_loss"] < LINE.loss)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (
            {SHOCK_QK: [2.5, 2.6], SHIELD_QK: [1.0, 1.1]},
            "shocking W_q, W_k alone, at lr × 1, wrecks every run",
        ),
        (
            {("shock", "qk", 1): [2.5, 1.0], ("shield", "qk", None): [1.0, 1.1]},
            "no shock at lr × 1 wrecks all runs",
        ),
        (
            {("shock", "mlp", 1): [2.5, 2.5], ("shield", "mlp", None): [1.0, 2.6]},
            "no single bound saves them all",
        ),
        (
            {("shock", "mlp", 1): [2.5, 2.5], ("shield", "mlp", None): [1.0, 1.6]},
            "bounding MLPs alone saves every run",
        ),
    ],
)
def test_a_surgery_chart_names_who_wrecks_and_whose_bound_saves(losses, words):
    picture = surgery_chart(surgery(losses), LINE)
    assert words.lower() in picture.title.lower()
    assert f"{np.mean(next(iter(losses.values()))):.2f}" in picture.alt
    assert picture.png()


def test_a_surgery_chart_has_a_cell_for_each_operation_and_names_the_patients_below():
    frame = surgery({("none", "none", None): [2.5], SHOCK_QK: [2.4], SHIELD_MLP: [1.5]})
    patients = frame[:1].assign(arm="adamw-warmup", final_val_loss=1.0)
    blocks = frame[:1].assign(operation="shield", group="blocks", final_val_loss=1.2)
    (axis,) = surgery_chart(pd.concat([frame, patients, blocks]), LINE).figure.axes
    assert [text.get_text() for text in axis.texts] == ["2.40  (0/1)", "1.50  (1/1)"]
    assert axis.get_xlabel() == "operation\nall warmed up: 1.00; no warmup: 2.50; blocks bounded: 1.20"
