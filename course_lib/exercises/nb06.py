"""Exercises of notebook 06: where the class token looks, and when a run may be called tamed."""

from typing import Any

import numpy as np

from course_lib.exercises.checking import Array, Wrong, call, checker, judge_numbers, judge_rule, numbers

_SIDE = 3
_HEADS = 4


def _attention() -> Array:
    """Weights (heads, tokens, tokens) of a class token and 3 × 3 patches; no two are equal."""
    scores = np.random.default_rng(6).normal(size=(_HEADS, _SIDE**2 + 1, _SIDE**2 + 1))
    weights = np.exp(2 * scores)
    return np.asarray(weights / weights.sum(-1, keepdims=True), dtype=np.float64)


def _as_map(row: Array) -> Array:
    return (row / row.sum()).reshape(_SIDE, _SIDE)


def _patch_map(a: Array) -> Array:
    return _as_map(a.mean(0)[0, 1:])


def _map_mistakes(a: Array) -> dict[str, Any]:
    mean, square = a.mean(0), (_SIDE, _SIDE)
    by_head = a[:, 0, 1:] / a[:, 0, 1:].sum(-1, keepdims=True)
    without_last = mean[0, :-1].reshape(square)
    shifted = (without_last, without_last / without_last.sum())
    by_all, by_patches = _as_map(mean.mean(0)[1:]), _as_map(mean[1:, 1:].mean(0))
    return {
        "this is how much each patch looks at the class token (a column). "
        "A query's weights are a row.": _as_map(mean[1:, 0]),
        "it does not sum to 1: what the class token gives itself is missing. "
        "Divide by the sum of the rest.": mean[0, 1:].reshape(square),
        "this is a sum over the heads, and it does not sum to 1. "
        "Take the mean, and divide by its sum.": a.sum(0)[0, 1:].reshape(square),
        "the class token is still in it, and the last patch is left out. The class token is key 0.": shifted,
        "these are the weights of the last patch's query. The class token is query 0.": _as_map(mean[-1, 1:]),
        "this is the mean over all queries. The question is about one of them, the class token.": by_all,
        "this is the mean over the patches' queries. The question is about the class token's.": by_patches,
        "this is head 0 alone. Take the mean over the heads.": _as_map(a[0, 0, 1:]),
        "this is the largest weight of any head. Take the mean over the heads.": _as_map(a.max(0)[0, 1:]),
        "rows and columns are swapped: patches are counted row by row, as reshape does it.": _patch_map(a).T,
        "the mean over the heads comes first: "
        "a head that looks at itself alone has little to say here.": by_head.mean(0).reshape(square),
    }


_SHAPES = {
    (_SIDE**2 + 1,): "the class token is still in it. Leave out key 0, and make a square of the patches.",
    (_SIDE**2,): f"a row of {_SIDE**2} numbers: expected a map, as many rows as columns (reshape).",
    (_HEADS, _SIDE, _SIDE): "one map for each head: expected a single one, the mean over the heads.",
}


@checker("Where the class token looks")
def check_patch_map(answer: Any) -> str:
    """A function (attention (heads, tokens, tokens)) → map (side, side) of what the class token looks at."""
    a = _attention()
    values = numbers(call(answer, a), (_SIDE, _SIDE), "the map for 10 tokens", _SHAPES)
    right = _patch_map(a)
    otherwise = f"its first patch gets {values[0, 0]:.3f}: expected {right[0, 0]:.3f}."
    judge_numbers(values, right, otherwise, _map_mistakes, (a,))
    return "a row without its first key, as a square. The picture below is drawn with it."


_POINT = 0.01

