"""A lab that is closed after its test, and whose thread has ended."""

import threading

import pytest

from course_lib.lab import Lab
from course_lib.lab.session.worker import THREAD_NAME, Worker

TINY = {"d_model": 16, "heads": 2, "context": 8, "batch": 4, "probe_every": 5, "steps": 20}
ENDLESS = {**TINY, "steps": 100_000}
SOON = 600  # seconds until a test gives up; nothing depends on them where all goes well
stepped = threading.Condition()  # notified after each step that a session's thread makes


def threads():
    return [t for t in threading.enumerate() if t.name == THREAD_NAME]


@pytest.fixture(autouse=True)
def notified(monkeypatch):
    tick = Worker.tick

    def notify(worker):
        tick(worker)
        with stepped:
            stepped.notify_all()

    monkeypatch.setattr(Worker, "tick", notify)


def until(condition):
    """Wait for a step after which the condition holds."""
    with stepped:
        assert stepped.wait_for(condition, SOON), "it did not happen"


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
