"""Checkers of notebook 04 accept right answers in any form and name the likely wrong ones."""

import numpy as np
import pytest
import torch

from course_lib import preset
from course_lib.exercises import (
    PROMISES,
    check_adamw2,
    check_allowed_lr,
    check_power_iteration,
    check_promises,
    step_for_step,
)
from course_lib.exercises.nb04 import _STEP_MISTAKES, _by_library, _first_difference, _problem, _variant


def assert_names(result, words):
    assert result.status == "not quite", result
    assert words in result.message, result


# --- the rule -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        lambda lr, tau, w, u: min(lr, tau * w / u),
        lambda lr, tau, w, u: torch.tensor(min(lr, tau * w / u)),
        lambda lr, tau, w, u: tau * w / u if lr * u / w > tau else lr,
        lambda lr, tau, w, u: lr * min(1, tau / (lr * u / w)),
        lambda lr, tau, w, u: np.minimum([lr], tau * w / u),
    ],
)
def test_the_rule_is_accepted_in_any_form(answer):
    result = check_allowed_lr(answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda lr, tau, w, u: tau * w / u, "never leaves lr alone"),
        (lambda lr, tau, w, u: max(lr, tau * w / u), "larger of the two|never cuts"),
        (lambda lr, tau, w, u: lr, "never cuts"),
        (lambda lr, tau, w, u: min(lr, tau * u / w), "upside down|never cuts"),
        (lambda lr, tau, w, u: min(lr, tau / u), "where is σ₁\\(W\\)"),
        (lambda lr, tau, w, u: min(lr / 2, tau), "it gives"),
        (lambda lr, tau, w, u: min(1, tau * w / (lr * u)), "factor of lr"),
        (lambda lr, tau, w, u: lr * u / w, "this is ρ"),
        (lambda lr, tau, w, u: min(lr, w / u), "never cuts|where is τ"),
        (lambda lr, tau, w, u: 0.0 if lr * u > tau * w else lr, "throws away"),
        (lambda lr, tau, w, u: "a", "expected numbers"),
    ],
)
def test_wrong_rules_are_named(answer, words):
    result = check_allowed_lr(answer)
    assert result.status == "not quite"
    assert any(w.replace("\\", "") in result.message for w in words.split("|")), result


# --- power iteration ----------------------------------------------------------------------------


def power(w, v, n):
    for _ in range(n):
        v = w.T @ (w @ v)
        v = v / np.linalg.norm(v)
    return np.linalg.norm(w @ v)


def by_length(w, v, n):
    for _ in range(n):
        v = w.T @ (w @ v)
        size = np.linalg.norm(v)
        v = v / size
    return size**0.5


def two_sided(w, v, n):
    for _ in range(n):
        u = w @ v
        u = u / u.norm()
        v = w.T @ u
        sigma = v.norm()
        v = v / sigma
    return sigma


@pytest.mark.parametrize("answer", [power, by_length, two_sided])
def test_power_iteration_is_accepted_in_any_form(answer):
    result = check_power_iteration(answer)
    assert result.passed, result


def unscaled(w, v, n):
    for _ in range(n):
        v = w.T @ (w @ v)
    return np.linalg.norm(v)


def without_transpose(w, v, n):
    for _ in range(n):
        v = w @ v
        v = v / np.linalg.norm(v)
    return np.linalg.norm(w @ v)


def last_length(w, v, n):
    for _ in range(n):
        v = w.T @ (w @ (v / np.linalg.norm(v)))
    return np.linalg.norm(v)


def endless(w, v, n):
    while True:
        v = w.T @ (w @ v)
        v = v / np.linalg.norm(v)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda w, v, n: power(w, v, n) ** 2, "σ₁²"),
        (last_length, "σ₁²"),
        (without_transpose, "eigenvectors"),
        (lambda w, v, n: power(w, v, 1) if n == 1 else power(w, v, 0), "change nothing"),
        (lambda w, v, n: np.linalg.svd(w)[1][0], "SVD"),
        (unscaled, "length 1"),
        (lambda w, v, n: np.linalg.norm(w), "Frobenius"),
        (lambda w, v, n: power(w, v, min(n, 3)), "5 iterations give"),
        (lambda w, v, n: v, "shape"),
        (lambda w, v, n: np.nan, "expected"),
        (lambda w, v, n: power(w @ w.T, v, n), "fails with|expected"),
    ],
)
def test_wrong_power_iterations_are_named(answer, words):
    result = check_power_iteration(answer)
    assert result.status == "not quite", result
    assert any(w in result.message for w in words.split("|")), result


def test_an_endless_power_iteration_is_given_up(monkeypatch):
    monkeypatch.setattr("course_lib.exercises.checking.SECONDS", 0.3)
    assert_names(check_power_iteration(endless), "never ends")


# --- AdamW² by hand -----------------------------------------------------------------------------


def step(w, grad, state, lr, tau, betas, eps, weight_decay):
    if not state:
        state.update(m=torch.zeros_like(w), v=torch.zeros_like(w), t=0)
    state["t"] += 1
    state["m"] = betas[0] * state["m"] + (1 - betas[0]) * grad
    state["v"] = betas[1] * state["v"] + (1 - betas[1]) * grad**2
    m, v = (state[k] / (1 - b ** state["t"]) for k, b in zip("mv", betas, strict=True))
    update = m / (v.sqrt() + eps)
    ratio = tau * torch.linalg.matrix_norm(w, 2) / torch.linalg.matrix_norm(update, 2)
    alpha = min(lr, ratio.item())
    return (1 - alpha * weight_decay) * w - alpha * update


