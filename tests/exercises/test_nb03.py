"""Checkers of notebook 03 accept right answers in any form and name the likely wrong ones."""

import math

import numpy as np
import pytest
import torch

from course_lib.exercises import check_floor, check_product_gradient, check_sec


def assert_names(result, words):
    assert result.status == "not quite", result
    assert words in result.message, result


def energy(sigma):
    return np.sort(np.asarray(sigma))[::-1] ** 2


def sec(sigma, s):
    return energy(sigma)[:s].sum() / energy(sigma).sum()


@pytest.mark.parametrize(
    "answer",
    [
        sec,
        lambda v, s: float(sec(v, s)),
        lambda v, s: torch.as_tensor(v).square().sort(descending=True).values[:s].sum() / (v**2).sum(),
        lambda v, s: v.square().topk(s).values.sum() / v.square().sum(),  # wants a tensor
        lambda v, s: sum(sorted((x * x for x in v), reverse=True)[:s]) / sum(x * x for x in v),
    ],
)
def test_sec_is_accepted_in_any_form(answer):
    result = check_sec(answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda v, s: np.sort(v)[::-1][:s].sum() / v.sum(), "of σ², or of σ"),
        (lambda v, s: energy(v)[:s].sum(), "divided by the whole energy"),
        (lambda v, s: sec(v, s) ** 0.5, "root too many"),
        (lambda v, s: 1 - sec(v, s), "other"),
        (lambda v, s: sec(v, s - 1), "one direction is missing"),
        (lambda v, s: sec(v, s + 1), "one direction too many"),
        (lambda v, s: 1 / sec(v, 1), "stable rank"),
        (lambda v, s: energy(v)[:s].mean() / energy(v).mean(), "mean over a mean"),
        (lambda v, s: (v[:s] ** 2).sum() / (v**2).sum(), "sort them"),
        (lambda v, s: (np.sort(v)[:s] ** 2).sum() / (v**2).sum(), "smallest"),
        (lambda v, s: 0.123, "expected"),
        (lambda v, s: v, "shape"),
        (lambda v, s: np.nan, "nan"),
        (lambda v, s: 1 / 0, "ZeroDivisionError"),
        (7, "the function itself"),
    ],
)
def test_wrong_sec_is_named(answer, words):
    assert_names(check_sec(answer), words)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, g: x @ g @ x.T,
        lambda x, g: (x @ g @ x.T).tolist(),
        lambda x, g: np.einsum("ai,ij,bj->ab", x, g, x),
        lambda x, g: (np.kron(x.T, x.T).T @ g.flatten()).reshape(5, 5),
        lambda x, g: torch.einsum("ai,ij,bj->ab", x, g, x),  # wants tensors
    ],
)
def test_the_gradient_is_accepted_in_any_form(answer):
    result = check_product_gradient(answer)
    assert result.passed, result


def by_autograd(x, g):
    m = torch.zeros(5, 5, dtype=torch.float64, requires_grad=True)
    x, g = torch.as_tensor(x), torch.as_tensor(g)
    (x.T @ m @ x * g).sum().backward()
    return m.grad


def test_autograd_agrees_with_the_gradient_that_is_called_right():
    assert check_product_gradient(by_autograd).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, g: x @ g.T @ x.T, "transpose"),
        (lambda x, g: x @ x.T, "XXᵀ alone"),
        (lambda x, g: x @ (g + g.T) @ x.T, "one term"),
        (lambda x, g: -x @ g @ x.T, "minus"),
        (lambda x, g: x @ g @ x.T / 3, "mean"),
        (lambda x, g: x @ g @ x.T / np.sqrt(5), "no factor"),
        (lambda x, g: x.T @ x @ g, "shape of P"),
        (lambda x, g: (x @ g @ x.T).flatten(), "in one row"),
        (lambda x, g: np.kron(x.T, x.T), "Jacobian itself"),
        (lambda x, g: 3 * x @ g @ x.T, "its first entry"),
        (lambda x, g: x.T @ g, "fails with"),
        (lambda x, g: [[1, 2], [3]], "expected numbers"),
    ],
)
def test_wrong_gradients_are_named(answer, words):
    assert_names(check_product_gradient(answer), words)


def rows(gap, n):
    """Entropies in nats with k scores at the top, k from 1 to n − 1, from softmax itself."""
    found = []
    for k in range(1, n):
        z = torch.tensor([gap] * k + [0.0] * (n - k), dtype=torch.float64)
        found.append(torch.distributions.Categorical(logits=z).entropy().item())
    return np.array(found)


@pytest.mark.parametrize(
    "answer",
    [
        lambda gap, n: rows(gap, n).min() / math.log(n),
        lambda gap, n: torch.tensor(rows(gap, n).min() / math.log(n)),
        lambda gap, n: [rows(gap, n).min() / np.log(n)],
    ],
)
def test_the_floor_is_accepted_in_any_form(answer):
    result = check_floor(answer)
    assert result.passed, result


def z(gap, n):
    k = np.arange(1, n)
    return k + (n - k) * np.exp(-gap)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda gap, n: rows(gap, n)[0] / np.log(n), "k = 1 always"),
        (lambda gap, n: rows(gap, n)[n // 2 - 1] / np.log(n), "k = n/2 always"),
        (lambda gap, n: rows(gap, n).min(), "divided by log n"),
        (lambda gap, n: rows(gap, n)[0], "only k = 1"),
        (lambda gap, n: rows(gap, n).max() / np.log(n), "largest"),
        (lambda gap, n: rows(gap, n).mean() / np.log(n), "mean"),
        (lambda gap, n: np.log(z(gap, n)).min() / np.log(n), "second term"),
        (lambda gap, n: np.nan, "NaN"),
        (lambda gap, n: 0.0, "expected"),
    ],
)
def test_wrong_floors_are_named(answer, words):
    assert_names(check_floor(answer), words)


@pytest.mark.parametrize("check", [check_sec, check_product_gradient, check_floor])
def test_no_answer_is_not_yet_wrong(check):
    assert check(None).status == "not yet"
    assert check(lambda *_: ...).status == "not yet"
    assert check(lambda *_: None).status == "not yet"
