"""Figures of notebooks 05 and 09: their titles follow from the data, and nothing is left without a name."""

import itertools

import numpy as np
import pandas as pd
import pytest

from course_lib.figures.dot_rows import which_matrices
from course_lib.figures.step_curves import alpha_over_time, own_history, tau_choice
from course_lib.figures.sweeps import sensitivity_chart, tau_chart
from course_lib.studies.coverage import PARTS, coverage_name
from course_lib.studies.sensitivity import good_taus, sensitivity_table

LINE = ("bigram", 2.26)
RATES = (1e-3, 1e-2, 1e-1)
CURVES = {
    "adamw": (2.1, 2.4, 2.7),
    "adamw-warmup": (2.2, 1.8, 2.5),
    "adamw2": (2.2, 1.9, 2.0),
    "qk-norm-adamw2": (2.2, 1.95, 2.05),
    "adamw2-tau-0.02": (2.2, 2.2, 2.2),
}


def curves(changed=None):
    arms = CURVES | (changed or {})
    return pd.DataFrame(
        [
            {"arm": arm, "lr": lr, "seed": seed, "final_val_loss": loss + 0.01 * seed}
            for arm, losses in arms.items()
            for lr, loss in zip(RATES, losses, strict=True)
            for seed in (0, 1)
        ]
    )


def alphas(start, steps=100):
    share = np.minimum(1.0, start + np.arange(steps) / 60)
    return pd.DataFrame({"a": share, "b": share / 2})


def history(loss, rho, steps=40):
    table = pd.DataFrame({"loss": np.linspace(4.1, loss, steps), "cut": np.linspace(1, 0, steps)})
    at = range(0, steps, 10)
    for column, value in {"entropy": 0.3, "rank": 1.2, "rho_applied": rho}.items():
        table[column] = pd.Series(value, index=at)
    return table


WHICH = pd.DataFrame(
    [
        {**{part: part in bounded for part in PARTS}, "seed": seed, "final_val_loss": loss + 0.02 * seed}
        for bounded, loss in {(): 2.4, ("qk",): 2.35, ("mlp",): 2.3, ("qk", "mlp"): 1.9}.items()
        for seed in (0, 1)
    ]
)
TAUS = pd.DataFrame(
    [
        {"tau": tau, "seed": seed, "final_val_loss": loss}
        for tau, loss in {0.005: 2.5, 0.02: 2.03, 0.05: 2.0, 0.1: 2.04, 1.0: 2.4}.items()
        for seed in (0, 1)
    ]
)
HISTORIES = {"AdamW": history(4.0, 3.0), "AdamW²": history(0.1, 0.05), "another": history(0.2, 1.0)}


@pytest.fixture(scope="module")
def pictures():
    return {
        "alpha": alpha_over_time(
            alphas(0.01), [1.0] * 100, {"adamw-warmup": [min(1, t / 50) for t in range(100)]}
        ),
        "sensitivity": sensitivity_chart(curves(), 4.1, LINE),
        "which": which_matrices(WHICH, ["qk"], LINE),
        "tau": tau_chart(TAUS, {"adamw": 2.4, "adamw-warmup": 1.9}),
        "own": own_history(HISTORIES, ("guess", 3.7)),
        "choice": tau_choice({0.005: history(4.0, 0.005), 0.05: history(0.1, 0.05)}, ("guess", 3.7)),
    }


@pytest.mark.parametrize("name", ["alpha", "sensitivity", "which", "tau", "own", "choice"])
def test_every_figure_has_a_title_named_axes_and_an_alt_text(pictures, name):
    picture = pictures[name]
    assert picture.title[0].isupper()
    assert len(picture.alt) > 60
    assert "nan" not in f"{picture.title} {picture.alt}".lower()
    for axis in picture.figure.axes:
        assert axis.get_xlabel()
        assert axis.get_ylabel()


