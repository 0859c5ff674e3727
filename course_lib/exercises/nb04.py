"""Exercises of notebook 04: the rule of the bound, power iteration, AdamW² by hand, what Weyl promises."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_lib.exercises.checking import (
    Array,
    NotYet,
    Wrong,
    call,
    checker,
    close,
    diagnose,
    judge_claims,
    judge_numbers,
    numbers,
)
from course_lib.extras import pandas as pd
from course_lib.optim import AdamW2, bounded_parameters
from course_lib.runs import Run, RunConfig


def _rule_mistakes(lr: float, tau: float, w: float, u: float) -> dict[str, float]:
    return {
        "it never leaves lr alone. Where the step is small enough, α is lr: take the smaller of the two.": tau
        * w
        / u,
        "it takes the larger of the two: the bound only ever cuts.": max(lr, tau * w / u),
        "is the ratio upside down? A large update needs a small α.": min(lr, tau * u / w),
        "where is σ₁(W)? A step is large or small beside its matrix.": min(lr, tau / u),
        "where are the two σ₁? τ bounds ρ, not α.": min(lr, tau),
        "is lr in it twice? ρ = α σ₁(ΔW)/σ₁(W) ≤ τ, solved for α, leaves τ σ₁(W)/σ₁(ΔW).": min(
            lr, tau * w / (lr * u)
        ),
        "this is the factor of lr: multiply it by lr.": min(1.0, tau * w / (lr * u)),
        "this is ρ: expected the α that keeps it at τ or below.": lr * u / w,
        "where is τ? This α moves W by its own size.": min(lr, w / u),
        "it throws away the steps that are too large: shorten them, so that ρ is just τ.": 0.0
        if lr * u > tau * w
        else lr,
    }


@checker("The rule of the bound")
def check_allowed_lr(answer: Any) -> str:
    """A function (lr, τ, σ₁(W), σ₁(ΔW)) → α."""
    for case in ((0.05, 0.1, 0.4, 8.0), (0.01, 0.05, 6.0, 2.0)):
        lr, tau, sigma_w, sigma_update = case
        right = min(lr, tau * sigma_w / sigma_update)
        given = numbers(call(answer, *case), (), "α for one matrix")
        if not close(given, right, right / 1000):
            if right < lr and close(given, lr, right / 1000):
                raise Wrong("it never cuts: here ρ at lr is far above τ.")
            # The numbers are small, so they are compared by their ratio.
            known = diagnose(_rule_mistakes, case, given, partial(np.isclose, rtol=1e-3, atol=0))
            raise Wrong(known or f"for {case} it gives {given:.3g}: expected {right:.3g}.")
    return "α = min(lr, τ σ₁(W)/σ₁(ΔW)): all that AdamW² adds to AdamW."


_TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
_MATRIX = _TURN @ np.diag([3.0, 2.5, 0.5]) @ np.roll(np.eye(3), 1, axis=1)
_START = np.array([1.0, 1.0, 1.0]) / np.sqrt(3)


def _power(w: Array, v: Array, iterations: int) -> float:
    """‖W v‖ of the unit vector v after `iterations` products with WᵀW."""
    for _ in range(iterations):
        v = w.T @ (w @ v)
        v = v / np.linalg.norm(v)
    return float(np.linalg.norm(w @ v) / np.linalg.norm(v))


def _power_mistakes(w: Array, start: Array, iterations: int) -> dict[str, Any]:
    norm, plain, long = np.linalg.norm, start, start
    for _ in range(iterations):
        plain = w @ plain / norm(w @ plain)
        long = w.T @ (w @ (long / norm(long)))
    squares = (_power(w, start, iterations) ** 2, norm(long))
    by_w_alone = norm(w @ plain)
    unscaled = norm(np.linalg.matrix_power(w.T @ w, iterations) @ start)
    return {
        "this is σ₁²: the length of WᵀWv grows by the square. Take the root, or the length of Wv.": squares,
        "it multiplies by W alone, which leads to eigenvectors: singular vectors need WᵀW.": by_w_alone,
        "more iterations change nothing. Is the new vector used in the next one?": _power(w, start, 0),
        "exact, so there is an SVD in it: expected what so many iterations give from this start.": norm(w, 2),
        "it grows with every iteration: bring the vector back to length 1 each time.": unscaled,
        "this is the Frobenius norm, an upper bound: no vector in it.": norm(w),
    }


@checker("Power iteration")
def check_power_iteration(answer: Any) -> str:
    """A function (W (m, n), start (n,), iterations) → estimate of σ₁(W)."""
    for iterations in (2, 5, 1):  # after one step of a unit vector some mistakes look alike
        given = numbers(call(answer, _MATRIX, _START, iterations), (), "the estimate of one σ₁")
        # A root of the length of WᵀWv, and the length of Wv, half an iteration later, are both right.
        low, high = (_power(_MATRIX, _START, n) for n in (iterations - 1, iterations + 1))
        if not low * (1 - 1e-6) <= given <= high * (1 + 1e-6) or close(given, 3.0, 1e-7):
            known = diagnose(_power_mistakes, (_MATRIX, _START, iterations), given)
            default = f"{iterations} iterations give {given:.3f}: expected from {low:.3f} to {high:.3f}."
            raise Wrong(known or default)
    long = numbers(call(answer, _MATRIX, _START, 60), (), "the estimate after 60 iterations")
    otherwise = f"after 60 iterations it gives {long:.3g}, and σ₁ is 3: is every vector scaled to length 1?"
    judge_numbers(long, 3.0, otherwise)
    wide = np.array([[2.0, 0.0, 1.0, 0.5]])
    given = numbers(call(answer, wide, np.full(4, 0.5), 3), (), "the estimate for a 1 × 4 matrix")
    right = np.linalg.norm(wide)
    judge_numbers(given, right, f"for a 1 × 4 matrix it gives {given:.3f}: expected {right:.3f}.")
    return "from below, and the faster, the further σ₂ is from σ₁."


SETTINGS: dict[str, Any] = {"tau": 0.05, "betas": (0.9, 0.95), "eps": 0.05, "weight_decay": 0.5}
"""AdamW²'s settings in the check: ε and decay are so large that a misplaced one shows."""
_STEPS = 8
_LRS = (0.2, 0.02)
"""Every step is cut at the first, and none at the second."""


