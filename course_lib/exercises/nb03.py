"""Exercises of notebook 03: spectral energy, the gradient of W_qᵀW_k, the least entropy of a row."""

from typing import Any

import numpy as np
import torch

from course_lib.exercises.checking import Array, Diagnosis, Wrong, call, checker, close, diagnose, numbers
from course_lib.probes import entropy_floor

# --- spectral energy concentration --------------------------------------------------------------


def _sec(sigma: Array, s: int) -> float:
    energy = np.sort(sigma)[::-1] ** 2
    return float(energy[:s].sum() / energy.sum())


_SEC_MISTAKES: tuple[Diagnosis, ...] = (
    (
        lambda v, s: np.sort(v)[::-1][:s].sum() / v.sum(),
        "is it made of σ², or of σ? Energy is the square of a singular value.",
    ),
    (lambda v, s: (np.sort(v)[::-1][:s] ** 2).sum(), "is it divided by the whole energy Σσ²?"),
    (lambda v, s: _sec(v, s) ** 0.5, "is there a root too many? It is a share of the energy, not of a norm."),
    (lambda v, s: 1 - _sec(v, s), "this is what the *other* directions hold: 1 − SEC(s)."),
    (lambda v, s: _sec(v, s - 1), "one direction is missing: SEC(s) takes the first s of them."),
    (lambda v, s: _sec(v, s + 1), "one direction too many: SEC(s) takes the first s of them."),
    (lambda v, s: 1 / _sec(v, 1), "that is the stable rank, ‖·‖²/σ₁²."),
    (
        lambda v, s: (np.sort(v)[::-1][:s] ** 2).mean() / (v**2).mean(),
        "a mean over a mean? Expected a sum over a sum.",
    ),
    (
        lambda v, s: (np.sort(v)[:s] ** 2).sum() / (v**2).sum(),
        "these are the *smallest* s: the first directions are the strongest.",
    ),
    (
        lambda v, s: (v[:s] ** 2).sum() / (v**2).sum(),
        "the values do not come in order here: sort them, the largest first.",
    ),
)


@checker("Spectral energy concentration")
def check_sec(answer: Any) -> str:
    """A function (singular values (n,), s) → SEC(s)."""
    ordered = np.array([3.0, 2.0, 1.0, 0.7, 0.5])
    shuffled = ordered[[2, 0, 4, 3, 1]]
    for values, s in ((ordered, 2), (ordered, 5), (shuffled, 2)):
        given = numbers(call(answer, values, s), (), "SEC of one spectrum")
        if not close(given, _sec(values, s)):
            known = diagnose(_SEC_MISTAKES, (values, s), given)
            default = (
                f"for σ = {values.tolist()}, s = {s}, it gives {given:.3f}: expected {_sec(values, s):.3f}."
            )
            raise Wrong(known or default)
    return "between s/n, for a flat spectrum, and 1."


# --- the gradient of W_qᵀW_k --------------------------------------------------------------------

_GRADIENT_MISTAKES: tuple[Diagnosis, ...] = (
    (
        lambda x, g: x @ g.T @ x.T,
        "this is the transpose, X Gᵀ Xᵀ: a row of P is a query, and so is a row of G.",
    ),
    (lambda x, g: x @ x.T, "is the gradient of the scores in it? This is XXᵀ alone."),
    (lambda x, g: x @ (g + g.T) @ x.T, "M occurs once in P = XᵀMX: one term, without its transpose."),
    (lambda x, g: -x @ g @ x.T, "is there a minus too many? The gradient points uphill."),
    (lambda x, g: x @ g @ x.T / x.shape[1], "a mean over the tokens? Each entry of P counts in full."),
    (lambda x, g: x @ g @ x.T / np.sqrt(x.shape[0]), "no factor 1/√d here: P is XᵀMX itself."),
)


@checker("The gradient of the product")
def check_product_gradient(answer: Any) -> str:
    """A function (X (d, T), G = ∂L/∂P (T, T)) → ∂L/∂M (d, d) of P = XᵀMX."""
    generator = np.random.default_rng(0)
    x, g = generator.normal(size=(5, 3)), generator.normal(size=(3, 3))
    given = call(answer, x, g)
    flat = np.asarray(given.detach() if isinstance(given, torch.Tensor) else given, dtype=object)
    if flat.shape == (25,):
        raise Wrong("as many numbers as M has, but in one row: bring them to the shape of M, (5, 5).")
    if flat.shape == (3, 3):
        raise Wrong(
            "it has the shape of P, (3, 3): expected that of M, (5, 5). Which side of G does X belong on?"
        )
    if flat.shape == (9, 25):
        raise Wrong("this is the Jacobian itself: multiply its transpose by vec(G), in the shape of M.")
    array = numbers(given, (5, 5), "the gradient for d = 5 and 3 tokens")
    if not close(array, x @ g @ x.T):
        raise Wrong(
            diagnose(_GRADIENT_MISTAKES, (x, g), array)
            or f"its first entry is {array[0, 0]:.3f}: expected {(x @ g @ x.T)[0, 0]:.3f}."
        )
    return "X G Xᵀ: whatever the loss wants, it has to pass through X twice."


# --- the least entropy of a row -----------------------------------------------------------------


def _entropies(gap: float, n: int) -> Array:
    """Entropy in nats with k = 1 … n − 1 scores at the top and the others `gap` below."""
    k = np.arange(1, n)
    z = k + (n - k) * np.exp(-gap)
    return np.asarray(np.log(z) + gap * (n - k) * np.exp(-gap) / z, dtype=np.float64)


_FLOOR_MISTAKES: tuple[Diagnosis, ...] = (
    (
        lambda gap, n: _entropies(gap, n)[0] / np.log(n),
        "is k = 1 always the worst? Of scores close together, half at the top is worse. Try every k.",
    ),
    (lambda gap, n: _entropies(gap, n).min(), "is it divided by log n?"),
    (lambda gap, n: _entropies(gap, n)[0], "only k = 1 is tried, and it is not divided by log n."),
    (lambda gap, n: _entropies(gap, n).max() / np.log(n), "this is the largest over k: expected the least."),
    (
        lambda gap, n: _entropies(gap, n).mean() / np.log(n),
        "this is a mean over k: the floor is the least of them.",
    ),
    (
        lambda gap, n: np.log(np.arange(1, n) + (n - np.arange(1, n)) * np.exp(-gap)).min() / np.log(n),
        "is the second term in it? log Z alone is not the entropy: add what the lower scores cost.",
    ),
    (
        lambda gap, n: _entropies(gap, n)[n // 2 - 1] / np.log(n),
        "is k = n/2 always the worst? If scores lie far apart, one at the top is worse. Try every k.",
    ),
)


@checker("The least entropy of a row")
def check_floor(answer: Any) -> str:
    """A function (gap, n) → the least H of softmax over n scores that lie no more than `gap` apart."""
    for gap, n in ((1.0, 16), (4.0, 16), (2.0, 5), (0.0, 8)):
        right = float(entropy_floor(torch.tensor(gap, dtype=torch.float64), torch.tensor(n)))
        given = numbers(call(answer, gap, n), (), "the floor for one gap")
        if np.isnan(given):
            raise Wrong(f"it is NaN for gap {gap:g} and n = {n}.")
        if not close(given, right):
            known = diagnose(_FLOOR_MISTAKES, (gap, n), given)
            raise Wrong(known or f"for gap {gap:g} and n = {n} it gives {given:.3f}: expected {right:.3f}.")
    return "1 for equal scores, and towards 0 like gap · e^−gap when they lie far apart."
