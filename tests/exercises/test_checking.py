import threading
import time

import numpy as np
import pytest
import torch

import course_lib.exercises.checking as checking
from course_lib.exercises import (
    Prediction,
    check_claims,
    check_control,
    check_effective_rank,
    check_entropy,
    check_first_aid,
    check_lr_sensitivity,
    check_rule,
    check_share_cut,
    check_sites,
    check_softmax,
    check_steps_to_grow,
    check_taming_claims,
    check_two_maps,
    check_verdicts,
    check_warmup,
    explore,
)
from course_lib.figures.map_images import weights_row

CHECKERS = [
    check_claims,
    check_control,
    check_effective_rank,
    check_entropy,
    check_first_aid,
    check_lr_sensitivity,
    check_rule,
    check_share_cut,
    check_sites,
    check_softmax,
    check_steps_to_grow,
    check_taming_claims,
    check_two_maps,
    check_verdicts,
    check_warmup,
]
FUNCTION_CHECKERS = [
    check_effective_rank,
    check_entropy,
    check_lr_sensitivity,
    check_rule,
    check_share_cut,
    check_softmax,
    check_steps_to_grow,
    check_warmup,
]


class Hostile:
    """Fails at everything that one may want to know of it."""

    def __getattr__(self, name):
        raise RuntimeError("hands off")

    def __eq__(self, other):
        raise RuntimeError("hands off")

    def __repr__(self):
        raise RuntimeError("hands off")

    __hash__ = None


def raising(*_):
    raise ZeroDivisionError("division by zero")


def leaving(*_):
    raise SystemExit(3)


@pytest.mark.parametrize("check", CHECKERS)
@pytest.mark.parametrize("answer", [None, ...])
def test_an_unsolved_exercise_is_not_yet_solved(check, answer):
    result = check(answer)
    assert result.status == "not yet"
    assert not result.passed


@pytest.mark.parametrize("check", FUNCTION_CHECKERS)
@pytest.mark.parametrize("value", [None, ...])
def test_a_stub_is_not_yet_solved(check, value):
    assert check(lambda *_: value).status == "not yet"


@pytest.mark.parametrize("check", CHECKERS)
@pytest.mark.parametrize(
    "answer",
    [
        0,
        float("nan"),
        "abc",
        b"\xff",
        [],
        [[]],
        {},
        object(),
        Hostile(),
        np.zeros((0, 3)),
        np.full((16, 16), np.nan),
        torch.zeros(2, 3, dtype=torch.complex64),
        range(10**9),
        int,
        raising,
        leaving,
        lambda: 1,
        lambda *_: float("nan"),
        lambda *_: "abc",
        lambda *_: [[1], [1, 2]],
        lambda *_: object(),
        lambda *_: Hostile(),
        lambda *_: np.zeros((7, 3)),
        lambda *_: torch.tensor([1 + 2j]),
        lambda *_: iter(int, 1),
    ],
    ids=lambda a: type(a).__name__,
)
def test_no_answer_breaks_a_checker(check, answer):
    result = check(answer)
    assert not result.passed
    assert result.message
    assert result.exercise in str(result)
    assert "<div" in result._repr_html_()


@pytest.mark.parametrize("check", FUNCTION_CHECKERS)
def test_an_endless_loop_is_given_up_and_ended(check, monkeypatch):
    monkeypatch.setattr(checking, "SECONDS", 0.3)
    turns = 0

    def endless(*_):
        nonlocal turns
        while True:
            turns += 1

    result = check(endless)
    assert result.status == "not quite"
    assert "never ends" in result.message
    assert turns > 0
    for thread in threading.enumerate():
        if thread.name.startswith("check "):
            thread.join(600)
            assert not thread.is_alive()


