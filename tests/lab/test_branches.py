"""Looking back, forking and several branches, without a browser."""

from time import monotonic
from types import SimpleNamespace

import numpy as np
import pytest
from ipywidgets import Widget

from course_lib.lab.view import view

from .conftest import SOON, losses, threads, trained, training, until

STEPS = {"steps": 40}


def fork_and_finish(one, **overrides):
    one.fork(**overrides)
    one.start()
    return one.result(SOON)


def test_all_panels_show_the_moment_that_is_looked_at(lab):
    one = trained(lab)
    now = one.panels._pictured
    one.rewind(22)
    assert one.past.updates == 20
    assert "looking back" in one.view.status.value
    assert "step 20 of 40" in one.view.status.value
    assert one.panels._pictured is one.past.observation
    assert (one.panels.loss.cursor.x == 20).all()
    assert f"{one.past.verdict().loss:.2f}" in one.panels.verdict.value
    assert "Step 20 of 40" in one.view.live.value
    one.rewind()
    assert one.past is None
    assert one.panels._pictured is now


def test_the_maps_of_the_past_are_those_that_were_seen_then(lab):
    one = lab(**STEPS)
    for _ in range(21):
        one.step()
        one.result(SOON)
    then = [m.clone() for m in one.run.observation.maps]
    one.start()
    one.result(SOON)
    one.rewind(20)
    for was, shown in zip(then, one.past.observation.maps, strict=True):
        np.testing.assert_array_equal(was.numpy(), shown.numpy())


@pytest.mark.parametrize("optimizer", ["adamw", "adamw2"])
def test_a_fork_with_nothing_changed_repeats_the_original_bit_for_bit(lab, optimizer):
    one = trained(lab, optimizer=optimizer)
    original = one.run
    one.rewind(15)
    fork = fork_and_finish(one)
    assert fork is not original
    assert losses(fork) == losses(original)
    assert fork.records[-1].val_loss == original.records[-1].val_loss
    assert [branch.run for branch in one.branches] == [original, fork]


def test_a_fork_takes_the_settings_of_the_controls_and_the_moments_of_its_parent(lab):
    one = trained(lab)
    original, before = one.run, losses(one.run)
    one.rewind(10)
    one.controls.optimizer.value = "adamw2"
    one.tau = 0.02
    one.lr = 0.01
    assert one.run is original  # nothing happens to it
    fork = one.fork()
    (position,) = [0]
    moment = one.branches["A"].timeline.at(10).tensors[f"optimizer.{position}.exp_avg"]
    kept = fork.snapshot().tensors[f"optimizer.{position}.exp_avg"]
    np.testing.assert_array_equal(moment.numpy(), kept.numpy())
    assert (fork.config.optimizer, fork.tau, fork.lr) == ("adamw2", 0.02, pytest.approx(0.01))
    one.start()
    one.result(SOON)
    assert losses(original) == before
    assert losses(fork)[:10] == before[:10]
    assert losses(fork)[11:] != before[11:]


def test_each_branch_has_one_colour_in_every_chart(lab):
    one = trained(lab)
    one.rewind(10)
    fork_and_finish(one, optimizer="adamw2")
    colors = [branch.color for branch in one.branches]
    assert len(set(colors)) == 2
    for chart in one.panels.charts:
        assert chart.lines.colors == colors
        assert chart.lines.y.shape[0] == 2
    x = one.panels.loss.lines.x[1]
    assert x.min() == 10  # its parent's past is its parent's
    for color in colors:
        assert color in one.panels.legend.value


def test_another_branch_that_is_chosen_is_drawn_whole(lab):
    one = trained(lab)
    one.rewind(10)
    fork_and_finish(one, optimizer="adamw2")
    before = [(chart.lines.x, chart.lines.y) for chart in one.panels.charts]
    one.choose("A")
    for chart, (x, y) in zip(one.panels.charts, before, strict=True):
        np.testing.assert_array_equal(chart.lines.x, x)
        np.testing.assert_array_equal(chart.lines.y, y)


def test_a_race_that_has_not_begun_has_nothing_to_say_of_its_arms(lab):
    one = lab()
    one.race("adamw", "adamw2")
    assert "Branches:" not in one.view.live.value
    one.step()
    one.result(SOON)
    assert "Branches: A (" in one.view.live.value