@pytest.mark.parametrize("name", ["alpha", "sensitivity", "which", "tau", "own", "choice"])
def test_nothing_reaches_beyond_the_figure(pictures, name):
    figure = pictures[name].figure
    figure.draw_without_rendering()
    texts = [figure._suptitle, *itertools.chain(*(legend.get_texts() for legend in figure.legends))]
    for axis in figure.axes:
        texts += [axis.xaxis.label, axis.yaxis.label, *axis.texts]
        # Of the tick labels, the words: numbers outside the axes exist but are not drawn.
        texts += [t for t in axis.get_yticklabels() if any(c.isalpha() for c in t.get_text())]
    for text in texts:
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert box.x0 >= -1, text
            assert box.x1 <= figure.bbox.x1 + 1, text


def test_the_title_of_alpha_follows_the_mean(pictures):
    assert "0.8% of the learning rate at first, and half of it from step 40 on" in pictures["alpha"].title
    assert "AdamW, warmup: half from step 25 on" in pictures["alpha"].alt
    never = alpha_over_time(alphas(0.01, steps=20), [1.0] * 20, {})
    assert never.title.endswith("half of it at no step")
    falling = alpha_over_time(alphas(0.01), [0.5] * 100, {})  # half of what is asked for, not of 1
    assert "half of it from step 20 on" in falling.title


def test_the_title_of_the_curve_says_who_is_below_the_line(pictures):
    assert "3 of 5 arms end below" in pictures["sensitivity"].title
    assert "that of “AdamW, warmup”" in pictures["sensitivity"].title
    alone = curves({"qk-norm-adamw2": (2.2, 2.0, 2.5), "adamw2-tau-0.02": (2.3, 2.3, 2.3)})
    assert "only “AdamW², no warmup” ends below" in sensitivity_chart(alone, 4.1, LINE).title
    worse = dict.fromkeys(CURVES, (2.5, 2.5, 2.5))
    assert "no arm ends below" in sensitivity_chart(curves(worse), 4.1, LINE).title


def test_the_table_beside_the_curve_has_best_loss_and_sensitivity():
    table = sensitivity_table(curves(), 4.1)
    assert list(table.index) == [arm for arm in table.index if arm in CURVES]
    assert table.loc["adamw2-tau-0.02", "sensitivity"] == pytest.approx(0)
    assert table.loc["adamw-warmup", "best loss"] == pytest.approx(1.805)
    assert table.loc["adamw-warmup", "at lr"] == 1e-2


def test_a_learning_rate_that_an_arm_lacks_is_left_out_and_one_that_ends_in_nan_is_not():
    frame = curves()
    at_top = (frame["arm"] == "adamw-warmup") & (frame["lr"] == RATES[-1])
    lacking = sensitivity_table(frame[~at_top], 4.1)
    assert lacking.loc["adamw-warmup", "sensitivity"] == pytest.approx((2.2 - 1.8) / 2)
    assert sensitivity_chart(frame[~at_top], 4.1, LINE).title
    diverged = sensitivity_table(frame.assign(final_val_loss=frame["final_val_loss"].mask(at_top)), 4.1)
    assert diverged.loc["adamw-warmup", "sensitivity"] > 0.8


def test_the_title_of_which_names_the_choice_and_the_best(pictures):
    assert "W_q, W_k: 2.36, place 3 of 4" in pictures["which"].title
    assert "best on W_q, W_k + MLPs (1.91)" in pictures["which"].title
    assert coverage_name([]) == "nothing"


def test_the_title_of_tau_names_the_good_range(pictures):
    assert pictures["tau"].title.startswith(
        "With τ = 0.02, 0.05 and 0.1 the loss is within 0.1 nats of the best"
    )
    assert "with τ = 0.005 it is 0.50 worse" in pictures["tau"].title
    assert list(good_taus(TAUS, slack=0.035)) == [0.02, 0.05]


def test_the_titles_of_ones_own_loops_follow_their_losses(pictures):
    assert pictures["own"].title.startswith("AdamW² and another end below")
    assert "first step of AdamW moves a matrix by 3 times" in pictures["own"].title
    assert "No loop ends below" in own_history({"AdamW": history(4.0, 3.0)}, ("guess", 3.7)).title
    assert pictures["choice"].title.startswith("With τ = 0.05 the loss ends lowest")
