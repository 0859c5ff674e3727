"""Exercises of notebook 05: sensitivity to the learning rate, the growth of σ₁, what the records support."""

import math
from typing import Any

import numpy as np

from course_lib.exercises.checking import (
    Array,
    Wrong,
    call,
    checker,
    close,
    judge_claims,
    judge_numbers,
    numbers,
)
from course_lib.studies.sensitivity import lr_sensitivity


def _sensitivity_mistakes(x: Array, initial: float) -> dict[str, Any]:
    best, capped = x.min(), np.fmin(x, initial)
    return {
        "a run that has diverged counts for more than an untrained model: cap every loss at `initial` "
        "first.": x.mean() - best,
        "that is the worst minus the best loss. "
        "Expected the *mean* over the learning rates, minus the best.": (x.max() - best, capped.max() - best),
        "the best loss is not subtracted: this says how good a method is, not how sensitive.": capped.mean(),
        "the best loss is not subtracted, and losses above `initial` are not capped.": x.mean(),
        "that is a sum: it grows with the number of learning rates. Take the mean.": (capped - best).sum(),
        "that is a standard deviation: the distance is counted from the best loss, not from the mean.": (
            x.std(),
            capped.std(),
        ),
        "that is the distance from `initial`: expected the distance from the best loss.": initial
        - capped.mean(),
        "the sign is wrong: a sensitivity is never negative.": best - capped.mean(),
    }


@checker("Sensitivity to the learning rate")
def check_lr_sensitivity(answer: Any) -> str:
    """A function (losses (n,), initial) → mean of min(loss, initial) minus the best loss."""
    losses, initial = np.array([2.2, 1.9, 1.8, 2.6, 9.0]), 4.1
    given = numbers(call(answer, losses, initial), (), "the sensitivity")
    right = lr_sensitivity(losses, initial)
    otherwise = (
        f"for losses {losses.tolist()}, initial {initial}, it gives {given:.3f}: expected {right:.3f}."
    )
    judge_numbers(given, right, otherwise, _sensitivity_mistakes, (losses, initial))
    broken = np.array([2.0, np.nan, 3.0])
    given = numbers(call(answer, broken, initial), (), "the sensitivity")
    if math.isnan(given):
        raise Wrong("it is NaN where a loss is: a run that diverged to NaN counts as `initial`.")
    if close(given, lr_sensitivity(broken[[0, 2]], initial)):
        raise Wrong("a loss that is NaN is left out: so a method would look better by diverging.")
    if not close(given, lr_sensitivity(broken, initial)):
        raise Wrong(f"for losses 2, NaN, 3 it gives {given:.3f}: expected NaN to count as `initial`.")
    return "it is 0 for a method that ends equally badly at every learning rate: look at its best loss, too."


def steps_to_grow(factor: float, tau: float) -> int:
    """The fewest steps in which σ₁(W) can grow by `factor` ≥ 1, if each multiplies it by at most 1 + τ."""
    # A rounding error in the quotient of logarithms must not add a step.
    return math.ceil(math.log(factor) / math.log1p(tau) - 1e-9)


_GROWTH_CASES = ((10.0, 0.05), (100.0, 0.02), (200.0, 0.005), (2.0, 1.0), (1.0, 0.05))


def _growth_mistakes(k: float, t: float) -> dict[str, float]:
    return {
        "it adds τ a step. But each step multiplies by 1 + τ what has grown already: (1 + τ)^t.": (k - 1) / t,
        "close: log(factor)/τ takes log(1 + τ) for τ, which it is only for a small τ.": math.log(k) / t,
        "it divides by 1 + τ once: expected the t for which (1 + τ)^t ≥ factor.": k / (1 + t),
        "the quotient is upside down.": math.log1p(t) / max(math.log(k), 1e-12),
        "that is the log of τ: a step multiplies by 1 + τ.": math.log(k) / math.log(t + 1e-12),
    }


@checker("Steps to grow")
def check_steps_to_grow(answer: Any) -> str:
    """A function (factor, tau) → fewest steps t with (1 + τ)^t ≥ factor."""
    given = [float(numbers(call(answer, k, t), (), f"the answer for {k:g}, {t:g}")) for k, t in _GROWTH_CASES]
    right = [steps_to_grow(k, t) for k, t in _GROWTH_CASES]
    if given == right:
        return "however large its gradient: before that many steps the bound cannot let it be so large."
    made = [_growth_mistakes(k, t) for k, t in _GROWTH_CASES[:3]]
    for message in made[0]:
        values = np.array([results[message] for results in made])
        if any(close(given[:3], form(values)) for form in (np.asarray, np.ceil, np.floor, np.round)):
            raise Wrong(message)
    exact = np.array([math.log(k) / math.log1p(t) for k, t in _GROWTH_CASES])
    if close(given, exact):
        raise Wrong("right, but steps are whole: round up.")
    if close(given, np.floor(exact + 1e-9)) or close(given, np.round(exact)):
        raise Wrong("rounded the wrong way: after that many steps it is not there yet. Round up.")
    (k, t), value, expected = next(c for c in zip(_GROWTH_CASES, given, right, strict=True) if c[1] != c[2])
    raise Wrong(f"factor {k:g} at τ = {t:g} gives {value:g} steps: expected {expected}.")


TAMING_CLAIMS = {
    "a": "Replayed on plain AdamW, the mean of AdamW²'s learning rates does about as well as AdamW² itself.",
    "b": "A constant learning rate of the same mean would do as well.",
    "c": "At the largest learning rate, AdamW² ends below the bigram line, and AdamW with warmup does not.",
    "d": "With QK-norm, neither a warmup nor the bound is needed.",
    "e": "AdamW² replaces warmup in every task of the course.",
    "f": "The bound on W_q and W_k alone is enough to save a run on text without warmup.",
}
"""Claims that one might draw from the records of notebook 05; some hold."""

_SUPPORTED = "ac"
_EVIDENCE = {
    "a": "compare “its α replayed” with AdamW² itself, seed by seed.",
    "b": "look at “a constant factor of the same mean” in the chart of the replay.",
    "c": "look at the right end of the curve, and where the bigram line is.",
    "d": "look at “QK-norm, no warmup” at learning rates of 0.01 and above.",
    "e": "look at `recall` at a learning rate of 0.03.",
    "f": "press only the button of W_q and W_k above, and compare with all three.",
}


@checker("What the records support")
def check_taming_claims(answer: Any) -> str:
    """The letters of the claims in `TAMING_CLAIMS` that the records support."""
    judge_claims(answer, TAMING_CLAIMS, _SUPPORTED, _EVIDENCE)
    return "what the bound does and where it helps, and no more than that."
