"""Pictures of attention over images, and of accuracies: what they draw and what their titles say."""

import numpy as np
import pandas as pd
import pytest
import torch

from course_lib import Run, preset
from course_lib.data import Baseline
from course_lib.figures.map_images import FULL, SEEN, _overlaid, attention_over_images
from course_lib.figures.sweeps import accuracy_by_lr
from course_lib.probes import attention_maps
from course_lib.studies.experiment import examples
from course_lib.studies.map_measures import favourites, looked_at, same_for_all
from course_lib.studies.sensitivity import best_mean

TOKENS = 10  # a class token and 3 × 3 patches
UNIFORM = torch.full((4, 2, TOKENS, TOKENS), 1 / TOKENS)
RUNS = pd.DataFrame(
    {
        "arm": ["adamw-warmup"] * 4 + ["adamw2"] * 4,
        "lr": [1e-3, 1e-3, 1e-2, 1e-2] * 2,
        "seed": [0, 1] * 4,
        "final_val_accuracy": [0.80, 0.82, 0.30, 0.90, 0.70, 0.72, 0.81, 0.83],
    }
)
LINES = [Baseline("nearest class mean", 1.2, 0.67), Baseline("linear classifier", 0.4, 0.85)]


def all_on(key):
    weights = torch.zeros(4, 2, TOKENS, TOKENS)
    weights[..., key] = 1
    return weights


def own_key():
    """Each image looks at a patch of its own."""
    weights = torch.zeros(4, 2, TOKENS, TOKENS)
    for image in range(4):
        weights[image, :, :, image + 1] = 1
    return weights


def test_how_much_is_looked_at_and_how_alike():
    assert looked_at(UNIFORM) == pytest.approx(torch.full((4, TOKENS), 1 / TOKENS))
    assert looked_at(all_on(3))[:, 3].tolist() == [1] * 4
    assert favourites(all_on(3)) == 1
    assert favourites(torch.eye(TOKENS).expand(4, 2, -1, -1)) == TOKENS
    assert same_for_all(all_on(3)) == 1
    assert same_for_all(own_key()) == 0
    assert same_for_all(UNIFORM) == pytest.approx(1)


def test_uniform_attention_leaves_a_picture_grey_and_a_sink_is_in_full_colour():
    grey = torch.full((6, 6), 0.8)
    plain = _overlaid(grey, looked_at(UNIFORM)[0])
    np.testing.assert_allclose(plain, 0.6, rtol=1e-5)
    sink = _overlaid(grey, looked_at(all_on(5))[0])  # key 5 is the patch in the middle
    np.testing.assert_allclose(sink[2:4, 2:4], np.broadcast_to(SEEN, (2, 2, 3)), rtol=1e-5)
    assert sink[:2] == pytest.approx(0.6)
    half = torch.full((TOKENS,), 1 / TOKENS)
    half[1] *= (1 + FULL) / 2
    corner = _overlaid(grey, half)[0, 0]
    np.testing.assert_allclose(corner, (0.6 + np.array(SEEN)) / 2, rtol=1e-5)


def test_the_title_counts_the_favourites():
    images = torch.rand(4, 1, 6, 6)
    picture = attention_over_images(
        {"before": own_key(), "after": all_on(3)}, images, list("abcd"), "Layer 1: "
    )
    assert picture.title == "Layer 1: of 10 tokens, the queries of a head favour 1 (before) and 1 (after)"
    assert "before 0%; after 100%" in picture.alt
    assert [axis.get_title() for axis in picture.figure.axes[:4]] == list("abcd")
    assert [axis.get_ylabel() for axis in picture.figure.axes[::4]] == ["before", "after"]


def test_examples_are_of_as_many_classes():
    run = Run(preset("vit", d_model=16, heads=2, layers=1))
    images, names = examples(run, 4)
    assert images.shape == (4, 1, 32, 32)
    assert len(set(names)) == 4
    maps = attention_maps(run.model, run.sites, images)[0]
    assert attention_over_images({"step 0": maps}, images, names).title.startswith("Of 17 tokens")


def test_each_arm_is_shown_at_its_own_best_learning_rate():
    assert best_mean(RUNS, "adamw-warmup") == pytest.approx((1e-3, 0.81))
    assert best_mean(RUNS, "adamw2") == pytest.approx((1e-2, 0.82))
    picture = accuracy_by_lr(RUNS, LINES)
    assert picture.title == (
        "Each at the best of its learning rates: AdamW with warmup 0.81 (at 0.001) and "
        "AdamW² without warmup 0.82 (at 0.01)"
    )
    (axis,) = picture.figure.axes
    assert [text.get_text() for text in axis.texts] == ["nearest class mean", "linear classifier"]
    assert "at 0.01: 0.60" in picture.alt
    assert axis.get_xlabel()
    assert axis.get_ylabel()
