"""Exercises of notebook 06: where the class token looks, and when a run may be called tamed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from course_lib.exercises.checking import Array, Diagnosis, Wrong, call, checker, diagnose, numbers
from course_lib.exercises.checking import close as agree

# --- where the class token looks ----------------------------------------------------------------

_SIDE = 3
_HEADS = 4


def _attention() -> Array:
    """Weights (heads, tokens, tokens) of a class token and 3 × 3 patches; no two numbers are alike."""
    scores = np.random.default_rng(6).normal(size=(_HEADS, _SIDE**2 + 1, _SIDE**2 + 1))
    weights = np.exp(2 * scores)
    return np.asarray(weights / weights.sum(-1, keepdims=True), dtype=np.float64)


def _as_map(row: Array) -> Array:
    return (row / row.sum()).reshape(_SIDE, _SIDE)


def _patch_map(a: Array) -> Array:
    return _as_map(a.mean(0)[0, 1:])


_MAP_MISTAKES: tuple[Diagnosis, ...] = (
    (
        lambda a: _as_map(a.mean(0)[1:, 0]),
        "this is how much each patch looks at the class token (a column). A query's weights are a row.",
    ),
    (
        lambda a: a.mean(0)[0, 1:].reshape(_SIDE, _SIDE),
        "it does not sum to 1: what the class token gives itself is missing. Divide by the sum of the rest.",
    ),
    (
        lambda a: a.sum(0)[0, 1:].reshape(_SIDE, _SIDE),
        "this is a sum over the heads, and it does not sum to 1. Take the mean, and divide by its sum.",
    ),
    (
        lambda a: a.mean(0)[0, :-1].reshape(_SIDE, _SIDE),
        "the class token is still in it, and the last patch is left out. The class token is key 0.",
    ),
    (
        lambda a: _as_map(a.mean(0)[0, :-1]),
        "the class token is still in it, and the last patch is left out. The class token is key 0.",
    ),
    (
        lambda a: _as_map(a.mean(0)[-1, 1:]),
        "these are the weights of the last patch's query. The class token is query 0.",
    ),
    (
        lambda a: _as_map(a.mean((0, 1))[1:]),
        "this is the mean over all queries. The question is about one of them, the class token.",
    ),
    (
        lambda a: _as_map(a.mean(0)[1:, 1:].mean(0)),
        "this is the mean over the patches' queries. The question is about the class token's.",
    ),
    (lambda a: _as_map(a[0, 0, 1:]), "this is head 0 alone. Take the mean over the heads."),
    (
        lambda a: _as_map(a.max(0)[0, 1:]),
        "this is the largest weight of any head. Take the mean over the heads.",
    ),
    (
        lambda a: _patch_map(a).T,
        "rows and columns are swapped: patches are counted row by row, as reshape does it.",
    ),
    (
        lambda a: (a[:, 0, 1:] / a[:, 0, 1:].sum(-1, keepdims=True)).mean(0).reshape(_SIDE, _SIDE),
        "the mean over the heads comes first: a head that looks at itself alone has little to say here.",
    ),
)


@checker("Where the class token looks")
def check_patch_map(answer: Any) -> str:
    """A function (attention (heads, tokens, tokens)) → map (side, side) of what the class token looks at."""
    a = _attention()
    given = call(answer, a)
    shape = np.shape(given.detach() if hasattr(given, "detach") else given)
    if shape == (_SIDE**2 + 1,):
        raise Wrong("the class token is still in it. Leave out key 0, and make a square of the patches.")
    if shape == (_SIDE**2,):
        raise Wrong(f"a row of {_SIDE**2} numbers: expected a map, as many rows as columns (reshape).")
    if shape == (_HEADS, _SIDE, _SIDE):
        raise Wrong("one map for each head: expected a single one, the mean over the heads.")
    values = numbers(given, (_SIDE, _SIDE), "the map for 10 tokens")
    if not agree(values, _patch_map(a)):
        known = diagnose(_MAP_MISTAKES, (a,), values)
        raise Wrong(known or f"its first patch gets {values[0, 0]:.3f}: expected {_patch_map(a)[0, 0]:.3f}.")
    return "a row without its first key, as a square. The picture below is drawn with it."


# --- tamed? -------------------------------------------------------------------------------------

_POINT = 0.01

Cases = tuple[tuple[str, list[float], dict[float, list[float]], bool], ...]

_CASES: Cases = (
    # Where it stands, accuracies of AdamW² by seed, the rival's by learning rate, tamed.
    (
        "the rival is better at another learning rate than ours",
        [0.71, 0.72, 0.73],
        {1e-3: [0.80, 0.81, 0.82], 1e-2: [0.30, 0.40, 0.35]},
        False,
    ),
    (
        "ours is 0.5 points below",
        [0.795, 0.80, 0.805],
        {1e-3: [0.80, 0.805, 0.81], 1e-2: [0.2, 0.3, 0.2]},
        True,
    ),
    (
        "ours is 2 points below",
        [0.78, 0.785, 0.79],
        {1e-3: [0.80, 0.805, 0.81], 1e-2: [0.2, 0.3, 0.2]},
        False,
    ),
    ("ours is above", [0.83, 0.84, 0.82], {1e-3: [0.80, 0.79, 0.81], 3e-3: [0.70, 0.82, 0.1]}, True),
    (
        "one lucky seed of the rival is above all of ours",
        [0.80, 0.80, 0.80],
        {1e-3: [0.80, 0.80, 0.80], 3e-3: [0.84, 0.70, 0.71]},
        True,
    ),
    (
        "one lucky seed of ours reaches the rival",
        [0.81, 0.60, 0.62],
        {1e-3: [0.80, 0.80, 0.80], 3e-3: [0.70, 0.70, 0.70]},
        False,
    ),
    (
        "the rival is best in the middle",
        [0.69, 0.70, 0.71],
        {1e-3: [0.50, 0.49, 0.51], 3e-3: [0.80, 0.81, 0.79], 1e-2: [0.72, 0.73, 0.74]},
        False,
    ),
    (
        "the rival is best in the middle, and ours is poor",
        [0.60, 0.61, 0.59],
        {1e-3: [0.50, 0.49, 0.51], 3e-3: [0.80, 0.81, 0.79], 1e-2: [0.72, 0.73, 0.74]},
        False,
    ),
)


def _best_mean(rival: Mapping[float, list[float]]) -> float:
    return max(float(np.mean(values)) for values in rival.values())


_TAMED_MISTAKES: tuple[Diagnosis, ...] = (
    (
        lambda ours, rival: np.mean(ours) >= np.mean(rival[max(rival)]) - _POINT,
        "it compares with the rival at the highest learning rate, where the rival may have crashed. "
        "The rival is due its best one.",
    ),
    (
        lambda ours, rival: np.mean(ours) >= np.mean(list(rival.values())) - _POINT,
        "it compares with the mean over all of the rival's learning rates, the crashed ones too. "
        "The rival is due its best one.",
    ),
    (
        lambda ours, rival: np.mean(ours) >= min(map(np.mean, rival.values())) - _POINT,
        "it compares with the rival at its worst learning rate. The rival is due its best one.",
    ),
    (
        lambda ours, rival: max(ours) >= max(map(max, rival.values())) - _POINT,
        "it compares the best single runs: a lucky seed decides. Take means over the seeds.",
    ),
    (
        lambda ours, rival: max(ours) >= _best_mean(rival) - _POINT,
        "it takes the best seed of AdamW², and the mean of its rival. Take means on both sides.",
    ),
    (
        lambda ours, rival: np.mean(ours) >= max(map(max, rival.values())) - _POINT,
        "it takes the best seed of the rival, and the mean of AdamW². Take means on both sides.",
    ),
    (
        lambda ours, rival: np.mean(ours) >= _best_mean(rival),
        "it asks for at least the rival's accuracy: within one percentage point (0.01) below is enough.",
    ),
    (
        lambda ours, rival: abs(np.mean(ours) - _best_mean(rival)) <= _POINT,
        "a run that ends far above its rival is tamed, too. Is there an absolute value too many?",
    ),
    (
        lambda ours, rival: np.mean(ours) >= _best_mean(rival) - 1,
        "one percentage point of an accuracy between 0 and 1 is 0.01, not 1.",
    ),
    (
        lambda ours, rival: np.mean(ours) < _best_mean(rival) - _POINT,
        "it is the wrong way round: True where AdamW² keeps up.",
    ),
)


@checker("Tamed, by a fair comparison")
def check_tamed(answer: Any) -> str:
    """A function (ours, rival) → bool; accuracies by seed, the rival's by learning rate."""
    given = [_yes_or_no(call(answer, ours, rival)) for _, ours, rival, _ in _CASES]
    right = [tamed for *_, tamed in _CASES]
    if given == right:
        return "means over seeds, the rival at its own best learning rate, one point of slack."
    for mistake, message in _TAMED_MISTAKES:
        if given == [bool(mistake(ours, rival)) for _, ours, rival, _ in _CASES]:
            raise Wrong(message)
    where = next(i for i, (g, r) in enumerate(zip(given, right, strict=True)) if g != r)
    what, ours, rival, tamed = _CASES[where]
    raise Wrong(f"where {what}, it says {given[where]}: expected {tamed}, for {ours} and {rival}.")


def _yes_or_no(value: Any) -> bool:
    plain = value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value
    if not isinstance(plain, bool | int):
        raise Wrong(f"it returns {value!r}: expected True or False.")
    return bool(plain)
