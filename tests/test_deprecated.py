"""Old public names: they work, and warn with the new name."""

import warnings

import numpy as np
import pytest
import torch

from course_lib import AdamW2, Run, RunConfig, SwinConfig, ViTConfig, preset
from course_lib import data as data_room
from course_lib import runs as runs_room
from course_lib.data import Baseline, make_task
from course_lib.runs import Evaluation

TINY = {"d_model": 8, "heads": 1, "layers": 1, "context": 8, "steps": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def run():
    return Run(preset("live", **TINY))


@pytest.mark.parametrize(
    ("old", "new"), [("write", "generate"), ("score", "evaluate"), ("frame", "to_frame")]
)
def test_a_method_of_a_run(run, old, new):
    with pytest.warns(DeprecationWarning, match=f"Run.{old} is now called {new};") as caught:
        method = getattr(run, old)
    assert method == getattr(run, new)
    assert caught[0].filename == __file__


def test_the_process_group_of_a_run(run):
    with pytest.warns(DeprecationWarning, match="world=...\\) is now called process_group="):
        again = Run(run.config, world=run.process_group)
    with pytest.warns(DeprecationWarning, match="Run.world is now called process_group"):
        assert again.world is run.process_group


@pytest.mark.parametrize("make", [lambda: RunConfig(resolution=56), lambda: preset("vit", resolution=56)])
def test_a_field_of_a_config(make):
    with pytest.warns(DeprecationWarning, match="resolution=...\\) is now called image_size="):
        config = make()
    assert config.image_size == 56
    assert "resolution" not in config.to_dict()
    with pytest.warns(DeprecationWarning, match="RunConfig.resolution is now called image_size"):
        assert config.resolution == 56


@pytest.mark.parametrize("config", [ViTConfig, SwinConfig])
def test_the_sizes_of_a_model_of_images(config):
    with pytest.warns(DeprecationWarning, match="is now called") as caught:
        old = config(image=56, classes=3)
    new = config(image_size=56, n_classes=3)
    assert old == new
    name = config.__name__
    assert {str(warning.message) for warning in caught} == {
        f"{name}(image=...) is now called image_size=; the old name goes with the next version",
        f"{name}(classes=...) is now called n_classes=; the old name goes with the next version",
    }
    with pytest.warns(DeprecationWarning, match=f"{name}.classes is now called n_classes"):
        assert old.classes == 3


def test_a_report_of_the_bound():
    w = torch.nn.Parameter(torch.eye(3))
    optimizer = AdamW2([w], lr=1.0, tau=0.05)
    w.grad = torch.ones(3, 3)
    optimizer.step()
    report = optimizer.last_step["0"]
    with pytest.warns(DeprecationWarning, match="StepReport.rho is now called rho_requested"):
        assert report.rho is report.rho_requested
    with pytest.warns(DeprecationWarning, match="StepReport.bound is now called cut"):
        assert report.bound is report.cut
    np.testing.assert_allclose(report.rho_applied, 0.05, rtol=1e-5)


def test_the_classes_of_images():
    task = make_task("fashion-mnist", 8, 0)
    with pytest.warns(DeprecationWarning, match="ImageTask.vocab is now called n_classes"):
        assert task.vocab == task.n_outputs == 10


@pytest.mark.parametrize(
    ("module", "old", "new"), [(data_room, "ReferenceLine", Baseline), (runs_room, "Score", Evaluation)]
)
def test_a_class_of_a_module(module, old, new):
    with pytest.warns(DeprecationWarning, match=f"{old} is now called .*{new.__name__}"):
        assert getattr(module, old) is new
    with pytest.raises(AttributeError, match="no attribute 'Socre'"):
        module.Socre  # noqa: B018


def test_new_names_do_not_warn(run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Run(run.config, process_group=run.process_group)
        assert run.evaluate().loss > 0
        assert isinstance(RunConfig.resolution, object)