def in_place(w, grad, state, *settings):
    return w.copy_(step(w, grad, state, *settings))


def in_numpy(w, grad, state, lr, tau, betas, eps, weight_decay):
    w, grad = w.numpy(), grad.numpy()
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * grad
    v = state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * grad**2
    update = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    alpha = min(lr, tau * np.linalg.norm(w, 2) / np.linalg.norm(update, 2))
    return w * (1 - alpha * weight_decay) - alpha * update


@pytest.mark.parametrize("answer", [step, in_place, in_numpy])
def test_adamw2_is_accepted_in_any_form(answer):
    result = check_adamw2(answer)
    assert result.passed, result


def walker(mistake):
    """A reader's function that makes one of the known mistakes."""

    def answer(w, grad, state, lr, *settings):
        state["t"] = state.get("t", 0) + 1
        return _variant(lr, mistake)[state["t"] - 1]

    return answer


@pytest.mark.parametrize("mistake", _STEP_MISTAKES)
def test_mistakes_in_adamw2_are_named(mistake):
    assert_names(check_adamw2(walker(mistake)), _STEP_MISTAKES[mistake])


@pytest.mark.parametrize("mistake", _STEP_MISTAKES)
def test_every_known_mistake_leaves_the_library_and_no_two_are_the_same(mistake):
    wrong = {lr: _variant(lr, mistake) for lr in (0.2, 0.02)}
    assert any(_first_difference([w.numpy() for w in wrong[lr]], _by_library(lr)) for lr in wrong)
    for other in set(_STEP_MISTAKES) - {mistake}:
        assert any(_first_difference([w.numpy() for w in wrong[lr]], _variant(lr, other)) for lr in wrong), (
            other
        )


def test_at_one_learning_rate_every_step_is_cut_and_at_the_other_none():
    for lr, same in ((0.2, "always"), (0.02, "never")):
        assert not _first_difference([w.numpy() for w in _variant(lr)], _variant(lr, same))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda w, *_: w.add_(1) and None, "RuntimeError"),
        (lambda w, *_: w.add_(1).zero_().sum().item() or None, "returns nothing"),
        (lambda w, *_: w * np.nan, "not finite"),
        (lambda w, *_: w, "nothing is kept"),
        (lambda w, *_: w.T, "shape"),
        (lambda w, g, state, *_: state.update(t=1) or w + 1, "leaves course_lib.AdamW2 at step 1"),
        (lambda w: w, "fails with TypeError"),
    ],
)
def test_broken_steps_are_named(answer, words):
    assert_names(check_adamw2(answer), words)


def test_the_problem_has_gradients_that_change():
    _, gradients = _problem()
    assert not torch.equal(gradients[0], gradients[1])


def test_the_readers_step_follows_the_librarys_on_a_model():
    config = preset("copy", optimizer="adamw2", d_model=16, heads=2, context=16, batch=4, probe_every=0)
    table = step_for_step(step, config, steps=12)
    # The library's estimate of σ₁ is short by less than 0.5 % in training (bench/sigma.py).
    assert table["difference"].max() < 5e-3
    assert (table["yours"] - table["course_lib.AdamW2"]).abs().max() < 1e-2
    lost = step_for_step(lambda w, *_: w, config, steps=3)
    assert lost["difference"].iloc[-1] > 1e-2


# --- promises -----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [{"a", "c", "f"}, "acf", ["F", "c ", "a"]])
def test_promises_are_accepted_in_any_form(answer):
    assert check_promises(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("abcf", "limit of speed"),
        ("acdf", "d: SEC"),
        ("acef", "heads stacked"),
        ("cf", "a is missing"),
        ("af", "c is missing"),
        ("ac", "f is missing"),
        ("xyz", "no claim"),
        (3, "expected letters"),
    ],
)
def test_wrong_promises_are_named(answer, words):
    assert_names(check_promises(answer), words)


def test_what_is_called_promised_holds_and_the_rest_can_be_broken():
    """Each claim against matrices that the bound admits."""
    generator = torch.Generator().manual_seed(0)
    tau, sigma = 0.05, lambda m: torch.linalg.matrix_norm(m, 2)
    w = torch.randn(2, 8, 8, generator=generator, dtype=torch.float64)
    holds = dict.fromkeys(PROMISES, True)
    for _ in range(300):
        step = torch.randn(2, 8, 8, generator=generator, dtype=torch.float64)
        step[:, 0] += 2 * w[:, 0]  # one head of one row, pushed along itself
        step *= (tau * sigma(w) / sigma(step))[:, None, None]
        new = w + step
        before, after = torch.linalg.svdvals(w), torch.linalg.svdvals(new)
        holds["a"] &= bool((after[:, 0] <= (1 + tau) * before[:, 0] * (1 + 1e-9)).all())
        holds["b"] &= bool((after[:, 0] < 10).all())
        holds["c"] &= bool(after[:, 0].prod() <= (1 + tau) ** 2 * before[:, 0].prod() * (1 + 1e-9))
        energy = [torch.linalg.svdvals(m[0].T @ m[1]).square() for m in (w, new)]
        holds["d"] &= bool(energy[1][0] / energy[1].sum() <= energy[0][0] / energy[0].sum() + 1e-12)
        holds["e"] &= bool((step[:, 0].norm(dim=-1) <= tau * w[:, 0].norm(dim=-1) * (1 + 1e-9)).all())
        holds["f"] &= bool(((after - before).abs() <= tau * before[:, :1] * (1 + 1e-9)).all())
        w = new
    assert {letter for letter, true in holds.items() if true} == set("acf")
