"""What the tests share: real runs, trained once."""

import signal
from functools import cache

import pytest
import torch
from hypothesis import settings

import course_lib
from course_lib import Run
from course_lib.studies.arms import arm_config

# No deadline: how long an example takes says more about the machine than about the code. The same examples
# in every run: a failure in CI is a failure at home.
settings.register_profile("course", deadline=None, derandomize=True)
settings.load_profile("course")


@pytest.fixture(scope="session")
def trained():
    """A function: (preset, arm, seed) → the run, trained to its end, each one once."""

    @cache
    def train(name: str, arm: str, seed: int = 0) -> Run:
        run = Run(arm_config(course_lib.preset(name, seed=seed), arm))
        for _ in run:
            pass
        return run

    return train


@pytest.fixture
def ctrl_c():
    """A function that presses Ctrl-C, in a process that hears it even where its parent has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def ctrl_c_ignored():
    """The same, where the parent has it ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield lambda: signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN, "it is heard from now on"
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def displayed(monkeypatch):
    """A function: what an object puts out as a cell's last value, one MIME bundle for each output."""
    outputs = []

    def display(shown, *, raw=False):
        outputs.append(shown if raw else shown._repr_mimebundle_())

    def show(value):
        outputs.clear()
        value._ipython_display_()
        return [output[0] if isinstance(output, tuple) else output for output in outputs]

    monkeypatch.setattr("IPython.display.display", display)
    return show


@pytest.fixture
def tiny():
    """Overrides that make any preset a matter of milliseconds a step."""
    return {"d_model": 16, "heads": 2, "layers": 2, "context": 8, "batch": 4, "steps": 12, "probe_every": 3}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
