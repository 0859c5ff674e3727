"""Figures say what they show: computed titles, labelled axes, alt text, nothing cut off."""

import numpy as np
import pandas as pd
import pytest
import torch

from course_lib import Run, preset
from course_lib.figures.dot_rows import controls_chart, first_signs
from course_lib.figures.map_images import _places_finding, attention_maps, entropy_beside_rank, weights_row
from course_lib.figures.picture import LIMIT, Picture, finish, label, listed, panels, smooth
from course_lib.figures.step_curves import _history_finding, loss_curves, probe_history
from course_lib.figures.sweeps import concentration, scale_is_inverse_temperature, uniform_rank_curve
from course_lib.studies.map_measures import map_place

N = 16
EYE = torch.eye(N)
MAPS = {
    "uniform": torch.ones(N, N).tril() / torch.arange(1, N + 1)[:, None],
    "sink": EYE[[0] * N],
    "self": EYE,
}
CONTROLS = pd.DataFrame(
    {
        "arm": ["adamw"] * 2 + ["adamw-warmup"] * 2 + ["warmup-bound-qk"] * 2,
        "seed": [0, 1] * 3,
        "final_val_loss": [2.4, 2.5, 1.9, 1.8, 2.0, 2.45],
    }
)
SIGNS = pd.DataFrame(
    {"adamw": [0, 3, 9], "adamw-warmup": [None, 20, None]}, index=["large step", "score", "collapse"]
).astype("Int64")


@pytest.fixture(scope="module")
def runs():
    made = {}
    for arm, warmup in {"adamw": 0, "adamw-warmup": 6}.items():
        tiny = {"d_model": 16, "heads": 2, "context": 16, "batch": 4, "steps": 12, "probe_every": 3}
        made[arm] = Run(preset("copy", warmup=warmup, **tiny))
        list(made[arm])
    return made


def pictures(runs):
    ramp = np.linspace(1, 0, 4)
    return {
        "weights": weights_row(torch.tensor([0.5, 0.25, 0.25]), ["a", "b", "<c>"]),
        "maps": entropy_beside_rank(MAPS),
        "one map": entropy_beside_rank({"sink": MAPS["sink"]}),
        "uniform": uniform_rank_curve(range(2, 40), marked=32),
        "temperature": scale_is_inverse_temperature([1, 2, 3, 4], ramp, ramp),
        "concentration": concentration([1, 10], *[{"a": np.ones((3, 2)), "b": np.ones((3, 2))}] * 2),
        "losses": loss_curves(runs),
        "probes": probe_history(runs),
        "attention": attention_maps(runs, layer=1),
        "signs": first_signs(SIGNS, steps=60),
        "controls": controls_chart(
            CONTROLS,
            ("adamw", "adamw-warmup"),
            {"bigram": 2.26},
            {"adamw": 2.42},
        ),
    }


@pytest.fixture(scope="module")
def drawn(runs):
    return pictures(runs)


