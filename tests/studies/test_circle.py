"""A run that is followed is the same run, and what is measured of it is what it says."""

import numpy as np
import pandas as pd
import pytest
import torch

from course_lib import Run, preset
from course_lib.probes import effective_rank
from course_lib.studies.circle import LINKS, Followed, follow, half_lost, next_loss

TINY = {"d_model": 16, "heads": 2, "context": 16, "batch": 4, "steps": 70, "probe_every": 0}


@pytest.fixture(scope="module")
def followed():
    return follow(preset("copy", **TINY))


def test_following_changes_nothing(followed):
    plain = Run(preset("copy", **TINY))
    list(plain)
    assert followed.run.finished
    for a, b in zip(plain.model.parameters(), followed.run.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_looks_at_every_early_step_and_at_some_later_ones(followed):
    assert followed.steps.tolist() == [*range(60), 60]
    assert followed.spectra.shape == (61, 2, 2, 8)
    assert set(LINKS) < set(followed.table)
    assert np.isfinite(followed.table.to_numpy()).all()


def test_until_stops_before_that_step():
    early = follow(preset("copy", **TINY), until=5)
    assert early.steps.tolist() == [0, 1, 2, 3, 4]
    assert early.run.updates == 5
    assert not early.run.finished


def test_values_agree_with_the_runs_own_probes(followed):
    run = Run(preset("copy", **(TINY | {"probe_every": 1})))
    record = run.step()
    layer = followed.of(1).loc[0]
    assert layer["loss"] == record.loss
    for name, quantity in (("sigma", "qk_sigma"), ("product", "qk_rank")):
        assert layer[name] == pytest.approx(record.probes[quantity][1].mean(), rel=1e-5)
    spectrum = torch.as_tensor(followed.spectra[0, 1])
    assert layer["product"] == pytest.approx(effective_rank(spectrum).mean().item(), rel=1e-5)


def test_the_first_update_of_adam_is_the_gradient_without_its_size(followed):
    run = Run(preset("copy", **TINY))
    next_loss(run).backward()
    gradient = run.model.blocks[0].attention.w_q.weight.grad.double()
    by_head = (gradient / (gradient.abs() + run.config.eps)).unflatten(0, (2, 8))
    expected = effective_rank(torch.linalg.svdvals(by_head)).mean().item()
    # The step is found from weights before and after, in fp32.
    assert followed.of(0).loc[0, "update"] == pytest.approx(expected, rel=1e-3)


def test_floors_lie_below_the_entropy(followed):
    table = followed.table
    assert (table["sigma_floor"] <= table["floor"] + 1e-4).all()
    assert (table["floor"] <= table["entropy"] + 1e-4).all()


def test_half_lost_is_the_first_step_below_half_of_the_first_value():
    steps = pd.MultiIndex.from_product([[0, 1, 5], [0]], names=["step", "layer"])
    values = {name: [4.0, 3.0, 2.5] for name in LINKS}
    values |= {"tokens": [4.0, 1.9, 1.0], "entropy": [1.0, 0.6, 0.4]}
    found = half_lost(Followed(None, pd.DataFrame(values, index=steps), np.zeros(0)), layer=0)
    assert found[LINKS["tokens"]] == 1
    assert found[LINKS["entropy"]] == 5
    assert pd.isna(found[LINKS["update"]])
