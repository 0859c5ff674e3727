"""The checkers of notebook 08 accept right answers in several forms, and name the likely wrong ones."""

import numpy as np
import pandas as pd
import pytest

from course_lib.exercises import CARRIER_CLAIMS, alarm_sliders, check_alarm, check_border, check_carriers
from course_lib.exercises.nb08 import _SUPPORTED
from course_lib.studies.alarms import ALARMS
from course_lib.studies.results import read_results


def assert_names(result, words):
    assert result.status == "not quite", result
    assert words in result.message, result


# --- find a border ------------------------------------------------------------------------------


def halve(saves, steps):
    if not saves(0):
        return None
    low, high = 0, steps
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if saves(middle) else (low, middle)
    return low


def halve_inclusive(saves, steps):
    low, high = 0, steps - 1
    while low <= high:
        middle = (low + high) // 2
        if saves(middle):
            low = middle + 1
        else:
            high = middle - 1
    return None if high < 0 else np.int64(high)


def double_first(saves, steps, low=0):
    if not saves(0):
        return None
    high = 1
    while high < steps and saves(high):
        low, high = high, 2 * high
    high = min(high, steps)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if saves(middle) else (low, middle)
    return float(low)


@pytest.mark.parametrize("answer", [halve, halve_inclusive, double_first])
def test_a_border_is_accepted_in_any_form(answer):
    result = check_border(answer)
    assert result.passed, result


def first_lost(saves, steps):
    found = halve(saves, steps)
    return None if found is None else found + 1


def one_early(saves, steps):
    found = halve(saves, steps)
    return None if found is None else max(0, found - 1)


def one_by_one(saves, steps):
    return max((t for t in range(steps) if saves(t)), default=None)


def without_the_start(saves, steps):
    return halve(lambda t: t == 0 or saves(t), steps)


def without_the_end(saves, steps):
    return min(halve(saves, steps) or 0, steps - 2) if saves(0) else None


def beyond(saves, steps):
    saves(steps)
    return halve(saves, steps)


def halves(saves, steps):
    saves(steps / 7)
    return halve(saves, steps)


def endless(saves, steps):
    while True:
        saves(0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (first_lost, "the first step that is too late"),
        (one_early, "is still in time"),
        (one_by_one, "step by step"),
        (without_the_start, "expected None"),
        (without_the_end, "the last one there is"),
        (beyond, "the steps go from 0 to 299"),
        (halves, "whole steps only"),
        (lambda saves, steps: halve(saves, steps) and True, "expected"),
        (lambda saves, steps: None if saves(0) else 0, "it returns None"),
        (lambda saves, steps: "soon", "expected a step"),
        (lambda saves, steps: halve(saves, steps) + 0.5, "expected a whole step"),
        (lambda saves: 3, "fails with"),
        (3, "expected the function itself"),
    ],
)
def test_border_mistakes_are_named(answer, words):
    assert_names(check_border(answer), words)


def test_an_endless_search_is_given_up(monkeypatch):
    monkeypatch.setattr("course_lib.exercises.checking.SECONDS", 0.3)
    assert_names(check_border(endless), "a loop that never ends")


# --- choose an alarm ----------------------------------------------------------------------------


def run(arm, seed, learnt, at, n=30):
    """Signals that are quiet until step `at` of each column, and loud from there on."""
    columns = {
        name: [a.threshold * (1.5 if (t >= at.get(name, n)) == a.above else 0.5) for t in range(n)]
        for name, a in ALARMS.items()
    }
    columns["sigma"] = [20.0 if t >= at.get("sigma", n) else 1.0 for t in range(n)]
    stall = np.nan if learnt else 20.0
    return pd.DataFrame({**columns, "loss": 4.0, "step": range(n)}).assign(
        arm=arm, seed=seed, learnt=learnt, stall=stall
    )