def test_a_fork_while_it_trains_goes_on_as_the_fork(lab):
    one = training(lab)
    original = one.run
    one.drawers.past.fork.click()
    until(lambda: one.run is not original and one.run.updates > original.updates + 3)
    assert len(threads()) == 1
    one.stop()


def test_rewinding_while_it_trains_pauses_it(lab):
    one = training(lab)
    one.rewind(10)
    assert threads() == []
    assert one.past.updates == 10
    held = one.run.updates
    one.start()
    until(lambda: one.run.updates > held + 3)
    assert one.past is None
    one.stop()


def test_a_setting_moved_while_looking_back_waits_for_the_fork(lab):
    one = training(lab)
    one.rewind(5)
    lr = one.run.lr
    one.lr = 0.001
    one.rewind()
    assert one.run.lr == lr
    assert one.run.changes == []
    assert one.lr == pytest.approx(lr)


def test_a_setting_moved_after_the_last_step_is_no_change_of_the_run(lab):
    one = trained(lab)
    settings = one.run.settings
    one.lr = 0.001
    assert one.run.settings == settings
    assert one.run.changes == []
    one.start()
    assert one.result(SOON).config.lr == pytest.approx(0.001)


def test_a_picture_is_sent_before_the_mark_that_shows_it(lab, monkeypatch):
    """bqplot shows what an image is when it is handed over, and not what it becomes."""
    one = trained(lab)
    maps, sent = one.panels.maps, []
    watched = {widget.model_id: name for widget, name in zip(maps.widgets, ("mark", "a", "b"), strict=True)}
    send = Widget.send_state

    def noted(widget, key=None):
        if key and widget.model_id in watched:
            sent.append(watched[widget.model_id])
        send(widget, key)

    monkeypatch.setattr(Widget, "send_state", noted)
    for look in (lambda: one.rewind(10), lambda: one.rewind(20), one.step):
        sent.clear()
        look()
        one.result(SOON)
        pictures, marks = sent[::2], sent[1::2]
        assert marks
        assert "mark" not in pictures
        assert marks == ["mark"] * len(pictures)


def test_names_of_late_changes_stand_on_their_left(lab):
    one = trained(lab)
    for step in (10, 35):
        one.rewind(step)
        one.fork(optimizer="adamw2")
        chart = one.panels.loss
        early, late = (list(label.x) for label in (chart.change_names, chart.late_names))
        assert (early, late) == (([10], []) if step == 10 else ([], [35]))
        one.choose("A")


def test_looking_back_shows_the_settings_of_that_moment(lab):
    one = lab(schedule="constant")
    for _ in range(12):
        one.step()
        one.result(SOON)
    one.lr = 0.001
    for _ in range(10):
        one.step()
        one.result(SOON)
    one.rewind(10)
    assert one.lr == pytest.approx(0.05)
    one.rewind()
    assert one.lr == pytest.approx(0.001)
    assert len(one.run.changes) == 1


def test_rewind_with_nothing_kept_says_so(lab):
    one = lab()
    with pytest.raises(
        ValueError, match="expected a kept moment .*nothing is kept yet.*; try it again after"
    ):
        one.rewind(0)
    for step in (-5, 3.5, "a"):
        with pytest.raises(ValueError, match="step is .*: expected a whole number of at least 0"):
            one.rewind(step)
    assert one.past is None


def test_fork_at_the_end_of_a_finished_run_says_what_to_do(lab):
    one = trained(lab)
    one.drawers.past.fork.click()
    assert "expected a moment with steps left; move the slider of the past back" in one.message
    assert len(one.branches) == 1
    assert one.state == "finished"


def test_fork_of_a_stopped_run(lab):
    one = training(lab)
    one.stop()
    original = one.result(SOON)
    one.fork()
    one.step()
    assert one.result(SOON).updates == original.updates + 1


def test_a_fifth_branch_is_refused_and_the_others_stay(lab):
    one = trained(lab)
    for _ in range(3):
        one.rewind(10)
        one.fork()
        one.choose("A")
    with pytest.raises(ValueError, match="there are 4 branches: expected at most 4; remove one first"):
        one.fork()
    assert [b.name for b in one.branches] == ["A", "B", "C", "D"]
    one.remove("B")
    one.rewind(10)
    one.fork()
    assert [b.name for b in one.branches] == ["A", "C", "D", "E"]
    assert len({b.color for b in one.branches}) == 4


