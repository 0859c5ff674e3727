"""Exercises of notebook 03: spectral energy, the gradient of W_qᵀW_k, the least entropy of a row."""

from typing import Any

import numpy as np
import torch

from course_lib.exercises.checking import Array, Wrong, call, checker, judge_numbers, numbers
from course_lib.probes import entropy_floor


def _sec(sigma: Array, s: int) -> float:
    energy = np.sort(sigma)[::-1] ** 2
    return float(energy[:s].sum() / energy.sum())


def _sec_mistakes(v: Array, s: int) -> dict[str, Any]:
    ordered, whole, right = np.sort(v)[::-1], (v**2).sum(), _sec(v, s)
    energy = (ordered[:s] ** 2).sum()
    return {
        "is it made of σ², or of σ? Energy is the square of a singular value.": ordered[:s].sum() / v.sum(),
        "is it divided by the whole energy Σσ²?": energy,
        "is there a root too many? It is a share of the energy, not of a norm.": right**0.5,
        "this is what the *other* directions hold: 1 − SEC(s).": 1 - right,
        "one direction is missing: SEC(s) takes the first s of them.": _sec(v, s - 1),
        "one direction too many: SEC(s) takes the first s of them.": _sec(v, s + 1),
        "that is the stable rank, ‖·‖²/σ₁².": 1 / _sec(v, 1),
        "a mean over a mean? Expected a sum over a sum.": energy / s / (whole / len(v)),
        "these are the *smallest* s: the first directions are the strongest.": (ordered[::-1][:s] ** 2).sum()
        / whole,
        "the values do not come in order here: sort them, the largest first.": (v[:s] ** 2).sum() / whole,
    }


@checker("Spectral energy concentration")
def check_sec(answer: Any) -> str:
    """A function (singular values (n,), s) → SEC(s)."""
    ordered = np.array([3.0, 2.0, 1.0, 0.7, 0.5])
    shuffled = ordered[[2, 0, 4, 3, 1]]
    for values, s in ((ordered, 2), (ordered, 5), (shuffled, 2)):
        given = numbers(call(answer, values, s), (), "SEC of one spectrum")
        right = _sec(values, s)
        otherwise = f"for σ = {values.tolist()}, s = {s}, it gives {given:.3f}: expected {right:.3f}."
        judge_numbers(given, right, otherwise, _sec_mistakes, (values, s))
    return "between s/n, for a flat spectrum, and 1."


def _gradient_mistakes(x: Array, g: Array) -> dict[str, Array]:
    right = x @ g @ x.T
    return {
        "this is the transpose, X Gᵀ Xᵀ: a row of P is a query, and so is a row of G.": right.T,
        "is the gradient of the scores in it? This is XXᵀ alone.": x @ x.T,
        "M occurs once in P = XᵀMX: one term, without its transpose.": right + right.T,
        "is there a minus too many? The gradient points uphill.": -right,
        "a mean over the tokens? Each entry of P counts in full.": right / x.shape[1],
        "no factor 1/√d here: P is XᵀMX itself.": right / np.sqrt(x.shape[0]),
    }


_SHAPES = {
    (25,): "as many numbers as M has, but in one row: bring them to the shape of M, (5, 5).",
    (3, 3): "it has the shape of P, (3, 3): expected that of M, (5, 5). Which side of G does X belong on?",
    (9, 25): "this is the Jacobian itself: multiply its transpose by vec(G), in the shape of M.",
}


@checker("The gradient of the product")
def check_product_gradient(answer: Any) -> str:
    """A function (X (d, T), G = ∂L/∂P (T, T)) → ∂L/∂M (d, d) of P = XᵀMX."""
    generator = np.random.default_rng(0)
    x, g = generator.normal(size=(5, 3)), generator.normal(size=(3, 3))
    given = numbers(call(answer, x, g), (5, 5), "the gradient for d = 5 and 3 tokens", _SHAPES)
    right = x @ g @ x.T
    otherwise = f"its first entry is {given[0, 0]:.3f}: expected {right[0, 0]:.3f}."
    judge_numbers(given, right, otherwise, _gradient_mistakes, (x, g))
    return "X G Xᵀ: whatever the loss wants, it has to pass through X twice."


def _entropies(gap: float, n: int) -> Array:
    """Entropies (n − 1,) in nats if k = 1 … n − 1 scores are at the top and the others `gap` below."""
    k = np.arange(1, n)
    z = k + (n - k) * np.exp(-gap)
    return np.asarray(np.log(z) + gap * (n - k) * np.exp(-gap) / z, dtype=np.float64)


def _floor_mistakes(gap: float, n: int) -> dict[str, Any]:
    h, log_n, k = _entropies(gap, n), np.log(n), np.arange(1, n)
    return {
        "is k = 1 always the worst? Of scores close together, half at the top is worse. Try every k.": h[0]
        / log_n,
        "is it divided by log n?": h.min(),
        "only k = 1 is tried, and it is not divided by log n.": h[0],
        "this is the largest over k: expected the least.": h.max() / log_n,
        "this is a mean over k: the floor is the least of them.": h.mean() / log_n,
        "is the second term in it? log Z alone is not the entropy: add what the lower scores cost.": np.log(
            k + (n - k) * np.exp(-gap)
        ).min()
        / log_n,
        "is k = n/2 always the worst? If scores lie far apart, one at the top is worse. Try every k.": h[
            n // 2 - 1
        ]
        / log_n,
    }


@checker("The least entropy of a row")
def check_floor(answer: Any) -> str:
    """A function (gap, n) → the least H of softmax over n scores that lie no more than `gap` apart."""
    for gap, n in ((1.0, 16), (4.0, 16), (2.0, 5), (0.0, 8)):
        right = float(entropy_floor(torch.tensor(gap, dtype=torch.float64), torch.tensor(n)))
        given = numbers(call(answer, gap, n), (), "the floor for one gap")
        if np.isnan(given):
            raise Wrong(f"it is NaN for gap {gap:g} and n = {n}.")
        otherwise = f"for gap {gap:g} and n = {n} it gives {given:.3f}: expected {right:.3f}."
        judge_numbers(given, right, otherwise, _floor_mistakes, (gap, n))
    return "1 for equal scores, and towards 0 like gap · e^−gap when they lie far apart."
