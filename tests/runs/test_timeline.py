"""Moments that are kept: within their budget, dense at both ends, and good to go on from."""

from itertools import pairwise

import pytest

from course_lib import Run, preset
from course_lib.runs.timeline import Timeline

TINY = {"d_model": 16, "heads": 2, "context": 8, "batch": 4, "probe_every": 5, "steps": 400}


def trained(steps, *, budget=64 * 2**20, **overrides):
    run = Run(preset("copy", **{**TINY, **overrides}))
    timeline = Timeline(run, budget)
    for _ in range(steps):
        timeline.keep_if_due()
        run.step()
    return run, timeline


def one_moment():
    _, timeline = trained(11)
    return timeline.size - trained(6)[1].size


def test_a_moment_at_every_probe_while_there_is_room():
    _, timeline = trained(21)
    assert timeline.steps == (0, 5, 10, 15, 20)


def test_it_goes_on_from_a_moment_bit_for_bit():
    run, timeline = trained(43, optimizer="adamw2")
    again = Run(run.config)
    again.restore(timeline.at(22))
    assert again.updates == 20
    assert [r.loss for r in again.records] == [r.loss for r in run.records[:20]]
    while again.updates < 43:
        again.step()
    assert [r.loss for r in again.records] == [r.loss for r in run.records]


def test_it_stays_within_its_budget_and_keeps_both_ends_densely():
    budget = 12 * one_moment()
    _, timeline = trained(396, budget=budget)
    assert timeline.size <= budget
    steps = timeline.steps
    assert len(steps) >= 10
    assert (steps[0], steps[-1]) == (0, 395)
    holes = [b - a for a, b in pairwise(steps)]
    middle = max(holes)
    assert holes[1] < middle / 2
    assert holes[-1] < middle / 2


def test_a_smaller_budget_takes_effect_at_once():
    _, timeline = trained(100)
    timeline.budget = 5 * one_moment()
    assert len(timeline.steps) == 5
    assert timeline.size <= timeline.budget


def test_a_model_larger_than_the_budget_is_not_kept_and_it_says_so():
    _, timeline = trained(20, budget=1000)
    assert timeline.steps == ()
    with pytest.raises(ValueError, match="step is 10: expected a kept moment .*nothing is kept yet"):
        timeline.at(10)


def test_a_moment_in_which_a_setting_was_changed_is_kept_as_it_was_left():
    run, timeline = trained(10)
    timeline.keep()
    run.lr = 0.001
    timeline.keep()
    assert timeline.at(10).settings.lr == 0.001


def test_a_moment_lies_in_memory_of_its_own():
    """In a heap, holes that large things leave between small ones are not filled again: it would grow."""
    _, timeline = trained(11, optimizer="adamw2")
    memories = []
    for step in timeline.steps:
        tensors = timeline.at(step).tensors.values()
        memories.append({t.untyped_storage().data_ptr() for t in tensors})
        assert len(memories[-1]) == 1
        assert all(t.data_ptr() % 64 == 0 for t in tensors)
    assert len(set.union(*memories)) == 3


def test_it_says_what_it_holds():
    _, timeline = trained(21)
    assert "5 moments are kept, from step 0 to 20" in timeline.holds()


@pytest.mark.parametrize("budget", [0, -1, 1.5, "much"])
def test_bad_budget(budget):
    with pytest.raises(ValueError, match="budget is .*expected a whole number"):
        Timeline(Run(preset("copy", **TINY)), budget)
