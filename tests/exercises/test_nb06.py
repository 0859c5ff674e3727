"""The checkers of notebook 06 accept right answers in several forms, and name the likely wrong ones."""

import numpy as np
import pytest
import torch

from course_lib.exercises.nb06 import check_patch_map, check_tamed


def assert_names(result, words):
    assert result.status == "not quite", result
    assert words in result.message, result


def square(row):
    return (row / row.sum()).reshape(3, 3)


def loops(a):
    mean = [sum(head[0][k] for head in a.tolist()) / len(a) for k in range(1, 10)]
    total = sum(mean)
    return [[mean[3 * i + j] / total for j in range(3)] for i in range(3)]


@pytest.mark.parametrize(
    "answer",
    [
        lambda a: square(a.mean(0)[0, 1:]),
        lambda a: square(a[:, 0, 1:].sum(0)),  # the sum's factor falls out
        lambda a: square(torch.as_tensor(a).mean(dim=0)[0, 1:]).float(),
        lambda a: torch.nn.functional.normalize(a[:, 0, 1:].mean(dim=0), p=1, dim=0).view(3, 3),
        loops,
    ],
)
def test_a_map_is_accepted_in_any_form(answer):
    assert check_patch_map(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda a: square(a.mean(0)[1:, 0]), "a column"),
        (lambda a: a.mean(0)[0, 1:].reshape(3, 3), "does not sum to 1"),
        (lambda a: square(a.mean(0)[0, :-1]), "class token is key 0"),
        (lambda a: square(a[0, 0, 1:]), "head 0 alone"),
        (lambda a: square(a.max(0)[0, 1:]), "largest weight"),
        (lambda a: square(a.mean(0).mean(0)[1:]), "all queries"),
        (lambda a: square(a.mean(0)[0, 1:]).T, "swapped"),
        (lambda a: a.mean(0)[0], "still in it"),
        (lambda a: a.mean(0)[0, 1:], "expected a map"),
        (lambda a: a[:, 0, 1:].reshape(4, 3, 3), "one map for each head"),
        (lambda a: square(a.mean(0)[0, 1:]) ** 2, "expected 0."),
        (lambda a: a.no_such_thing, "fails with"),
        (3, "expected the function itself"),
    ],
)
def test_wrong_maps_are_named(answer, words):
    assert_names(check_patch_map(answer), words)


def by_loop(ours, rival):
    best = -1.0
    for accuracies in rival.values():
        best = max(best, sum(accuracies) / len(accuracies))
    return sum(ours) / len(ours) > best - 0.01 - 1e-9


@pytest.mark.parametrize(
    "answer",
    [
        lambda ours, rival: np.mean(ours) >= max(np.mean(v) for v in rival.values()) - 0.01,
        lambda ours, rival: int(np.mean(ours) + 0.01 >= max(map(np.mean, rival.values()))),
        lambda ours, rival: (
            torch.tensor(ours).mean() >= torch.tensor(list(rival.values())).mean(1).max() - 0.01
        ),
        by_loop,
    ],
)
def test_a_fair_comparison_is_accepted_in_any_form(answer):
    assert check_tamed(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda o, r: np.mean(o) >= np.mean(r[max(r)]) - 0.01, "highest learning rate"),
        (lambda o, r: np.mean(o) >= np.mean(list(r.values())) - 0.01, "mean over all"),
        (lambda o, r: max(o) >= max(map(max, r.values())) - 0.01, "lucky seed"),
        (lambda o, r: np.mean(o) >= max(map(np.mean, r.values())), "within one percentage point"),
        (lambda o, r: np.mean(o) >= max(map(np.mean, r.values())) - 1, "not 1"),
        (lambda o, r: np.mean(o) <= max(map(np.mean, r.values())) - 0.01, "wrong way round"),
        (lambda o, r: "yes", "expected True or False"),
        (lambda o, r: o[0] > 1, "expected True, for"),
        (lambda o, r: np.mean(o) >= min(map(np.mean, r.values())) - 0.01, "worst learning rate"),
    ],
)
def test_unfair_comparisons_are_named(answer, words):
    assert_names(check_tamed(answer), words)


@pytest.mark.parametrize("check", [check_patch_map, check_tamed])
def test_gaps_are_not_yet_answers(check):
    def stub(*arguments): ...

    assert check(stub).status == "not yet"
    assert check(...).status == "not yet"


def test_no_two_mistakes_are_taken_for_each_other():
    from course_lib.exercises.nb06 import (
        _CASES,
        _attention,
        _map_mistakes,
        _patch_map,
        _tamed,
        _tamed_mistakes,
    )

    results = [
        r for made in _map_mistakes(_attention()).values() for r in (made if type(made) is tuple else [made])
    ]
    maps = [tuple(r.ravel().round(6)) for r in results]
    assert len({*maps, tuple(_patch_map(_attention()).ravel().round(6))}) == len(maps) + 1
    answers = list(zip(*(_tamed_mistakes(*case).values() for case in _CASES.values()), strict=True))
    assert len({*answers, tuple(_tamed(*case) for case in _CASES.values())}) == len(answers) + 1
