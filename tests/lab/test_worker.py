"""How often the thread of a lab draws, on a clock that the test winds."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from course_lib.lab.session import worker
from course_lib.lab.session.worker import Worker
from course_lib.lab.view.curves import thinned
from course_lib.runs import PRESETS

from .conftest import SOON


def drawn(monkeypatch, step, cost, seconds=90, first=0.0):
    """Times at which frames are drawn, if a step, a frame and what is before them take so many seconds."""
    now, times = [0.0], []
    monkeypatch.setattr(worker, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def work(one):
        now[0] += first
        while now[0] < seconds:
            now[0] += step
            one.tick()

    def frame():
        times.append(now[0])
        now[0] += cost

    one = Worker(work, frame)
    one.start()
    assert one.wait(SOON)
    assert one.error is None
    return times[:-1]  # but for the one at the end


def test_frames_come_at_an_even_pace_whatever_a_step_takes(monkeypatch):
    times = drawn(monkeypatch, step=0.05, cost=0.0)
    assert len(times) == pytest.approx(90 / worker.FRAME_SECONDS, abs=2)  # each is late by a step at most
    gaps = {round(b - a, 2) for a, b in pairwise(times)}
    assert gaps == {0.15, 0.2}  # steps of 0.05 s around 0.18


def test_frames_that_take_long_take_no_more_than_their_share(monkeypatch):
    times = drawn(monkeypatch, step=0.01, cost=0.03)
    assert 0.03 * len(times) <= worker.FRAME_SHARE * 90
    assert 0.03 * len(times) == pytest.approx(worker.FRAME_SHARE * 90, rel=0.05)  # and not much less


def test_after_a_long_step_frames_are_not_made_up_for(monkeypatch):
    times = drawn(monkeypatch, step=0.05, cost=0.0, first=20.0)
    gaps = [b - a for a, b in pairwise(times)]
    assert times[0] == pytest.approx(20.05)
    assert min(gaps) > worker.FRAME_SECONDS / 2
    assert min(gaps[1:]) > 0.14


@pytest.mark.parametrize("preset", ["copy", "live"])
def test_a_curve_keeps_every_step_of_the_presets_that_one_watches(preset):
    records = PRESETS[preset].steps + 1  # the last one tells where the run has ended
    assert thinned(records).tolist() == list(range(records))
