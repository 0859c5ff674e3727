"""Exercises of notebook 00: a warmup, and verdicts."""

import math
from typing import Any

from course_lib.exercises.checking import Wrong, call, checker, close, judge_cases, numbers
from course_lib.extras import pandas as pd

_WARMUP = 100
_STEPS = (0, 1, 24, 49, 98, 99, 100, 250)


@checker("Warmup")
def check_warmup(answer: Any) -> str:
    """A function (step, warmup) → factor of the learning rate, linear from 1/warmup to 1."""
    f = [float(numbers(call(answer, s, _WARMUP), (), f"the factor at step {s}")) for s in _STEPS]
    right = [min(1.0, (s + 1) / _WARMUP) for s in _STEPS]
    if not close(f, right, 1e-6):
        raise Wrong(_warmup_mistake(dict(zip(_STEPS, f, strict=True))))
    if not close(numbers(call(answer, 0, 0), (), "the factor with warmup=0"), 1.0, 1e-6):
        raise Wrong("with warmup=0 there is no warmup: expected the factor 1 from the first step on.")
    return "this is the rule that every run of the course uses."


def _warmup_mistake(f: dict[int, float]) -> str:
    if not all(map(math.isfinite, f.values())):
        return "the factor is not finite at some step: expected numbers between 0 and 1."
    if f[0] > f[49] > f[98]:
        return "the factor falls: that is a decay. A warmup starts small and ends at 1."
    if len(set(f.values())) == 1:
        return f"the factor is {f[0]:g} at every step: expected it to grow while step < warmup."
    if f[0] == f[98] == 0:
        return "the factor stays 0 until the end of the warmup. Is it divided with // instead of /?"
    if f[250] > 1:
        return f"the factor at step 250 is {f[250]:g}: once the warmup is over it has to stay at 1 (min?)."
    if f[0] == 0:
        return "the factor at step 0 is 0, so the first step would do nothing. Is it (step + 1)/warmup?"
    if f[250] != 1:
        return f"the factor at step 250 is {f[250]:g}: expected 1, a factor and not a learning rate."
    if f[24] ** 2 < 0.9 * f[0] * f[98] or not close(f[49], 0.5, 0.02):
        return f"the factor halfway, at step 49 of 100, is {f[49]:.3g}: expected 0.5 (a straight line)."
    return f"the factor at step 99, the last of the warmup, is {f[99]:.3g}: expected 1. Off by one step?"


VERDICT_CASES = pd.DataFrame(
    {
        "loss": [0.01, 4.05, 0.90, 4.12],
        "reference": [3.71, 3.71, 3.71, 3.71],
        "entropy": [0.02, 0.02, 0.61, 0.97],
        "rank": [2.1, 0.4, 1.6, 1.0],
    },
    index=pd.Index(["A", "B", "C", "D"], name="run"),
)
"""Invented runs with one layer; the rank is a multiple of uniform attention's."""

_RIGHT = {"A": "benign collapse", "B": "malignant collapse", "C": "healthy", "D": "stalled"}
_NAMES = ("healthy", "benign collapse", "malignant collapse", "stalled", "diverged")
_WHY = {
    "A": {
        "malignant collapse": "A is sharp, but its loss is far below the reference: it has learnt. "
        "Low entropy alone is no crash; look at the rank.",
        "healthy": "A has learnt, but its attention is sharp (entropy 0.02): which word is for that?",
    },
    "B": {
        "benign collapse": "B is as sharp as A, but its rank is below uniform attention's and its loss "
        "above the reference. Did you go by entropy alone?",
        "stalled": "B has not learnt, and its entropy and rank tell why: attention has collapsed.",
    },
    "C": {"benign collapse": "C has learnt with an entropy of 0.61: nothing is sharp there."},
    "D": {
        "malignant collapse": "D has not learnt, but its entropy is 0.97: nothing has collapsed. "
        "A run can fail without it.",
        "healthy": "D keeps its entropy, but its loss is above the reference: it has learnt nothing.",
    },
}


@checker("Verdicts")
def check_verdicts(answer: Any) -> str:
    """A dictionary run → verdict for `VERDICT_CASES`."""
    otherwise = "{case} is not “{word}”. Ask first: is its loss below the reference? Then: is it sharp?"
    judge_cases(answer, _RIGHT, _NAMES, _WHY, "verdict", otherwise)
    return "first the loss (has it learnt?), then the entropy (is it sharp?), then the rank (of what use?)."