@pytest.mark.slow
def test_an_answer_that_waits_for_others_is_not_taken_for_an_endless_loop(monkeypatch):
    """What counts is what it computes: a machine that is busy with other work makes no answer wrong."""
    monkeypatch.setattr(checking, "SECONDS", 0.3)
    slept = []

    def slow(logits, temperature):
        if not slept:
            slept.append(time.sleep(1))
        powers = np.exp((logits - logits.max()) / temperature)
        return powers / powers.sum()

    assert check_softmax(slow).passed
    monkeypatch.setattr(checking, "PATIENCE", 0.3)
    assert "never ends" in check_softmax(lambda *_: time.sleep(1)).message


def test_an_exception_is_reported_with_the_arguments_that_caused_it():
    message = check_softmax(raising).message
    assert "ZeroDivisionError: division by zero" in message
    assert "raising([" in message


def test_a_call_in_place_of_the_function_is_named():
    assert "without parentheses" in check_softmax(0.5).message


def test_arguments_are_copies():
    kept = []

    def greedy(logits, temperature):
        kept.append(logits.copy())
        logits[:] = 0
        return np.exp(logits) / len(logits)

    check_softmax(greedy)
    check_softmax(greedy)
    assert np.array_equal(kept[0], kept[1])


def test_a_message_is_escaped_in_html():
    assert "<b>x" not in check_verdicts({"A": "<b>x", "B": "y"})._repr_html_()


def test_a_prediction_is_played_back_and_may_be_left_out():
    prediction = Prediction("What?", {"a": "Up.", "b": "Down <i>."})
    silent = prediction.beside("b", "By 3.")
    assert silent.right is None
    assert "no prediction" in repr(silent)
    prediction.answer = "a"
    outcome = prediction.beside("b", "By 3.")
    assert outcome.right is False
    assert "Up." in outcome._repr_html_()
    assert "<i>" not in outcome._repr_html_()
    assert "By 3." in outcome._repr_html_()
    prediction.answer = "b"
    assert prediction.beside("b").right is True
    with pytest.raises(ValueError, match="did you mean|expected one of a, b"):
        prediction.beside("c")
    with pytest.raises(ValueError, match="expected one of a, b"):
        prediction.answer = "c"


def test_a_prediction_shows_its_choices_as_a_widget(displayed):
    static, live = displayed(Prediction("What?", {"a": "Up."}))
    assert "application/vnd.jupyter.widget-view+json" in live
    assert "<li>Up.</li>" in static["text/html"], "where nothing is live"
    assert static["text/plain"] == "Your prediction. What?\n○ Up."


def test_exploring_draws_anew_and_shows_errors(displayed):
    from ipywidgets import FloatSlider

    def draw(temperature):
        if temperature > 5:
            raise ValueError("too <hot>")
        return weights_row((torch.tensor([0.0, 1.0]) / temperature).softmax(0), ["a", "b"])

    slider = FloatSlider(1.0, min=0.1, max=10)
    explorer = explore(draw, temperature=slider)
    static, _ = displayed(explorer)
    assert static["text/plain"] == "Run this cell to move the sliders: temperature."
    assert 'alt="Bars' in static["text/html"]
    view = explorer.widget.children[-1]
    first = view.value
    slider.value = 0.5
    assert view.value != first
    assert 'alt="Bars' in view.value
    slider.value = 9
    assert "too &lt;hot&gt;" in view.value


def test_buttons_stand_in_one_row_above_the_picture():
    widgets = pytest.importorskip("ipywidgets")

    def draw(cold, hot, temperature):
        return weights_row((torch.tensor([0.0, 1.0 + cold - hot]) / temperature).softmax(0), ["a", "b"])

    buttons = {name: widgets.ToggleButton(description=name) for name in ("cold", "hot")}
    slider = widgets.FloatSlider(1.0, min=0.1, max=9)
    rows = explore(draw, temperature=slider, **buttons).widget.children
    assert [type(row).__name__ for row in rows] == ["FloatSlider", "HBox", "HTML"]
    assert rows[1].children == tuple(buttons.values())
    first = rows[2].value
    buttons["cold"].value = True
    assert rows[2].value != first