NAMES = [
    "weights", "maps", "one map", "uniform", "temperature", "concentration", "losses", "probes",
    "attention", "signs", "controls",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_title_labels_and_alt_text(drawn, name):
    picture = drawn[name]
    assert len(picture.title) > 15
    assert len(picture.alt) > len(picture.title) / 2
    assert picture.figure.get_suptitle().replace("\n", " ") == picture.title
    axes = picture.figure.axes
    assert any(axis.get_xlabel() for axis in axes)
    assert any(axis.get_ylabel() for axis in axes)
    assert 'alt="' in picture.html()
    assert "<c>" not in picture.html()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off(drawn, name):
    figure = drawn[name].figure
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    texts = [figure._suptitle] if figure._suptitle else []
    for axis in figure.axes:
        texts += [axis.xaxis.label, axis.yaxis.label, axis.title, *axis.texts]
        # Of the tick labels, the words: numbers outside the axes exist but are not drawn.
        texts += [t for t in axis.get_yticklabels() if any(c.isalpha() for c in t.get_text())]
    for text in texts:
        if text.get_text().strip() and text.get_visible():
            box = text.get_window_extent()
            assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= -1, (
                f"{text.get_text()!r} leaves the figure"
            )


def test_a_png_is_a_png_and_can_be_saved(drawn, tmp_path):
    drawn["weights"].save(tmp_path / "a.png")
    for raw in (drawn["weights"].png(), (tmp_path / "a.png").read_bytes()):
        assert raw.startswith(b"\x89PNG")


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_small_enough_to_be_committed(drawn, name):
    assert len(drawn[name].png()) <= LIMIT


@pytest.mark.slow
def test_a_picture_that_cannot_be_compressed_becomes_coarser():
    figure, ((axis,),) = panels(9, 6)
    axis.imshow(np.random.default_rng(0).random((600, 900, 3)), aspect="auto")
    assert len(Picture(figure, "Noise", "Noise everywhere").png()) <= LIMIT


def test_titles_follow_the_data(runs):
    pair = ("adamw", "adamw-warmup")
    assert "ends above" in controls_chart(CONTROLS, pair, {}, {}).title
    assert "ends below" in controls_chart(CONTROLS, pair[::-1], {}, {}).title
    assert "overlaps" in controls_chart(CONTROLS, (pair[0], "warmup-bound-qk"), {}, {}).title
    assert "is the same" in scale_is_inverse_temperature([1, 2], [1, 0.5], [1, 0.5]).title
    assert "is not the same" in scale_is_inverse_temperature([1, 2], [1, 0.5], [1, 0.4]).title
    assert "“large step” comes first, at step 0" in first_signs(SIGNS, 60).title
    later = SIGNS.assign(adamw=pd.array([5, 3, 9], dtype="Int64"))
    assert "“score” comes first, at step 3" in first_signs(later, 60).title
    assert loss_curves(runs).title.startswith("No run ends below")
    assert "equally sharp" in entropy_beside_rank(MAPS).title
    assert "equally sharp" not in entropy_beside_rank({k: MAPS[k] for k in ("uniform", "self")}).title


@pytest.mark.parametrize(
    ("a", "b", "holds"),
    [
        ((0.01, 0.4), (0.02, 2.1), True),
        ((0.24, 0.4), (0.001, 2.1), False),  # both sharp, not equally
        ((0.01, 0.99), (0.01, 1.01), False),  # either side of uniform's, not far apart
        ((0.24, 0.99), (0.001, 1.01), False),
        ((0.01, 1.1), (0.01, 2.1), False),  # neither is poor
        ((0.27, 0.4), (0.28, 2.1), False),  # not sharp
    ],
)
def test_equally_sharp_and_far_apart_are_said_only_of_what_is(a, b, holds):
    for title in (_places_finding({"a": a, "b": b}), _history_finding({"a": a, "b": b}, 0)):
        assert ("equally sharp" in title) == holds
        assert ("far apart" in title) == holds
        assert all(f"{rank:.2f}" in title for _, rank in (a, b))


def test_three_runs_are_not_both():
    ends = {"a": (0.01, 0.4), "b": (0.02, 2.1), "c": (0.03, 0.7)}
    title = _history_finding(ends, 1)
    assert title.startswith("All 3 end equally sharp in layer 2")
    assert "0.40 (a), 2.10 (b) and 0.70 (c)" in title
    assert "Both" not in title


def test_the_rank_depends_on_the_spectrum_only_if_it_does():
    def title(low, high, entropy=0.1):
        ranks = {"a": np.array([[1.0, r] for r in low]), "b": np.array([[1.0, r] for r in high])}
        return concentration([1, 10], {n: np.full((2, 2), entropy) for n in ranks}, ranks).title

    says = "depends on the spectrum"
    assert says in title([0.5, 0.6], [1.8, 1.9])
    assert says not in title([1.0, 1.0], [1.0, 1.0])
    assert says not in title([1.0, 1.01], [1.02, 1.03])
    assert says not in title([0.2, 2.0], [1.9, 2.1])  # the draws overlap
    assert says not in title([0.5, 0.6], [1.8, 1.9], entropy=0.4)


def test_first_signs_may_be_none_or_several():
    never = SIGNS.assign(adamw=pd.array([None] * 3, dtype="Int64"))
    assert "none of the signs was seen in 60 steps" in first_signs(never, 60).title
    tie = SIGNS.assign(adamw=pd.array([1, 1, None], dtype="Int64"))
    assert "“large step” and “score” come first, at step 1" in first_signs(tie, 60).title


def test_entropy_falls_only_where_it_falls():
    assert "entropy falls" in scale_is_inverse_temperature([1, 2], [1, 0.5], [1, 0.5]).title
    assert "entropy rises" in scale_is_inverse_temperature([1, 2], [0.5, 1], [0.5, 1]).title
    assert "falls" not in scale_is_inverse_temperature([1, 2], [0.5, 0.5], [0.5, 0.5]).alt
    assert "not 1" not in uniform_rank_curve(range(1, 4), marked=1).title


def test_a_map_is_placed_by_entropy_and_rank():
    assert map_place(MAPS["uniform"]) == pytest.approx((1, 1), abs=1e-4)
    h, rank = map_place(MAPS["sink"])
    assert h == pytest.approx(0, abs=1e-4)
    assert rank < 0.2
    assert map_place(MAPS["self"])[1] > 1.5


def test_smoothing_keeps_constants_and_lengths():
    assert smooth(np.full(20, 3.0)) == pytest.approx(np.full(20, 3.0))
    assert len(smooth(np.arange(5.0))) == 5


def test_names_are_listed_as_in_a_sentence():
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_a_long_title_is_wrapped_to_the_width():
    figure, ((axis,),) = panels(4, 2)
    label(axis, "x", "y")
    picture = finish(figure, "a long finding " * 8, "alt")
    assert "\n" in picture.figure.get_suptitle()