def test_start_of_a_finished_branch_gives_up_none_of_them(lab):
    one = trained(lab)
    one.rewind(10)
    fork_and_finish(one)
    one.controls.buttons["start"].click()
    assert "branch B is finished: expected one with steps left" in one.message
    assert len(one.branches) == 2
    one.reset()
    assert len(one.branches) == 1
    assert one.state == "ready"


def test_branches_train_in_lock_step(lab):
    one = lab()
    one.start()
    until(lambda: one.run.updates > 30)
    one.stop()
    one.result(SOON)
    one.rewind(10)
    one.fork()
    one.together = True
    one.start()
    until(lambda: one.branches["A"].run.updates == one.branches["B"].run.updates)
    until(lambda: one.branches["A"].run.updates > 40)
    one.pause()
    one.result(SOON)
    assert one.branches["A"].run.updates == one.branches["B"].run.updates


def test_all_branches_together_stay_within_the_budget(lab):
    one = trained(lab)
    one.branches.budget = 500_000
    one.rewind(20)
    fork_and_finish(one)
    assert sum(branch.timeline.size for branch in one.branches) <= 500_000


def test_fifty_clicks_in_a_second(lab):
    one = training(lab)
    for _ in range(10):
        for name in ("pause", "step", "start", "stop"):
            one.controls.buttons[name].click()
        one.drawers.past.fork.click()
    assert len(threads()) <= 1
    assert len(one.branches) <= 4
    one.stop()
    one.result(SOON)
    assert one.state in ("stopped", "paused")
    assert one.branches["A"].run.updates > 8


def test_tau_dragged_to_its_end_while_stepping(lab):
    one = training(lab, optimizer="adamw2")
    for tau in (0.1, 0.2, 0.5, 1.0, None, 0.005):
        one.tau = tau
    until(lambda: one.run.tau == 0.005)
    one.stop()
    assert all(np.isfinite(r.loss) for r in one.result(SOON).records)


def test_a_fork_that_is_refused_loses_nothing(lab):
    one = trained(lab)
    one.rewind(10)
    with pytest.raises(ValueError, match="expected"):
        one.fork(d_model=32)
    assert len(one.branches) == 1
    assert one.past.updates == 10


def test_the_slider_offers_what_is_kept(lab):
    one = trained(lab)
    past = one.drawers.past
    one.drawers.buttons[past.title].value = True
    assert [value for _, value in past.slider.options] == [0, 5, 10, 15, 20, 25, 30, 35, 40, -1]
    past.slider.value = 25
    assert one.past.updates == 25
    past.now.click()
    assert one.past is None
    assert past.slider.value == -1


def test_what_was_chosen_while_looking_back_stays_when_another_moment_is_shown(lab):
    one = trained(lab)
    one.rewind(30)
    one.controls.optimizer.value = "adamw2"
    one.tau = 0.02
    one.rewind(10)
    fork = one.fork()
    assert (fork.config.optimizer, fork.tau, fork.lr) == ("adamw2", 0.02, pytest.approx(0.05))
    one.choose("A")
    assert one.controls.optimizer.value == "adamw"


def test_a_slider_moved_before_the_start_of_a_race_counts(lab):
    one = lab(schedule="constant")
    one.race("adamw", "adamw2")
    one.lr = 0.001
    one.step()
    one.result(SOON)
    assert [branch.run.records[0].lr for branch in one.branches] == [
        pytest.approx(0.001),
        pytest.approx(0.05),
    ]


def test_while_it_trains_maps_come_in_the_frame_after_the_curves(lab, monkeypatch):
    one, shown, now = lab(), [], [monotonic()]
    monkeypatch.setattr(type(one.session), "busy", True)
    monkeypatch.setattr(one.panels, "draw_maps", lambda past=None: shown.append("maps"))
    monkeypatch.setattr(one.drawers, "draw", lambda: shown.append("drawer"))
    monkeypatch.setattr(one.panels, "_draw", lambda past: shown.append("curves"))
    monkeypatch.setattr(view, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for _ in range(2):
        now[0] += 2 * view.SLOW_SECONDS
        for expected in (["curves"], ["maps", "drawer"], []):
            shown.clear()
            one.view.frame()
            assert shown == expected
    one.view.changed()  # somebody waits for it: all of it
    assert sorted(shown) == ["curves", "drawer", "maps"]
    monkeypatch.undo()
