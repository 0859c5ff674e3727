"""The records that notebook 05 reads are whole, and are those of the command that makes them."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from course_lib import preset
from course_lib.exercises.nb05 import _SUPPORTED, TAMING_CLAIMS
from course_lib.studies.coverage import PARTS
from course_lib.studies.results import read_results
from course_lib.studies.sensitivity import sensitivity_table

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
BIGRAM = 2.261


@pytest.fixture(scope="module")
def taming():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXPERIMENTS)
        yield import_module("taming")


@pytest.fixture(scope="module")
def rows():
    return read_results("taming")


def mean(rows, table, arm, lr=None):
    found = rows[(rows["table"] == table) & (rows["arm"] == arm)]
    return found[found["lr"] == lr]["final_val_loss"].mean() if lr else found["final_val_loss"].mean()


def covering(rows, *parts):
    found = rows[rows["table"] == "which"]
    return found[(found[list(PARTS)] == [part in parts for part in PARTS]).all(axis=1)][
        "final_val_loss"
    ].mean()


def test_no_run_is_missing_and_none_is_of_another_plan(taming, rows):
    found = rows[list(taming.KEY)].astype(object).where(rows[list(taming.KEY)].notna(), None)
    assert {tuple(row) for row in found.to_numpy()} == {item.key for item in taming.items()}
    assert rows["final_val_loss"].notna().all()


def test_every_row_has_the_settings_that_make_it_again(taming, rows):
    columns = list(taming.KEY)
    rows = rows.assign(tau=rows["tau"].astype(object).fillna("None"))
    made = {tuple(map(str, row[columns])): row for _, row in rows.iterrows()}
    for item in taming.items():
        row = made[tuple(map(str, item.key))]
        again = preset(row["preset"], lr=row["lr"], seed=row["seed"], **json.loads(row["settings"]))
        assert replace(again, device="cpu", probe_every=100) == item.config


def test_alpha_is_kept_for_every_step_that_is_replayed(taming):
    alpha = read_results("alpha")
    steps = preset("live").steps
    wanted = {(lr, seed) for lr in taming.REPLAY_RATES for seed in range(3)}
    assert set(alpha.groupby(["lr", "seed"]).groups) == wanted
    for _, run in alpha.groupby(["lr", "seed"]):
        assert list(run["step"]) == list(range(steps))
        assert run["alpha"].between(0, 1).all()


def test_the_claims_are_true_and_false_as_the_exercise_says(rows):
    replays = {
        arm: [mean(rows, "replay", arm, lr) for lr in (1e-2, 3e-2)]
        for arm in ("adamw2", "replayed", "constant")
    }
    top = {arm: mean(rows, "sensitivity", arm, 1e-1) for arm in ("adamw2", "adamw-warmup")}
    normed = [mean(rows, "sensitivity", "qk-norm", lr) for lr in (1e-2, 3e-2, 1e-1)]
    recall = rows[(rows["table"] == "recall") & (rows["arm"] == "adamw2")]
    truth = {
        "a": all(abs(r - b) < 0.1 for r, b in zip(replays["replayed"], replays["adamw2"], strict=True)),
        "b": all(abs(r - b) < 0.1 for r, b in zip(replays["constant"], replays["adamw2"], strict=True)),
        "c": top["adamw2"] < BIGRAM < top["adamw-warmup"],
        "d": min(normed) < BIGRAM,
        "e": recall["learnt"].astype(str).eq("True").all(),
        "f": covering(rows, "qk") < covering(rows, "qk", "vo", "mlp") + 0.1,
    }
    assert set(truth) == set(TAMING_CLAIMS)
    assert {letter for letter, holds in truth.items() if holds} == set(_SUPPORTED)


def test_a_method_that_is_slow_everywhere_is_not_sensitive(rows):
    """What exercise 1 says of sensitivity: it has to be read beside the best loss."""
    table = sensitivity_table(rows[rows["table"] == "sensitivity"], initial=4.13)
    assert table.loc["adamw2-tau-0.02", "best loss"] > table.loc["adamw2", "best loss"]
