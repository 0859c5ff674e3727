"""The checkers of notebook 05 accept right answers in several forms and name the likely wrong ones."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from course_lib.exercises import (
    TAMING_CLAIMS,
    check_lr_sensitivity,
    check_steps_to_grow,
    check_taming_claims,
)
from course_lib.exercises.nb05 import _EVIDENCE, _SUPPORTED, lr_sensitivity, steps_to_grow

SUPPORTED = frozenset(_SUPPORTED)


def assert_names(result, words):
    assert result.status == "not quite", result
    assert words in result.message, result


def capped(losses, initial):
    return np.fmin(losses, initial)


# --- sensitivity --------------------------------------------------------------------------------


def by_hand(losses, initial):
    fixed = [initial if math.isnan(loss) else min(loss, initial) for loss in losses]
    return sum(fixed) / len(fixed) - min(fixed)


@pytest.mark.parametrize(
    "answer",
    [
        lr_sensitivity,
        by_hand,
        lambda x, l0: np.mean(np.minimum(np.nan_to_num(x, nan=l0), l0) - np.nanmin(x)),
        lambda x, l0: torch.as_tensor(x).nan_to_num(l0).clamp(max=l0).mean() - np.nanmin(x),
        lambda x, l0: pd.Series(x).fillna(l0).clip(upper=l0).pipe(lambda s: s.mean() - s.min()),
        lambda x, l0: [by_hand(x, l0)],
    ],
)
def test_sensitivity_is_accepted_in_any_form(answer):
    result = check_lr_sensitivity(answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, l0: np.nanmean(x) - np.nanmin(x), "cap every loss"),
        (lambda x, l0: x.max() - x.min(), "worst minus the best"),
        (lambda x, l0: capped(x, l0).max() - x.min(), "worst minus the best"),
        (lambda x, l0: capped(x, l0).mean(), "not subtracted"),
        (lambda x, l0: x.mean(), "not subtracted"),
        (lambda x, l0: (capped(x, l0) - x.min()).sum(), "a sum"),
        (lambda x, l0: x.std(), "standard deviation"),
        (lambda x, l0: capped(x, l0).std(), "standard deviation"),
        (lambda x, l0: l0 - capped(x, l0).mean(), "distance from `initial`"),
        (lambda x, l0: x.min() - capped(x, l0).mean(), "sign"),
        (lambda x, l0: np.minimum(x, l0).mean() - x.min(), "NaN where a loss is"),
        (lambda x, l0: np.nanmean(np.minimum(x, l0)) - np.nanmin(x), "left out"),
        (lambda x, l0: np.minimum(np.nan_to_num(x), l0).mean() - np.nanmin(x), "count as `initial`"),
        (lambda x, l0: 0.25, "expected"),
        (lambda x, l0: x - x.min(), "a single number"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_sensitivity_mistakes_are_named(answer, words):
    assert_names(check_lr_sensitivity(answer), words)


# --- steps to grow ------------------------------------------------------------------------------


def by_loop(factor, tau):
    steps, size = 0, 1.0
    while size < factor:
        steps, size = steps + 1, size * (1 + tau)
    return steps


@pytest.mark.parametrize(
    "answer",
    [
        steps_to_grow,
        by_loop,
        lambda k, t: math.ceil(math.log(k) / math.log(1 + t)),
        lambda k, t: np.ceil(np.log(k) / np.log1p(t)),
        lambda k, t: torch.tensor(by_loop(k, t)),
        lambda k, t: next(n for n in range(10**5) if (1 + t) ** n >= k),
    ],
)
def test_steps_to_grow_are_accepted_in_any_form(answer):
    result = check_steps_to_grow(answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda k, t: (k - 1) / t, "adds τ"),
        (lambda k, t: math.ceil((k - 1) / t), "adds τ"),
        (lambda k, t: math.log(k) / t, "log(1 + τ) for τ"),
        (lambda k, t: math.ceil(math.log(k) / t), "log(1 + τ) for τ"),
        (lambda k, t: k / (1 + t), "divides by 1 + τ once"),
        (lambda k, t: math.log1p(t) / math.log(k) if k > 1 else 0, "upside down"),
        (lambda k, t: math.log(k) / math.log(t) if t < 1 else 1, "log of τ"),
        (lambda k, t: math.log(k) / math.log(1 + t), "round up"),
        (lambda k, t: int(math.log(k) / math.log(1 + t)), "Round up"),
        (lambda k, t: by_loop(k, t) + 1, "expected"),
        (lambda k, t: (1 + t) ** k, "expected"),
    ],
)
def test_growth_mistakes_are_named(answer, words):
    assert_names(check_steps_to_grow(answer), words)


def test_a_loop_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr("course_lib.exercises.checking.SECONDS", 0.3)

    def endless(factor, tau):
        while True:
            pass

    assert_names(check_steps_to_grow(endless), "never ends")


# --- claims -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [SUPPORTED, sorted(SUPPORTED), "".join(sorted(SUPPORTED)).upper(), iter(sorted(SUPPORTED))]
)
def test_claims_are_accepted_in_any_form(answer):
    assert check_taming_claims(answer).passed


def test_every_wrong_claim_is_named():
    assert set(_EVIDENCE) == set(TAMING_CLAIMS)
    for letter in set(TAMING_CLAIMS) - SUPPORTED:
        assert_names(check_taming_claims(SUPPORTED | {letter}), f"{letter}: {_EVIDENCE[letter]}")
    for letter in SUPPORTED:
        rest = SUPPORTED - {letter}
        if rest:
            assert_names(check_taming_claims(rest), f"{letter} is missing: {_EVIDENCE[letter]}")
    assert_names(check_taming_claims({"z"}), "'z' is no claim")