UNSEEN = pd.concat(
    [
        run("adamw", 3, False, {"rho_applied": 0, "sigma": 1, "score": 4, "entropy": 5, "lowest_rank": 9}),
        run("adamw", 4, False, {"rho_applied": 1, "sigma": 1, "score": 4, "lowest_rank": 9}),
        run("adamw2", 3, True, {"sigma": 12, "score": 25}),
        run("adamw2", 4, True, {"sigma": 14}),
    ]
)


@pytest.mark.parametrize(
    "answer", [{"rho_applied": 1.0}, {"rho_applied": 1}, {"rho_applied": np.float32(0.9)}]
)
def test_an_alarm_is_accepted_in_any_form(answer):
    result = check_alarm(answer, UNSEEN, by=2)
    assert result.passed, result
    assert "by step 2 in all 2 runs" in result.message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"sigma": 5}, "false alarm at step 12 of “AdamW², no warmup”, seed 3"),
        ({"score": 10}, "(1 of 2 such runs)"),
        ({"entropy": 0.5}, "keeps still in 1 of 2 runs that fail"),
        ({"lowest_rank": 0.5}, "goes off at step 9"),
        ({"sec": 0.99}, "keeps still in 2 of 2"),
        ({"rank": 0.5}, "expected one of rho_applied"),
        ({"rho_applied": -1}, "threshold is -1"),
        ({"rho_applied": 1, "sec": 0.8}, "these are 2"),
        (("rho_applied", 1), "such as"),
    ],
)
def test_alarm_mistakes_are_named(answer, words):
    assert_names(check_alarm(answer, UNSEEN, by=2), words)


@pytest.mark.parametrize("answer", [None, ..., {}, {...: ...}, {"rho_applied": ...}])
def test_no_alarm_is_not_yet(answer):
    assert check_alarm(answer, UNSEEN, by=2).status == "not yet"


def test_sliders_move_the_alarms():
    box = alarm_sliders(UNSEEN).widget
    *sliders, view = box.children
    assert [s.value for s in sliders] == [a.threshold for a in ALARMS.values()]
    before = view.value
    assert "<img" in before
    sliders[0].value = 4.0
    assert view.value != before


# --- claims -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", ["acf", {"a", "c", "f"}, ["F", "c", "A "], "a, c, f", ("a", "c", "f", ...)]
)
def test_carriers_are_accepted_in_any_form(answer):
    result = check_carriers(answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("abcf", "those runs learn"),
        ("acdf", "end far from where"),
        ("acef", "above the bigram line"),
        ("ac", "f is missing"),
        ("af", "c is missing"),
        ("cf", "a is missing"),
        ("xyz", "is no claim"),
        (3, "expected letters"),
    ],
)
def test_carrier_mistakes_are_named(answer, words):
    assert_names(check_carriers(answer), words)


@pytest.mark.parametrize("answer", [None, ..., "", set(), {...}])
def test_no_letters_are_not_yet(answer):
    assert check_carriers(answer).status == "not yet"


def test_the_records_support_these_claims_and_no_other():
    runs = read_results("surgery").fillna({"factor": 0})
    groups = runs.groupby(["preset", "operation", "group", "factor"])
    learnt = {key[:3] + key[3:] * (key[3] > 0): rows["learnt"] for key, rows in groups}
    loss = {key[:3]: rows["final_val_loss"] for key, rows in groups}
    holds = {
        "a": learnt["copy", "shield", "qk"].all(),
        "b": not learnt["copy", "shock", "qk", 1].any(),
        "c": learnt["copy", "put-back", "qk"].all(),
        "d": loss["copy", "put-back-all-but", "qk"].mean() < loss["copy", "put-back", "qk"].mean() + 0.1,
        "e": learnt["live", "shield", "qk"].any(),
        "f": learnt["copy", "shock", "embedding", 10].all(),
    }
    assert set(holds) == set(CARRIER_CLAIMS)
    assert {letter for letter, true in holds.items() if true} == set(_SUPPORTED)