def _variant(lr: float, mistake: str = "") -> list[Tensor]:
    """The weights after each step of the check, by AdamW² with one mistake."""
    tau, (beta1, beta2), eps, decay = SETTINGS.values()
    if mistake == "betas":
        beta1, beta2 = beta2, beta1
    w, gradients = _problem()
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    norm = partial(torch.linalg.matrix_norm, ord="fro" if mistake == "frobenius" else 2)
    path = []
    for t, g in enumerate(gradients, 1):
        g = g + decay * w if mistake == "l2" else g
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        c1, c2 = (1.0, 1.0) if mistake == "correction" else (1 - beta1**t, 1 - beta2**t)
        update = m / c1 / ((v / c2 + eps).sqrt() if mistake == "eps" else (v / c2).sqrt() + eps)
        ratio = tau * norm(w) / norm(g if mistake == "gradient" else update)
        ratio = tau * norm(update) / norm(w) if mistake == "upside down" else ratio
        alpha = min(lr, float(ratio))
        alpha = {"never": lr, "always": float(ratio)}.get(mistake, alpha)
        shrink = {"lr": lr, "l2": 0.0, "no decay": 0.0, "strong": 1.0}.get(mistake, alpha) * decay
        w = w * (1 - shrink) + (alpha if mistake == "uphill" else -alpha) * update
        path.append(w)
    return path


def _problem() -> tuple[Tensor, Tensor]:
    """A matrix (5, 4) and the gradients (`_STEPS`, 5, 4) of the check: a drift with noise."""
    generator = torch.Generator().manual_seed(1)
    draw = torch.randn(2 + _STEPS, 5, 4, generator=generator, dtype=torch.float64)
    return draw[0], draw[1] + 0.7 * draw[2:]


_STEP_MISTAKES = {
    "never": "it never cuts: this is plain AdamW. Is α = min(lr, τ σ₁(W)/σ₁(ΔW))?",
    "always": "right where the bound cuts, but it uses τ σ₁(W)/σ₁(ΔW) also where lr is the smaller one.",
    "gradient": "is σ₁ taken of the gradient? The bound is on the update, ΔW = m̂/(√v̂ + ε).",
    "frobenius": "this is the Frobenius norm: expected σ₁, torch.linalg.matrix_norm(·, 2).",
    "upside down": "is the ratio upside down? A large update needs a small α.",
    "correction": "are the moments corrected for their start at zero? m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ).",
    "lr": "decay uses lr: expected the α that was used, W ← (1 − αλ)W − αΔW.",
    "l2": "decay has gone into the gradient: AdamW's is decoupled, W ← (1 − αλ)W − αΔW.",
    "no decay": "where is the weight decay? W ← (1 − αλ)W − αΔW.",
    "strong": "decay is not multiplied by α: W ← (1 − αλ)W − αΔW.",
    "eps": "is ε inside the root? Expected √v̂ + ε.",
    "betas": "are the two β the wrong way round? β₁ belongs to m, β₂ to v.",
    "uphill": "it goes uphill: ΔW is subtracted.",
}


def _by_library(lr: float) -> list[Tensor]:
    """The weights after each step of the check, by `course_lib.AdamW2`."""
    w, gradients = _problem()
    parameter = torch.nn.Parameter(w)
    optimizer = AdamW2([parameter], lr=lr, **SETTINGS)
    path = []
    for g in gradients:
        parameter.grad = g.clone()
        optimizer.step()
        path.append(parameter.detach().clone())
    return path


def _walk(answer: Any, lr: float) -> list[Array]:
    """The weights after each step of the reader's function."""
    w, gradients = _problem()
    state: dict[str, Any] = {}
    path: list[Array] = []
    for g in gradients:
        start = w.clone()
        try:
            new = call(answer, kept=(w, g.clone(), state, lr, *SETTINGS.values()))
        except NotYet:
            if torch.equal(w, start):
                raise
            raise Wrong("it changes w, but returns nothing: return the new W.") from None
        array = numbers(new, (5, 4), "the new W")
        if not np.isfinite(array).all():
            raise Wrong(
                f"W is not finite after step {len(path) + 1}. Does t count from 1? At 0, 1 − β₁ᵗ is 0."
            )
        path.append(array)
        w = torch.as_tensor(array).clone()
    if not state:
        raise Wrong("nothing is kept in `state`: the moments and t have to last from step to step.")
    return path


