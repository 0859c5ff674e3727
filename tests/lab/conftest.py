"""A lab that is closed after its test, and whose thread has ended."""

import threading
import time

import pytest

from course_lib.lab import Lab
from course_lib.lab.session.worker import THREAD_NAME

TINY = {"d_model": 16, "heads": 2, "context": 8, "batch": 4, "probe_every": 5, "steps": 20}
ENDLESS = {**TINY, "steps": 100_000}
SOON = 30  # seconds; far more than a step or a frame takes


def threads():
    return [t for t in threading.enumerate() if t.name == THREAD_NAME]


def until(condition):
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def losses(run):
    return [r.loss for r in run.records]


def trained(lab, **overrides):
    """A lab whose run of forty steps is finished."""
    one = lab(steps=40, **overrides)
    one.start()
    one.result(SOON)
    return one


def training(lab, **overrides):
    """A lab that has made some steps of a run without an end, and goes on."""
    one = lab(**overrides)
    one.start()
    until(lambda: one.run.updates > 12)
    return one


@pytest.fixture
def lab():
    made = []

    def make(**overrides):
        made.append(Lab("copy", **{**ENDLESS, **overrides}))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert threads() == []
