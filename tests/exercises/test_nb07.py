"""The exercises of notebook 07: right answers in several forms, and the likely wrong ones by name."""

import math

import numpy as np
import pytest
import torch

from course_lib.exercises import check_linear, check_sees
from course_lib.models.attention import focus, linear_attention
from course_lib.studies.window_reach import visible


def assert_names(result, words):
    assert result.status == "not quite", result
    assert words in result.message, result


# --- who sees whom ------------------------------------------------------------------------------


def by_division(i, j, side, window, shift):
    return (i - shift) // window == (j - shift) // window


def by_borders(i, j, side, window, shift):
    borders = range(shift, side, window)
    return sum(b <= i for b in borders) == sum(b <= j for b in borders)


def by_roll_and_mask(i, j, side, window, shift):
    ri, rj = (i - shift) % side, (j - shift) % side
    together = ri // window == rj // window
    wrapped = [r >= side - shift for r in (ri, rj)]
    return np.bool_(together and wrapped[0] == wrapped[1])


@pytest.mark.parametrize(
    "answer",
    [
        by_division,
        by_borders,
        by_roll_and_mask,
        lambda *a: int(by_division(*a)),
        lambda *a: torch.tensor(by_division(*a)),
        lambda i, j, side, w, s: math.floor((i - s) / w) == math.floor((j - s) / w),
    ],
)
def test_who_sees_whom_is_accepted_in_any_form(answer):
    assert check_sees(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda i, j, side, w, s: i // w == j // w, "without a shift"),
        (lambda i, j, side, w, s: (i - s) % side // w == (j - s) % side // w, "what the mask is for"),
        (lambda i, j, side, w, s: (i + s) // w == (j + s) // w, "the other way"),
        (lambda i, j, side, w, s: int((i - s) / w) == int((j - s) / w), "rounds"),
        (lambda i, j, side, w, s: abs(i - j) < w, "fixed borders"),
        (lambda i, j, side, w, s: i // w == j // w or by_division(i, j, side, w, s), "both blocks"),
        (lambda *a: not by_division(*a), "wrong way round"),
        (lambda *a: True, "expected the opposite"),
        (lambda *a: [True, False], "expected a single number"),
        (lambda *a: "yes", "expected numbers"),
        (lambda i, j: True, "fails with TypeError"),
    ],
)
def test_mistakes_about_windows_are_named(answer, words):
    assert_names(check_sees(answer), words)


def test_the_rule_of_the_exercise_is_the_models():
    """Rows and columns by the rule give what the model's own roll and mask let a place see."""
    side, window, shift = 8, 4, 2
    row = np.array([[by_division(i, j, side, window, shift) for j in range(side)] for i in range(side)])
    both = row[:, None, :, None] & row[None, :, None, :]
    assert np.array_equal(both.reshape(side**2, side**2), visible(side, window, shift))


# --- linear attention ---------------------------------------------------------------------------


def linear(q, k, v):
    return q @ (k.T @ v) / (q @ k.sum(0))[:, None]


def by_ones(q, k, v):
    out = q @ (k.T @ np.hstack([v, np.ones((len(v), 1))]))
    return out[:, :-1] / out[:, -1:]


def in_torch(q, k, v):
    q, k, v = map(torch.as_tensor, (q, k, v))
    return q @ (k.T @ v) / (q @ k.sum(0)).unsqueeze(-1)


@pytest.mark.parametrize(
    "answer",
    [
        linear,
        by_ones,
        in_torch,
        lambda q, k, v: linear(q, k, v).astype(np.float32),
        lambda q, k, v: (
            torch.einsum("nd,de->ne", q, torch.einsum("nd,ne->de", k, v)) / (q @ k.sum(0))[:, None]
        ),
    ],
)
def test_attention_without_its_map_is_accepted_in_any_form(answer):
    assert check_linear(answer).passed


def softmax(q, k, v):
    e = np.exp(q @ k.T)
    return e / e.sum(1, keepdims=True) @ v


def by_its_map(q, k, v):
    scores = q @ k.T
    return scores / scores.sum(1, keepdims=True) @ v


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda q, k, v: q @ (k.T @ v), "do not sum to 1"),
        (by_its_map, "is made on the way"),
        (softmax, "softmax attention"),
        (lambda q, k, v: q @ (k.T @ v) / len(k), "number of keys"),
        (lambda q, k, v: q @ (k.T @ v) / (k @ q.sum(0))[:, None], "changed places"),
        (lambda q, k, v: q @ (k.T @ v) / (q @ k.T).sum(), "all queries"),
        (lambda q, k, v: q @ (k.T @ v) / q.sum(1, keepdims=True), "components"),
        (lambda q, k, v: v, "expected"),
        (lambda q, k, v: v * np.nan, "not finite"),
        (lambda q, k, v: v[0], "shape"),
        (lambda q, k: q, "fails with TypeError"),
    ],
)
def test_mistakes_about_linear_attention_are_named(answer, words):
    assert_names(check_linear(answer), words)


def test_the_rule_of_the_exercise_is_the_models_linear_attention(generator):
    q, k, v = torch.rand(3, 9, 4, generator=generator).double()
    torch.testing.assert_close(linear_attention(q, k, v), in_torch(focus(q), focus(k), v))


@pytest.mark.parametrize("check", [check_sees, check_linear])
@pytest.mark.parametrize("answer", [None, ..., 3, "text", [1, 2], lambda *a: None, lambda *a: ...])
def test_no_answer_breaks_a_checker(check, answer):
    result = check(answer)
    assert not result.passed
    assert "\n" not in result.message
