"""A session without widgets: what it does, and what it tells its listeners."""

import subprocess
import sys

import pytest

from course_lib.figures.palette import ARM_COLORS
from course_lib.lab.session import Listener, Session

from .conftest import ENDLESS, SOON, TINY, losses, until

WITHOUT_WIDGETS = """
import sys
sys.modules["ipywidgets"] = sys.modules["bqplot"] = None
from course_lib.figures.palette import ARM_COLORS
from course_lib.lab.session import Session
session = Session("copy", d_model=16, heads=2, context=8, batch=4, probe_every=5, steps=20, lr=0.5)
session.start()
original = session.result(300)
session.rewind(10)
fork = session.fork(optimizer="adamw2", tau=0.02)
session.start()
assert session.result(300) is fork and fork.finished and fork.tau == 0.02
session.choose("A")
session.search_rescue()
session.result(300)
assert session.search.finished and session.search.trials, session.search
session.race("adamw", "adamw2")
session.start()
session.result(300)
assert [branch.run.finished for branch in session.branches] == [True, True]
session.close()
above = [name for name in sys.modules if name.startswith(("course_lib.lab.view", "course_lib.lab.drawers"))]
assert above == [] and "course_lib.lab.lab" not in sys.modules
print("done")
"""


class Log(Listener):
    """What a session has told, in order; frames of the thread in a count of their own."""

    def __init__(self, session):
        self.told, self.frames = [], 0
        session.listeners.append(self)

    def frame(self):
        self.frames += 1

    def changed(self):
        self.told.append("changed")

    def branches_changed(self):
        self.told.append("branches")

    def settings_changed(self):
        self.told.append("settings")

    def taken(self):
        told, self.told = self.told, []
        return told


@pytest.fixture
def session():
    made = []

    def make(**overrides):
        made.append(Session("copy", **{**ENDLESS, **overrides}))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.slow
def test_a_session_needs_no_widget():
    ran = subprocess.run([sys.executable, "-c", WITHOUT_WIDGETS], capture_output=True, text=True)
    assert (ran.stdout, ran.returncode) == ("done\n", 0), ran.stderr


def test_listeners_are_told_in_order(session):
    one = session(**TINY)
    log = Log(one)
    one.start()
    one.result(SOON)
    assert log.taken() == []
    assert log.frames > 0  # the last one after the end of the thread
    one.rewind(10)
    assert log.taken() == ["settings", "changed"]
    one.set(optimizer="adamw2")
    assert log.taken() == ["settings", "changed"]
    one.fork()
    assert log.taken() == ["settings", "branches", "changed"]
    one.choose("A")
    assert log.taken() == ["settings", "branches", "changed"]
    one.choose("A")
    assert log.taken() == []
    one.remove("B")
    assert log.taken() == ["settings", "branches", "changed"]
    one.race("adamw", "adamw2")
    assert log.taken() == ["settings", "branches", "changed"]
    one.reset()
    assert log.taken() == ["branches", "changed"]
    one.pause()
    assert one.message.startswith("Nothing to pause")
    assert log.taken() == ["changed"]


def test_the_last_frame_comes_after_the_end_of_the_thread(session):
    one, states = session(**TINY), []

    class States(Listener):
        def frame(self):
            states.append(one.state)

    one.listeners.append(States())
    one.start()
    one.result(SOON)
    assert states[-1] == "finished"
    assert set(states[:-1]) <= {"training"}


def test_a_listener_that_fails_ends_the_thread_and_is_said(session):
    class Broken(Listener):
        def frame(self):
            raise RuntimeError("no ink")

    one = session(**TINY)
    one.listeners.append(Broken())
    one.start()
    with pytest.raises(RuntimeError, match="no ink"):
        one.result(SOON)
    assert one.state == "failed"


def test_a_setting_takes_effect_at_the_next_step_and_leaves_a_mark(session):
    one = session(schedule="constant", optimizer="adamw2")
    one.start()
    until(lambda: one.run.updates > 3)
    one.set(lr=0.001, tau=None)
    until(lambda: len(one.run.changes) == 2)
    one.stop()
    assert [(c.setting, c.value) for c in one.result(SOON).changes] == [("lr", 0.001), ("tau", None)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.01, "warmup": -1}, "warmup is -1"),
        ({"lr": 1e6}, "lr is 1000000.0: expected 0.0001 to 1"),
        ({"optimizer": "adamv"}, "optimizer is 'adamv'.*did you mean 'adamw'"),
        ({"attention": "focus"}, "attention is 'focus'"),
        ({"tau": 0}, "tau is 0"),
        ({"speed": 2}, "setting is 'speed': expected"),
    ],
)
def test_what_is_refused_changes_nothing(session, settings, message):
    one = session()
    wanted, log = one.wanted, Log(one)
    with pytest.raises(ValueError, match=message):
        one.set(**settings)
    assert one.wanted == wanted
    assert log.taken() == []


def test_a_groups_tau_is_refused_under_adamw_and_kept_until_adamw2_comes_back(session):
    one = session(optimizer="adamw2")
    one.set_group("qk", {"tau": 0.1})
    one.set(optimizer="adamw")
    assert one.next_config().groups == {}
    one.set_group("mlp", {"warmup": 0})  # another group's τ is no obstacle
    with pytest.raises(ValueError, match="tau of group 'vo' is 0.1: expected none"):
        one.set_group("vo", {"tau": 0.1})
    one.set(optimizer="adamw2")
    assert one.next_config().groups == {"qk": {"tau": 0.1}, "mlp": {"warmup": 0}}


def test_a_forks_colour_is_that_of_its_settings_now(session):
    one = session(optimizer="adamw2")
    for tau in (0.05, None):
        one.tau = tau
        one.step()
        one.result(SOON)
    one.fork()
    assert one.branches.current.color == ARM_COLORS["adamw"]  # its bound is off


def test_a_task_between_steps_leaves_the_run_going(session):
    one, alive = session(), []
    one.start()
    until(lambda: one.run.updates > 3)
    one.between_steps(lambda: alive.append(one.busy))
    assert alive == [False]
    held = one.run.updates
    until(lambda: one.run.updates > held)
    one.stop()


def test_a_newer_session_pauses_the_one_that_trains(session):
    first = session()
    first.start()
    until(lambda: first.run.updates > 3)
    second = session()
    assert (first.state, first.message) == ("paused", "A newer lab has taken over; Start goes on.")
    second.start()
    first.start()
    assert (second.state, second.message) == ("paused", "Another lab has started; Start goes on.")
    first.stop()


def test_a_fork_that_changes_nothing_repeats_the_run(session):
    one = session(**TINY)
    one.start()
    original = one.result(SOON)
    one.rewind(10)
    one.fork()
    one.start()
    assert losses(one.result(SOON)) == losses(original)
