"""Exercises of notebook 07: shifted windows, and attention without its map."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from course_lib.exercises.checking import Array, Wrong, call, checker, judge_numbers, judge_rule, numbers

_ROWS = ((14, 7, 3), (8, 4, 2), (12, 4, 1))
"""(side, window, shift) of the rows of tokens on which an answer is tried."""


def _sees(i: int, j: int, side: int, window: int, shift: int) -> bool:
    return (i - shift) // window == (j - shift) // window


def _sees_mistakes(i: int, j: int, side: int, w: int, s: int) -> dict[str, bool]:
    plain, right = i // w == j // w, _sees(i, j, side, w, s)
    return {
        "the windows stand where they do without a shift. Where do they begin now?": plain,
        "the row's first tokens see its last ones: the roll has brought them into one window, and nothing "
        "keeps them apart. That is what the mask is for.": (i - s) % side // w == (j - s) % side // w,
        "the shift goes the other way: the first border is at `shift`, not at `window - shift`.": (i + s) // w
        == (j + s) // w,
        "the shift goes the other way, and the row's first tokens see its last ones.": (i + s) % side // w
        == (j + s) % side // w,
        "the tokens before the first border see the window behind it: int() rounds −0.4 to 0. Try // (it "
        "rounds down).": int((i - s) / w) == int((j - s) / w),
        "that is a window of its own around each token. "
        "Swin's windows have fixed borders, which all share.": abs(i - j) < w,
        "it counts both blocks' windows. Here only the shifted ones are asked for.": plain or right,
        "exactly the wrong way round: true means that they see each other.": not right,
    }


@checker("Who sees whom in shifted windows")
def check_sees(answer: Any) -> str:
    """A function (i, j, side, window, shift) → whether tokens i and j of a row see each other."""
    cases = [(i, j, *row) for row in _ROWS for i in range(row[0]) for j in range(row[0])]
    given = [bool(numbers(call(answer, *case), (), "the answer for a pair of tokens")) for case in cases]
    where = judge_rule(given, _sees, _sees_mistakes, cases)
    if where is None:
        return "a map of tokens asks this twice, of the rows and of the columns; both have to be true."
    i, j, side, window, shift = cases[where]
    raise Wrong(
        f"for side={side}, window={window}, shift={shift} it says that tokens {i} and {j} "
        f"{'see' if given[where] else 'do not see'} each other: expected the opposite."
    )


_TOKENS, _LONG, _WIDTH = 6, 3000, 4


def _mix(q: Array, k: Array, v: Array) -> Array:
    return np.asarray(q @ (k.T @ v) / (q @ k.sum(0))[:, None], dtype=np.float64)


def _mix_mistakes(q: Array, k: Array, v: Array) -> dict[str, Array]:
    mixed, weights, softmax = q @ (k.T @ v), q @ k.T, np.exp(q @ k.T)
    return {
        "the weights of a query do not sum to 1 yet. Divide by their sum, which is φ(q)·Σφ(k).": mixed,
        "it divides by the number of keys. A query's weights have a sum of their own: φ(q)·Σφ(k).": mixed
        / len(k),
        "that is softmax attention: the scores φ(q)·φ(k) are weights already, without exp.": softmax
        / softmax.sum(1, keepdims=True)
        @ v,
        "queries and keys have changed places in the sum: "
        "the keys are to be summed, the query is the row's.": mixed / (k @ q.sum(0))[:, None],
        "it divides by the sum of all weights of all queries. Each query has a sum of its own.": mixed
        / weights.sum(),
        "it divides by the sums over the queries (columns): the sum has to run over a query's keys.": mixed
        / weights.sum(0)[:, None],
        "it divides by the sum of φ(q)'s components. The sum of its weights is φ(q)·Σφ(k).": q
        / q.sum(1, keepdims=True)
        @ (k.T @ v),
        "it divides each component of φ(k) by its sum over the keys: divide the result, query by query.": q
        @ (k / k.sum(0)).T
        @ v,
    }


@checker("Attention without its map")
def check_linear(answer: Any) -> str:
    """A function (phi_q (n, d), phi_k (n, d), v (n, d)) → mixed values (n, d), without an n × n map."""
    rng = np.random.default_rng(7)
    q, k, v = (rng.random((_TOKENS, _WIDTH)) for _ in range(3))
    given = numbers(call(answer, q, k, v), v.shape, f"the answer for {_TOKENS} tokens of width {_WIDTH}")
    right = _mix(q, k, v)
    otherwise = f"the first token's first component is {given[0, 0]:.3f}: expected {right[0, 0]:.3f}."
    if not np.isfinite(given).all():
        otherwise = "a number is not finite (NaN or infinite)."
    judge_numbers(given, right, otherwise, _mix_mistakes, (q, k, v), 1e-4)
    q, k, v = (rng.random((_LONG, _WIDTH)) for _ in range(3))
    memory, given = _peak_bytes(lambda: numbers(call(answer, q, k, v), v.shape, f"that for {_LONG} tokens"))
    otherwise = f"right for {_TOKENS} tokens, but not for {_LONG}."
    judge_numbers(given, _mix(q, k, v), otherwise, tolerance=1e-4)
    if memory >= _LONG**2:  # a map of single bytes would already be as large
        raise Wrong(
            f"the numbers are right, but for {_LONG} tokens it takes {memory / 1e6:.0f} MB: a map of "
            f"{_LONG} × {_LONG} is made on the way. Where do the brackets go in φ(q) φ(k)ᵀ v?"
        )
    return (
        f"and the largest thing on the way has {_WIDTH} × {_WIDTH} numbers or {_LONG} × {_WIDTH}, never "
        f"{_LONG} × {_LONG}."
    )


def _peak_bytes(work: Callable[[], Array]) -> tuple[int, Array]:
    """The most bytes that numpy held while `work` ran, and its result."""
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        result = work()
        return tracemalloc.get_traced_memory()[1] - before, result
    finally:
        if not running:
            tracemalloc.stop()