_HIGH = [0.80, 0.805, 0.81]
_LOW = [0.2, 0.3, 0.2]
_EVEN = [0.80, 0.80, 0.80]
_MIDDLE = {1e-3: [0.50, 0.49, 0.51], 3e-3: [0.80, 0.81, 0.79], 1e-2: [0.72, 0.73, 0.74]}
_CRASHED = {1e-3: [0.80, 0.81, 0.82], 1e-2: [0.30, 0.40, 0.35]}
_CASES: dict[str, tuple[list[float], dict[float, list[float]]]] = {
    "the rival is better at another learning rate than ours": ([0.71, 0.72, 0.73], _CRASHED),
    "ours is 0.5 points below": ([0.795, 0.80, 0.805], {1e-3: _HIGH, 1e-2: _LOW}),
    "ours is 2 points below": ([0.78, 0.785, 0.79], {1e-3: _HIGH, 1e-2: _LOW}),
    "ours is above": ([0.83, 0.84, 0.82], {1e-3: [0.80, 0.79, 0.81], 3e-3: [0.70, 0.82, 0.1]}),
    "one lucky seed of the rival is above all of ours": (_EVEN, {1e-3: _EVEN, 3e-3: [0.84, 0.70, 0.71]}),
    "one lucky seed of ours reaches the rival": ([0.81, 0.60, 0.62], {1e-3: _EVEN, 3e-3: [0.7, 0.7, 0.7]}),
    "the rival is best in the middle": ([0.69, 0.70, 0.71], _MIDDLE),
    "the rival is best in the middle, and ours is poor": ([0.60, 0.61, 0.59], _MIDDLE),
}
"""Accuracies of AdamW² by seed, and of its rival by learning rate and seed."""


def _tamed(ours: list[float], rival: dict[float, list[float]]) -> bool:
    """Whether ours is at most a point below its rival at the rival's best learning rate."""
    return bool(np.mean(ours) >= max(map(np.mean, rival.values())) - _POINT)


def _tamed_mistakes(ours: list[float], rival: dict[float, list[float]]) -> dict[str, Any]:
    mean = float(np.mean(ours))
    theirs = {lr: float(np.mean(accuracies)) for lr, accuracies in rival.items()}
    best, luckiest = max(theirs.values()), max(map(max, rival.values()))
    return {
        "it compares with the rival at the highest learning rate, where the rival may have crashed. "
        "The rival is due its best one.": mean >= theirs[max(rival)] - _POINT,
        "it compares with the mean over all of the rival's learning rates, the crashed ones too. "
        "The rival is due its best one.": mean >= np.mean(list(rival.values())) - _POINT,
        "it compares with the rival at its worst learning rate. The rival is due its best one.": mean
        >= min(theirs.values()) - _POINT,
        "it compares the best single runs: a lucky seed decides. Take means over the seeds.": max(ours)
        >= luckiest - _POINT,
        "it takes the best seed of AdamW², and the mean of its rival. Take means on both sides.": max(ours)
        >= best - _POINT,
        "it takes the best seed of the rival, and the mean of AdamW². Take means on both sides.": mean
        >= luckiest - _POINT,
        "it asks for at least the rival's accuracy: within one percentage point (0.01) below is enough.": mean
        >= best,
        "a run that ends far above its rival is tamed, too. Is there an absolute value too many?": abs(
            mean - best
        )
        <= _POINT,
        "one percentage point of an accuracy between 0 and 1 is 0.01, not 1.": mean >= best - 1,
        "it is the wrong way round: True where AdamW² keeps up.": mean < best - _POINT,
    }


@checker("Tamed, by a fair comparison")
def check_tamed(answer: Any) -> str:
    """A function (ours, rival) → bool; accuracies by seed, the rival's by learning rate."""
    cases = list(_CASES.values())
    given = [_yes_or_no(call(answer, *case)) for case in cases]
    i = judge_rule(given, _tamed, _tamed_mistakes, cases)
    if i is None:
        return "means over seeds, the rival at its own best learning rate, one point of slack."
    where, (ours, rival) = list(_CASES)[i], cases[i]
    raise Wrong(f"where {where}, it says {given[i]}: expected {not given[i]}, for {ours} and {rival}.")


def _yes_or_no(value: Any) -> bool:
    plain = value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value
    if not isinstance(plain, bool | int):
        raise Wrong(f"it returns {value!r}: expected True or False.")
    return bool(plain)
