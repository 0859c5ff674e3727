"""Figures of notebooks 03 and 04: titles that follow from the data, labels, alt text, nothing cut off."""

import numpy as np
import pytest
import torch

from course_lib import Run, preset
from course_lib.figures.dot_rows import growth_shares
from course_lib.figures.link_curves import circle_history, floor_history, gradient_beside_update
from course_lib.figures.spectra import (
    ellipses,
    jacobian_spectrum,
    power_curves,
    spectra_at,
    spectrum_bars,
    spectrum_history,
)
from course_lib.figures.step_curves import growth_envelope, rho_history, shortfall, two_paths
from course_lib.studies.circle import follow

TINY = {"d_model": 16, "heads": 2, "context": 16, "batch": 4, "steps": 12}
W = torch.tensor([[2.0, 0.6], [0.2, 0.8]], dtype=torch.float64)


@pytest.fixture(scope="module")
def drawn():
    arms = {"adamw": {}, "adamw-warmup": {"warmup": 6}}
    followed = {a: follow(preset("copy", probe_every=0, **own, **TINY)) for a, own in arms.items()}
    runs = {a: Run(preset("copy", probe_every=1, **own, **TINY)) for a, own in arms.items()}
    for run in runs.values():
        list(run)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    rise = np.linspace(0.2, 0.99, 6)
    return {
        "bars": spectrum_bars(torch.linspace(1, 0.1, 8), 3),
        "spectra": spectra_at(followed, layer=0, step=7, s=2),
        "history": spectrum_history(followed, layer=1, s=2),
        "jacobian": jacobian_spectrum({"one": x, "two": 2 * x}),
        "circle": circle_history(followed, layer=1, until=11),
        "gradient": gradient_beside_update(followed["adamw"], until=11),
        "floor": floor_history(followed, layer=0, until=11),
        "ellipses": ellipses(W, -W, 0.3),
        "shares": growth_shares({"random": rise - 0.5, "aligned": rise}),
        "rho": rho_history(runs, 0.05),
        "power": power_curves(np.tile(rise, (3, 1)), 0.8),
        "shortfall": shortfall({"one": np.tile(rise, (3, 1)).T, "two": np.ones((6, 3))}),
        "envelope": growth_envelope({"W_q": 1.04 ** np.arange(20.0)}, 0.05),
        "paths": two_paths({"yours": [3.0, 2.0], "theirs": [3.0, 2.5]}, [1e-4, 0.1]),
    }


NAMES = [
    "bars", "spectra", "history", "jacobian", "circle", "gradient", "floor", "ellipses", "shares", "rho",
    "power", "shortfall", "envelope", "paths",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_title_labels_and_alt_text(drawn, name):
    picture = drawn[name]
    assert len(picture.title) > 15
    assert picture.title in picture.alt
    assert picture.figure.get_suptitle().replace("\n", " ") == picture.title
    assert any(axis.get_xlabel() for axis in picture.figure.axes)
    assert any(axis.get_ylabel() for axis in picture.figure.axes)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off(drawn, name):
    figure = drawn[name].figure
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    texts = [figure._suptitle]
    for axis in figure.axes:
        texts += [axis.xaxis.label, axis.yaxis.label, axis.title, *axis.texts]
    for text in texts:
        if text.get_text().strip() and text.get_visible():
            box = text.get_window_extent()
            assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= -1, text.get_text()


def test_titles_follow_the_data(drawn):
    assert drawn["spectra"].title.startswith("Layer 1 at step 7: SEC(2) is ")
    assert "are the products" in drawn["jacobian"].title
    assert "stays above both floors" in drawn["floor"].title
    assert drawn["ellipses"].title.startswith("The reach σ₁ goes from 2.14 to 2.78; Weyl allows 2.78")
    assert "None exceeds" in drawn["shares"].title
    assert "Some exceed" in growth_shares({"a": np.array([0.5, 1.2])}).title
    assert "never above" in drawn["power"].title
    assert "sometimes above" in power_curves(np.array([[0.5, 1.1]]), 0.8).title
    assert "80.0% (one)" in drawn["shortfall"].title
    assert "No σ₁ outruns" in drawn["envelope"].title
    assert "A σ₁ outruns" in growth_envelope({"W_q": 1.1 ** np.arange(9.0)}, 0.05).title
    assert "0.5 nats" in drawn["paths"].title
