"""Exercises of notebook 01: softmax, entropy, rank, and two maps that differ only in rank."""

import math
from typing import Any

import numpy as np
import torch

from course_lib.exercises.checking import Array, NotYet, Wrong, call, checker, close, judge_numbers, numbers
from course_lib.probes import attention_rank, entropy, uniform_rank
from course_lib.runs.verdict import LOW_ENTROPY, LOW_RANK


def _softmax(z: Array, t: float) -> Array:
    e = np.exp((z - z.max()) / t)
    return np.asarray(e / e.sum(), dtype=np.float64)


def _softmax_mistakes(z: Array, t: float) -> dict[str, Array]:
    warm, plain, scaled = np.exp(z / t), _softmax(z, 1), z / t
    return {
        "the temperature changes nothing here. Are the scores divided by it?": plain,
        "is it divided by the temperature, or multiplied? High means flat.": _softmax(z * t * t, t),
        "the largest score gets the smallest weight. Is there a minus too many?": _softmax(-z, t),
        "the weights do not sum to 1. Are they divided by their sum?": warm,
        "the temperature has to divide the scores, before exp, not the weights.": plain / t,
        "the temperature is in the numerator only: both sums need it.": warm / np.exp(z).sum(),
        "these are log-probabilities: take exp of them.": np.log(_softmax(z, t)),
        "there is no exp in it: expected exp(score / temperature).": scaled / scaled.sum(),
        "that is a sigmoid per key: softmax makes the keys compete.": 1 / (1 + np.exp(-scaled)),
    }


@checker("Softmax with a temperature")
def check_softmax(answer: Any) -> str:
    """A function (logits (n,), temperature) → weights (n,)."""
    z = np.array([2.0, 0.5, -1.0, 0.0])
    for t in (0.5, 3.0):
        given = numbers(call(answer, z, t), z.shape, "the answer for four logits")
        otherwise = (
            f"for scores {z.tolist()} and temperature {t:g} the first weight is {given[0]:.3f}, "
            "not as expected."
        )
        if not np.isfinite(given).all():
            otherwise = "a weight is not finite (NaN or infinite)."
        elif not close(given.sum(), 1.0):
            otherwise = f"the weights sum to {given.sum():.3g}: expected 1."
        judge_numbers(given, _softmax(z, t), otherwise, _softmax_mistakes, (z, t), 1e-4)
    large = np.array([1000.0, 998.0, 0.0])
    given = numbers(call(answer, large, 1.0), large.shape, "the answer for three logits")
    otherwise = (
        "right, until a score reaches 1000: exp overflows. "
        "Subtract the largest score first; the weights stay the same."
    )
    judge_numbers(given, _softmax(large, 1.0), otherwise, tolerance=1e-4)
    return "and it holds for large scores too."


def _nats(a: Array) -> float:
    seen = a[a > 0]
    return float(-(seen * np.log(seen)).sum())


def _entropy_mistakes(a: Array, n: int) -> dict[str, float]:
    h, log_n, log_2 = _nats(a), math.log(n), math.log(2)
    return {
        "is it divided by the log of the number of visible keys?": h,
        "is it divided by the log (to base 2, as yours) of `visible`?": h / log_2,
        "the sign is wrong: −Σ A log A is never negative.": -h / log_n,
        "the sign is wrong, and the log of the number of visible keys is missing.": -h,
        "is it divided by the log of the visible keys, or of all keys? This query sees fewer than all.": h
        / math.log(len(a)),
        "divide by log(visible), not by visible: log n is the largest entropy.": h / n,
        "a mean over the keys? Expected a sum, divided by log(visible).": h / len(a),
        "two bases are mixed: use the same log above and below.": h * log_2 / log_n,
        "two bases are mixed: use the same log throughout.": h / log_2 / log_n,
        "that is 1 − H: 1 should mean uniform, 0 one-hot.": 1 - h / log_n,
        "that is exp(H), a number of keys: leave out exp, divide by log n.": math.exp(h),
    }


@checker("Normalised entropy")
def check_entropy(answer: Any) -> str:
    """A function (row (T,), visible) → H in [0, 1]."""
    peaked = np.array([0.7, 0.15, 0.1, 0.05, 0.0, 0.0, 0.0, 0.0])
    full = np.array([0.4, 0.3, 0.2, 0.1])
    one_hot = np.array([0.0, 1.0, 0.0, 0.0])
    uniform = np.array([0.2] * 5 + [0.0] * 3)
    cases = ((full, 4), (peaked, 4), (uniform, 5), (one_hot, 4))
    given = [numbers(call(answer, row, n), (), "the entropy of one row") for row, n in cases]
    for (row, n), h in zip(cases[:3], given[:3], strict=True):
        if np.isfinite(h):
            right = _nats(row) / math.log(n)
            otherwise = f"for {row.tolist()}, {n} visible, it gives {h:.3f}: expected {right:.3f}."
            judge_numbers(h, right, otherwise, _entropy_mistakes, (row, n))
    if not np.isfinite(given).all():
        raise Wrong("it is NaN where a weight is 0: 0·log 0 counts as 0. Leave zeros out, or clip them.")
    judge_numbers(given[3], 0.0, f"a one-hot row gives {given[3]:.3f}: expected 0.")
    return "1 for a uniform row, 0 for a one-hot row, whatever the number of keys."


def _shares(values: Array) -> Array:
    return np.asarray(values / values.sum(), dtype=np.float64)