def _library() -> dict[float, list[Tensor]]:
    """`course_lib.AdamW2`'s weights at both learning rates."""
    return {lr: _by_library(lr) for lr in _LRS}


@checker("AdamW² by hand", prepare=_library)
def check_adamw2(answer: Any) -> str:
    """A function (w, grad, state, lr, τ, (β₁, β₂), ε, λ) → the new W, compared with `course_lib.AdamW2`.

    `state` is a dict, empty before the first step, that the function changes.
    """
    library = _library()
    given = {lr: _walk(answer, lr) for lr in _LRS}
    wrong = {lr: _first_difference(given[lr], library[lr]) for lr in _LRS}
    if not any(wrong.values()):
        return f"the same as course_lib.AdamW2, {_STEPS} steps with the bound at work and {_STEPS} without."
    for name, message in _STEP_MISTAKES.items():
        if not any(_first_difference(given[lr], _variant(lr, name)) for lr in _LRS):
            raise Wrong(message)
    lr, step = next((lr, step) for lr, step in wrong.items() if step)
    cut = "the bound has to cut" if lr == _LRS[0] else "there is nothing to cut"
    raise Wrong(f"it leaves course_lib.AdamW2 at step {step}, at lr {lr:g}, where {cut}.")


def _first_difference(given: list[Array], right: list[Tensor]) -> int:
    """The first step, from 1, after which weights differ; 0 if none does."""
    pairs = enumerate(zip(given, right, strict=True), 1)
    # The library estimates σ₁ from vectors that span these small matrices, so only rounding remains.
    return next((t for t, (a, b) in pairs if not close(a, b.numpy(), 1e-4)), 0)


def step_for_step(step: Any, config: RunConfig, steps: int) -> pd.DataFrame:
    """Train one model twice from the same weights: the block matrices by `step`, and by `course_lib.AdamW2`.

    AdamW² steps all other parameters like plain AdamW in both.

    Args:
        step: a function as `check_adamw2` expects it.
        config: a GPT's, with optimizer="adamw2".
        steps: how many to make.

    Returns:
        One row per step: the losses (nats) of both, and the largest difference of a bounded matrix, relative
        to its largest entry.
    """
    config = replace(config, probe_every=0)
    library, by_hand = Run(config), Run(config)
    theirs = dict(library.model.named_parameters())
    bounded = {name: b.parameter for name, b in bounded_parameters(by_hand.model).items()}
    states: dict[str, dict[str, Any]] = {name: {} for name in bounded}
    rows = []
    for _ in range(steps):
        record = library.step()
        before = {name: p.detach().clone() for name, p in bounded.items()}
        loss = by_hand.step().loss
        settings = (record.lr, config.tau, config.betas, config.eps, config.weight_decay)
        with torch.no_grad():
            for name, p in bounded.items():
                p.copy_(torch.as_tensor(step(before[name], p.grad, states[name], *settings)))
        off = max(((p - theirs[n]).abs().max() / theirs[n].abs().max()).item() for n, p in bounded.items())
        rows.append({"yours": loss, "course_lib.AdamW2": record.loss, "difference": off})
    return pd.DataFrame(rows).rename_axis("step")


PROMISES = {
    "a": "In one step σ₁(W) grows by no more than the share τ.",
    "b": "σ₁(W) never grows beyond a fixed size.",
    "c": "In one step the product σ₁(W_q)·σ₁(W_k) grows by no more than the factor (1 + τ)².",
    "d": "SEC of W_qᵀW_k cannot rise.",
    "e": "No head's part of W_q moves by more than the share τ of its own σ₁.",
    "f": "In one step every singular value of W, not just the first, moves by no more than τ σ₁(W).",
}
"""Claims about what the bound ensures without weight decay; half of them hold."""

_SUPPORTED = "acf"
_EVIDENCE = {
    "a": "that is Weyl's inequality with ασ₁(ΔW) ≤ τσ₁(W).",
    "b": "it may grow by the share τ in every step: this is a limit of speed, not of size.",
    "c": "each of the two factors grows by 1 + τ at most.",
    "d": "SEC rose in the bounded run, too. The bound knows σ₁ of one step, and no shape.",
    "e": "the bound acts on the whole of W_q, heads stacked; look at the table of single heads.",
    "f": "Weyl holds for every singular value, |σᵢ(W − αΔW) − σᵢ(W)| ≤ ασ₁(ΔW).",
}


@checker("What the bound promises")
def check_promises(answer: Any) -> str:
    """The letters of the claims in `PROMISES` that follow from ρ ≤ τ."""
    judge_claims(answer, PROMISES, _SUPPORTED, _EVIDENCE)
    return "a limit of speed, for whole matrices, and no more than that."
