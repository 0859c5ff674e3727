"""A run as code: executing the lines gives the same losses, bit for bit."""

import pytest

from course_lib import Run, preset
from course_lib.runs.to_script import to_script
from course_lib.studies.rescue import Cure

TINY = {"d_model": 16, "heads": 2, "context": 8, "batch": 4, "probe_every": 5, "steps": 20}


def executed(run):
    names = {}
    exec(to_script(run), names)
    return names["run"]


def advance(run, steps):
    while run.updates < steps:
        run.step()
    return run


def plain(run):
    return run


def settings(run):
    run.lr = 0.03
    advance(run, 5).lr = 0.1
    run.warmup = 7
    run.lr = 0.2
    advance(run, 9).set_group("qk", {"warmup": 0, "lr_multiplier": 3.0})
    advance(run, 11).set_group("qk", {})
    return run


def into_adamw2(run):
    fork = advance(run, 6).fork(optimizer="adamw2", tau=0.02)
    advance(fork, 8).set_group("vo", {"tau": None})
    advance(fork, 10).tau = None
    return fork


def there_and_back(run):
    """The group's bound of the first config does not fit AdamW, and was taken away before."""
    fork = advance(run, 3).fork(optimizer="adamw2", groups={"qk": {"tau": 0.02}})
    fork = advance(fork, 5).fork(groups={"qk": {"tau": 0.01}})
    fork.set_group("qk", {})
    return advance(fork, 7).fork(optimizer="adamw", groups={})


def uniform(run):
    return advance(run, 4).fork(attention="uniform", groups={"mlp": {"lr_multiplier": 0.5}})


def put_back(run):
    return Cure(tau=0.05, put_back=("qk",)).apply(advance(run, 6))


HISTORIES = [plain, settings, into_adamw2, there_and_back, uniform, put_back]


@pytest.mark.parametrize("history", HISTORIES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("end", [13, None], ids=["in its steps", "finished"])
def test_the_lines_make_the_run_again(history, end):
    run = history(Run(preset("copy", **TINY)))
    if end is None:
        list(run)
    else:
        advance(run, end)
    again = executed(run)
    assert [r.loss for r in again.records] == [r.loss for r in run.records]
    assert again.finished == run.finished
    assert again.settings == run.settings


def test_a_loaded_fork_still_knows_how_it_began(tmp_path):
    run = advance(into_adamw2(Run(preset("copy", **TINY))), 15)
    run.save(tmp_path / "run.safetensors")
    loaded = Run.load(tmp_path / "run.safetensors")
    assert [r.loss for r in executed(loaded).records] == [r.loss for r in run.records]


def test_it_is_short():
    assert to_script(Run(preset("live", seed=3))) == (
        "from course_lib import Run, preset\n\nrun = Run(preset('live', seed=3))\n"
    )


@pytest.mark.parametrize("name", ["vit", "flatten-swin"])
def test_image_runs_are_presets_too(name):
    assert (
        to_script(Run(preset(name))) == f"from course_lib import Run, preset\n\nrun = Run(preset('{name}'))\n"
    )