def _rank_mistakes(m: Array) -> dict[str, Any]:
    sigma, eigenvalues = np.linalg.svd(m, compute_uv=False), np.abs(np.linalg.eigvals(m))
    p, energy = _shares(sigma), _shares(sigma**2)
    h, log_n = _nats(p), math.log(len(m))
    return {
        "are these eigenvalues? The rank is made of singular values (svd).": math.exp(
            _nats(_shares(eigenvalues))
        ),
        "this is the entropy of σ/Σσ: the rank is exp of it.": h,
        "no division by log n here: the rank is exp of the plain entropy.": (h / log_n, math.exp(h / log_n)),
        "is it made of σ², or of σ? The effective rank uses σ/Σσ.": math.exp(_nats(energy)),
        "two bases are mixed: exp belongs to the natural log, 2** to log2.": math.exp(h / math.log(2)),
        "that is the exact rank, which counts the smallest σ like the largest.": np.linalg.matrix_rank(m),
        "that is the stable rank, ‖·‖²/σ₁²: here it is exp of an entropy.": 1 / energy[0],
        "that is 1/Σp²: here it is exp of the entropy of p.": 1 / (p**2).sum(),
        "are the singular values divided by their sum first?": math.exp(_nats(sigma)),
        "are the singular values divided by their sum first? And exp comes last.": _nats(sigma),
        "the sign of the entropy is wrong: a rank is at least 1.": math.exp(-h),
    }


@checker("Effective rank")
def check_effective_rank(answer: Any) -> str:
    """A function (matrix (m, n)) → exp of the entropy of its singular values, divided by their sum."""
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 4, 4))).Q
    decay = turned[0] @ np.diag([4.0, 2.0, 1.0, 0.5]) @ turned[1]
    shift = np.eye(6, k=-3)
    given = numbers(call(answer, decay), (), "the rank of one matrix")
    right = math.exp(_nats(_shares(np.array([4.0, 2.0, 1.0, 0.5]))))
    if np.isnan(given):
        raise Wrong("it is NaN for a matrix whose singular values are 4, 2, 1 and 0.5.")
    otherwise = f"for a matrix with singular values 4, 2, 1, 0.5 it gives {given:.3f}: expected {right:.3f}."
    judge_numbers(given, right, otherwise, _rank_mistakes, (decay,))
    zeros = numbers(call(answer, shift), (), "the rank of one matrix")
    if np.isnan(zeros):
        raise Wrong("it is NaN where a singular value is 0: 0·log 0 counts as 0.")
    if not close(zeros, 3.0, 5e-3):
        raise Wrong(f"a map with three singular values 1 and three 0 gives {zeros:.3f}: expected 3.")
    return "identity gives n, a matrix of equal rows gives 1, and everything else lies between."


MAP_TOKENS = 16
"""The number of queries, and of keys, of the maps that the reader builds."""


@checker("Two sharp maps")
def check_two_maps(answer: Any) -> str:
    """A pair (malignant, benign) of causal maps (16, 16), both sharp, which differ in rank."""
    if isinstance(answer, tuple | list) and all(a is None or a is Ellipsis for a in answer):
        raise NotYet
    try:
        malignant, benign = answer
    except (TypeError, ValueError):
        raise Wrong("expected two maps: check_two_maps((malignant, benign)).") from None
    bad_h, bad_rank = _measure(malignant, "the malignant map")
    good_h, good_rank = _measure(benign, "the benign map")
    for name, h in (("malignant", bad_h), ("benign", good_h)):
        if h >= LOW_ENTROPY:
            raise Wrong(f"the {name} map has entropy {h:.2f}: expected below {LOW_ENTROPY}. Make it sharper.")
    if bad_rank > LOW_RANK and good_rank < LOW_RANK:
        raise Wrong("the two are swapped: the benign map is the one of high rank.")
    if bad_rank >= LOW_RANK:
        raise Wrong(
            f"the malignant map's rank is {bad_rank:.2f} × uniform's: expected below 1. "
            "Let many queries look at the same key."
        )
    if good_rank <= LOW_RANK:
        raise Wrong(
            f"the benign map's rank is {good_rank:.2f} × uniform's: expected above 1. "
            "Let each query look at a key of its own."
        )
    return (
        f"entropies {bad_h:.2f} and {good_h:.2f}, ranks {bad_rank:.2f} and {good_rank:.2f} × uniform's: "
        "equally sharp, and only the rank tells them apart."
    )


def _measure(given: Any, what: str) -> tuple[float, float]:
    """The map's mean normalised entropy and its effective rank, as a multiple of uniform attention's."""
    a = numbers(given, (MAP_TOKENS, MAP_TOKENS), what)
    if not np.isfinite(a).all():
        raise Wrong(f"{what} has an entry that is not finite. Does a row consist of −∞ alone?")
    if (a < -1e-6).any():
        raise Wrong(f"{what} has negative entries: expected weights between 0 and 1.")
    if not close(a.sum(1), np.ones(MAP_TOKENS), 1e-3):
        sums = a.sum(1)
        row = int(np.abs(sums - 1).argmax())
        hint = " Are rows and columns swapped?" if close(a.sum(0), np.ones(MAP_TOKENS), 1e-3) else ""
        raise Wrong(f"row {row} of {what} sums to {sums[row]:.2f}: each query's weights sum to 1.{hint}")
    if np.triu(np.abs(a), 1).max() > 1e-6:
        hint = " Is it transposed?" if np.tril(np.abs(a), -1).max() <= 1e-6 else ""
        raise Wrong(f"{what} looks ahead: query i sees the keys 0 to i only (np.tril).{hint}")
    attention = torch.from_numpy(a)
    visible = torch.ones(MAP_TOKENS, MAP_TOKENS, dtype=torch.bool).tril()
    return float(entropy(attention, visible).nanmean()), float(attention_rank(attention)) / uniform_rank(
        MAP_TOKENS
    )
