"""The checkers of notebook 09 accept right answers in several forms and name the likely wrong ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from course_lib.exercises import PATIENTS, Stranger, check_first_aid, check_share_cut, check_sites
from course_lib.exercises.nb09 import _RIGHT, _WHY, REMEDIES, _site
from course_lib.probes import observe


def assert_names(result, words):
    assert result.status == "not quite", result
    assert words in result.message, result


# --- the share that was cut ---------------------------------------------------------------------


def flat(reports):
    return torch.cat([report.cut.flatten() for report in reports.values()]).float()


@pytest.mark.parametrize(
    "answer",
    [
        lambda reports: flat(reports).mean(),
        lambda reports: flat(reports).mean().item(),
        lambda reports: np.concatenate([np.atleast_1d(r.cut.numpy()) for r in reports.values()]).mean(),
        lambda reports: (
            sum(int(r.cut.sum()) for r in reports.values()) / sum(r.cut.numel() for r in reports.values())
        ),
    ],
)
def test_the_share_is_accepted_in_any_form(answer):
    assert check_share_cut(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda r: np.mean([bool(x.cut.any()) for x in r.values()]), "any part was cut"),
        (lambda r: np.mean([bool(x.cut.all()) for x in r.values()]), "every part was cut"),
        (lambda r: np.mean([x.cut.float().mean().item() for x in r.values()]), "mean of means"),
        (lambda r: 1 - flat(r).mean(), "*not* cut"),
        (lambda r: flat(r).sum(), "how many were cut"),
        (lambda r: flat(r).sum() / len(r), "by parameters: 10 matrices"),
        (lambda r: sum(bool(x.cut.any()) for x in r.values()) / flat(r).numel(), "by parameters, all"),
        (lambda r: 0.7, "expected 0.6"),
        (lambda r: 0.6, "expected 0.5"),
        (lambda r: r["blocks.0.out.weight"], "expected numbers"),
    ],
)
def test_mistakes_of_the_share_are_named(answer, words):
    assert_names(check_share_cut(answer), words)


# --- where attention is -------------------------------------------------------------------------

RIGHT = [_site(0), _site(1)]


@pytest.mark.parametrize("answer", [RIGHT, tuple(RIGHT), [_site(i) for i in range(2)]])
def test_sites_are_accepted_in_any_form(answer):
    assert check_sites(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (RIGHT[0], "one for each"),
        (RIGHT[:1], "one for each"),
        ([replace(site, fused=1) for site in RIGHT], "come out of one module"),
        ([replace(site, heads=8) for site in RIGHT], "heads is 8"),
        ([replace(site, causal=False) for site in RIGHT], "causal"),
        ([replace(site, transposed=True) for site in RIGHT], "transposed"),
        ([replace(site, kind="sigmoid") for site in RIGHT], "kind"),
        (RIGHT[::-1], "expected those of layer 0"),
        ([RIGHT[0], RIGHT[0]], "expected those of layer 1"),
        ([replace(site, queries=f"stack.{i}.q") for i, site in enumerate(RIGHT)], "no such module"),
        ([replace(site, keys=site.w_k) for site in RIGHT], "expected the module"),
        ([replace(site, w_q=site.queries) for site in RIGHT], "expected its parameter"),
        ([replace(site, w_k="stack.0.k.weight") for site in RIGHT], "no such parameter"),
        ({"a": RIGHT[0]}, "expected a list"),
        ([1, 2], "nothing else"),
        (3, "expected a list"),
    ],
)
def test_mistakes_of_sites_are_named(answer, words):
    assert_names(check_sites(answer), words)


def test_an_empty_list_is_no_answer_yet():
    assert check_sites([]).status == check_sites([...]).status == "not yet"


def test_the_probes_read_the_stranger_through_the_right_sites():
    torch.manual_seed(0)
    model = Stranger()
    seen = observe(model, RIGHT, torch.randint(62, (2, 12)))
    assert [tuple(h.shape) for h in seen.quantities["entropy"]] == [(Stranger.heads,)] * 2


# --- first aid ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        _RIGHT,
        {k.lower(): v.upper() for k, v in _RIGHT.items()},
        {"A": "bound", "B": "raise τ", "C": "leave", "D": "look"},
    ],
)
def test_first_aid_is_accepted_in_any_form(answer):
    assert check_first_aid(answer).passed


def test_every_wrong_remedy_is_named():
    assert list(_RIGHT) == list(PATIENTS.index)
    for run in _RIGHT:
        for remedy in set(REMEDIES) - {_RIGHT[run]}:
            assert_names(check_first_aid({**_RIGHT, run: remedy}), _WHY[run][remedy])
    assert_names(check_first_aid({**_RIGHT, "A": "pray"}), "is no remedy")
    assert_names(check_first_aid({**_RIGHT, "D": ...}), "D has no remedy")
    assert_names(check_first_aid("bound"), "expected a dictionary")
    assert check_first_aid(dict.fromkeys(_RIGHT, ...)).status == "not yet"
