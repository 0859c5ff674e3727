"""Exercises of notebook 05: sensitivity to the learning rate, the growth of σ₁, what the records support."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from course_lib.exercises.checking import Array, Wrong, call, checker, close, judge_claims, numbers
from course_lib.studies.sensitivity import lr_sensitivity

# --- sensitivity to the learning rate -----------------------------------------------------------


def _std(losses: Array, initial: float) -> float:
    return float(losses.std())


_SENSITIVITY_MISTAKES: tuple[tuple[Callable[[Array, float], float], str], ...] = (
    (
        lambda x, l0: x.mean() - x.min(),
        "a run that has diverged counts for more than an untrained model: cap every loss at `initial` first.",
    ),
    (
        lambda x, l0: x.max() - x.min(),
        "that is the worst minus the best loss. Expected the *mean* over the learning rates, minus the best.",
    ),
    (
        lambda x, l0: np.fmin(x, l0).max() - x.min(),
        "that is the worst minus the best loss. Expected the *mean* over the learning rates, minus the best.",
    ),
    (
        lambda x, l0: np.fmin(x, l0).mean(),
        "the best loss is not subtracted: this says how good a method is, not how sensitive.",
    ),
    (lambda x, l0: x.mean(), "the best loss is not subtracted, and losses above `initial` are not capped."),
    (
        lambda x, l0: (np.fmin(x, l0) - x.min()).sum(),
        "that is a sum: it grows with the number of learning rates. Take the mean.",
    ),
    (_std, "that is a standard deviation: the distance is counted from the best loss, not from the mean."),
    (
        lambda x, l0: np.fmin(x, l0).std(),
        "that is a standard deviation: the distance is counted from the best loss, not from the mean.",
    ),
    (
        lambda x, l0: l0 - np.fmin(x, l0).mean(),
        "that is the distance from `initial`: expected the distance from the best loss.",
    ),
    (lambda x, l0: x.min() - np.fmin(x, l0).mean(), "the sign is wrong: a sensitivity is never negative."),
)


@checker("Sensitivity to the learning rate")
def check_lr_sensitivity(answer: Any) -> str:
    """A function (losses (n,), initial) → mean of min(loss, initial) minus the best loss."""
    losses, initial = np.array([2.2, 1.9, 1.8, 2.6, 9.0]), 4.1
    given = float(numbers(call(answer, losses, initial), (), "the sensitivity"))
    right = lr_sensitivity(losses, initial)
    if not close(given, right):
        for mistake, message in _SENSITIVITY_MISTAKES:
            if close(given, mistake(losses, initial)):
                raise Wrong(message)
        raise Wrong(
            f"for losses {losses.tolist()}, initial {initial}, it gives {given:.3f}: expected {right:.3f}."
        )
    broken = np.array([2.0, np.nan, 3.0])
    given = float(numbers(call(answer, broken, initial), (), "the sensitivity"))
    if math.isnan(given):
        raise Wrong("it is NaN where a loss is: a run that diverged to NaN counts as `initial`.")
    if close(given, lr_sensitivity(broken[[0, 2]], initial)):
        raise Wrong("a loss that is NaN is left out: so a method would look better by diverging.")
    if not close(given, lr_sensitivity(broken, initial)):
        raise Wrong(f"for losses 2, NaN, 3 it gives {given:.3f}: expected NaN to count as `initial`.")
    return "it is 0 for a method that ends equally badly at every learning rate: look at its best loss, too."


# --- how fast a matrix may grow -----------------------------------------------------------------


def steps_to_grow(factor: float, tau: float) -> int:
    """The fewest steps in which σ₁(W) can become `factor` ≥ 1 times as large, at 1 + τ a step."""
    # The rounding of a quotient of logarithms must not add a step.
    return math.ceil(math.log(factor) / math.log1p(tau) - 1e-9)


_GROWTH_CASES = ((10.0, 0.05), (100.0, 0.02), (200.0, 0.005), (2.0, 1.0), (1.0, 0.05))

_GROWTH_MISTAKES: tuple[tuple[Callable[[float, float], float], str], ...] = (
    (
        lambda k, t: (k - 1) / t,
        "it adds τ a step. But each step multiplies by 1 + τ what has grown already: (1 + τ)^t.",
    ),
    (
        lambda k, t: math.log(k) / t,
        "close: log(factor)/τ takes log(1 + τ) for τ, which it is only for a small τ.",
    ),
    (lambda k, t: k / (1 + t), "it divides by 1 + τ once: expected the t for which (1 + τ)^t ≥ factor."),
    (lambda k, t: math.log1p(t) / max(math.log(k), 1e-12), "the quotient is upside down."),
    (lambda k, t: math.log(k) / math.log(t + 1e-12), "that is the log of τ: a step multiplies by 1 + τ."),
)


@checker("Steps to grow")
def check_steps_to_grow(answer: Any) -> str:
    """A function (factor, tau) → fewest steps t with (1 + τ)^t ≥ factor."""
    given = [float(numbers(call(answer, k, t), (), f"the answer for {k:g}, {t:g}")) for k, t in _GROWTH_CASES]
    right = [steps_to_grow(k, t) for k, t in _GROWTH_CASES]
    if given == right:
        return "however large its gradient: before that many steps the bound cannot let it be so large."
    for mistake, message in _GROWTH_MISTAKES:
        values = np.array([mistake(k, t) for k, t in _GROWTH_CASES[:3]])
        if any(
            close(np.array(given[:3]), form(values)) for form in (np.asarray, np.ceil, np.floor, np.round)
        ):
            raise Wrong(message)
    exact = [math.log(k) / math.log1p(t) for k, t in _GROWTH_CASES]
    if close(np.array(given), np.array(exact)):
        raise Wrong("right, but steps are whole: round up.")
    if close(np.array(given), np.floor(np.array(exact) + 1e-9)) or close(np.array(given), np.round(exact)):
        raise Wrong("rounded the wrong way: after that many steps it is not there yet. Round up.")
    for (k, t), value, expected in zip(_GROWTH_CASES, given, right, strict=True):
        if value != expected:
            raise Wrong(f"factor {k:g} at τ = {t:g} gives {value:g} steps: expected {expected}.")
    raise AssertionError("unreachable")


# --- what the records support -------------------------------------------------------------------

TAMING_CLAIMS = {
    "a": "Replayed on plain AdamW, the mean of AdamW²'s learning rates does about as well as AdamW² itself.",
    "b": "A constant learning rate of the same mean would do as well.",
    "c": "At the largest learning rate, AdamW² ends below the bigram line, and AdamW with warmup does not.",
    "d": "With QK-norm, neither a warmup nor the bound is needed.",
    "e": "AdamW² replaces warmup in every task of the course.",
    "f": "The bound on W_q and W_k alone is enough to save a run on text without warmup.",
}
"""What one could read into the records of notebook 05; some of it is there."""

_CONTRADICTED = {
    "b": "b: look at “a constant factor of the same mean” in the chart of the replay.",
    "d": "d: look at “QK-norm, no warmup” at learning rates of 0.01 and above.",
    "e": "e: look at `recall` at a learning rate of 0.03.",
    "f": "f: press only the button of W_q and W_k above, and compare with all three.",
}
_MISSED = {
    "a": "a is missing: compare “its α replayed” with AdamW² itself, seed by seed.",
    "c": "c is missing: look at the right end of the curve, and where the bigram line is.",
}


@checker("What the records support")
def check_taming_claims(answer: Any) -> str:
    """The letters of the claims in `TAMING_CLAIMS` that the records support."""
    judge_claims(answer, TAMING_CLAIMS, _CONTRADICTED, _MISSED)
    return "what the bound does and where it helps, and no more than that."
