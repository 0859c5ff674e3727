"""The lab without a browser: what the buttons and sliders do, and what a thread leaves behind."""

import re
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from course_lib.lab import Lab
from course_lib.lab.view.maps import map_picture

from .conftest import SOON, TINY, threads, training, until


def test_it_trains_to_the_end_and_gives_the_run(lab):
    one = lab(**TINY)
    assert one.state == "ready"
    one.start()
    run = one.result(SOON)
    assert run.finished
    assert one.state == "finished"
    assert threads() == []


def test_one_thread_whatever_is_clicked(lab):
    one = lab()
    for _ in range(5):
        one.controls.buttons["start"].click()
    until(lambda: one.run.updates > 3)
    assert len(threads()) == 1
    one.controls.buttons["stop"].click()
    one.controls.buttons["stop"].click()
    one.result(SOON)
    assert one.state == "stopped"
    assert threads() == []


def test_stop_and_pause_before_start_say_so(lab):
    one = lab()
    one.controls.buttons["stop"].click()
    assert "Nothing to stop" in one.message
    one.controls.buttons["pause"].click()
    assert "Nothing to pause" in one.message
    assert one.state == "ready"
    assert threads() == []


def test_pause_holds_and_start_goes_on_with_the_same_run(lab):
    one = training(lab)
    one.pause()
    run = one.result(SOON)
    held = run.updates
    assert one.state == "paused"
    one.step()
    assert one.result(SOON) is run
    assert run.updates == held + 1
    one.start()
    until(lambda: run.updates > held + 3)
    assert one.run is run
    one.stop()


def test_start_after_stop_is_a_new_run(lab):
    one = training(lab)
    one.stop()
    stopped = one.result(SOON)
    one.start()
    assert one.run is not stopped
    assert one.previous is stopped
    one.stop()


def test_reset_while_it_trains(lab):
    one = training(lab)
    one.controls.buttons["reset"].click()
    assert one.state == "ready"
    assert one.run.updates == 0
    assert threads() == []


def test_a_new_lab_ends_the_thread_of_the_old_one(lab):
    first = lab()
    first.start()
    until(lambda: first.run.updates > 3)
    second = lab()  # as when its cell is run again
    assert threads() == []
    assert first.state == "paused"
    second.start()
    first.start()
    until(lambda: first.run.updates > 10)
    assert len(threads()) == 1
    assert second.state == "paused"


def test_a_moved_slider_takes_effect_at_the_next_step_and_leaves_a_mark(lab):
    one = training(lab, optimizer="adamw2", schedule="constant")
    one.controls.lr.value = 0.001
    one.tau = None
    until(lambda: len(one.run.changes) == 2)
    one.stop()
    run = one.result(SOON)
    assert [(c.setting, c.value) for c in run.changes] == [("lr", pytest.approx(0.001)), ("tau", None)]
    marked = run.changes[0].step
    assert run.records[marked - 1].lr == pytest.approx(0.05)
    assert run.records[marked].lr == pytest.approx(0.001)


def test_a_slider_moved_there_and_back_before_the_start_leaves_no_mark(lab):
    one = lab()
    lr = one.lr
    one.lr = 0.001
    one.lr = lr
    one.step()
    assert one.result(SOON).changes == []


def test_optimizer_and_norm_wait_for_the_next_run(lab):
    one = lab()
    assert one.controls.tau.disabled
    one.start()
    until(lambda: one.run.updates > 3)
    one.controls.optimizer.value = "adamw2"
    one.controls.norm.value = "post"
    one.stop()
    run = one.result(SOON)
    assert run.config.optimizer == "adamw"
    assert "from the next run on" in one.view.status.value
    one.reset()
    assert (one.run.config.optimizer, one.run.config.norm) == ("adamw2", "post")
    assert not one.controls.tau.disabled


def test_a_failure_in_the_thread_is_shown_and_raised(lab, monkeypatch):
    one = lab()

    def fail():
        raise RuntimeError("out of luck")

    monkeypatch.setattr(one.run, "step", fail)
    one.start()
    with pytest.raises(RuntimeError, match="out of luck"):
        one.result(SOON)
    assert one.state == "failed"
    assert "RuntimeError: out of luck" in one.view.status.value
    one.reset()  # and on it goes
    one.step()
    assert one.result(SOON).updates == 1


def test_result_does_not_wait_for_ever(lab):
    one = lab()
    one.start()
    with pytest.raises(TimeoutError, match="the lab still trains, at step"):
        one.result(0.01)
    one.stop()


def test_a_run_without_a_bound_is_shown_as_one(lab):
    one = lab(optimizer="adamw2", tau=None)
    assert one.controls.tau.label == "off"
    assert one.tau is None
    one.tau = 0.04  # a position of its own
    assert one.controls.tau.label == "0.04"
    one.reset()
    assert one.run.tau == 0.04


def test_a_screen_reader_hears_what_the_plots_say(lab):
    one = lab(**TINY)
    one.start()
    one.result(SOON)
    assert 'aria-live="polite"' in one.view.live.value
    assert "Finished." in one.view.live.value
    assert "loss" in one.view.live.value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lab("liev"), "preset is 'liev': .*did you mean 'live'"),
        (lambda: Lab(3), "config is 3: expected a preset's name or a RunConfig"),
        (lambda: Lab("copy", lr=-1), "lr is -1: expected a positive number"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_refused_setting_leaves_everything_as_it_was(lab):
    one = lab(optimizer="adamw2")
    for name, value in (("lr", -1), ("lr", 1e6), ("tau", 0), ("warmup", 10**9)):
        with pytest.raises(ValueError, match=f"{name} is"):
            setattr(one, name, value)
    assert one.lr == pytest.approx(0.05)
    assert one.tau == 0.05


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vit", {"layers": 2}),
        ("swin", {"depths": (1, 2), "window": 2}),
        ("flatten-swin", {"depths": (1, 2), "window": 2}),
    ],
)
def test_models_of_images_train_in_the_lab(name, sizes):
    """Layers with two and four heads, and maps of 16 and of 4 tokens, in one picture."""
    tiny = {"d_model": 16, "heads": 2, "batch": 4, "probe_every": 5, "steps": 10}
    one = Lab(name, **tiny, **sizes, image_size=28, patch=7, stem="patch")
    try:
        one.start()
        run = one.result(SOON)
        assert run.finished
        colors = len(one.panels.entropy.lines.y)
        assert colors == len(run.sites)
        assert np.isfinite(one.panels.entropy.lines.y).all()
        assert np.isfinite(one.panels.sigma.lines.y).all()
        assert "nearest class mean 0.67" in one.panels.verdict.value
        assert f"accuracy {run.records[-1].accuracy:.2f}" in one.view.live.value
    finally:
        one.close()


def test_tiles_of_layers_with_fewer_heads_are_empty():
    large, small = torch.full((2, 6, 6), 0.5), torch.full((1, 3, 3), 1.0)
    pixels = imread(BytesIO(map_picture([large, small])))
    assert pixels.shape[:2] == (2 * 8, 2 * 8)  # tiles of 6 in frames of 1
    white = (pixels[..., :3] == 1).all(-1)
    assert white[9:15, 9:15].all()
    assert not white[1:7, 1:7].any()
    assert not white[9:15, 1:7].any()


def test_a_lab_carries_a_picture_and_a_sentence_beside_its_live_view(lab, displayed):
    one = lab(**TINY)
    for told in ("Nothing trained yet: AdamW, pre-LN", "At step 20, A is at"):
        bundle, live = displayed(one)
        assert "application/vnd.jupyter.widget-view+json" in live
        assert bundle["text/plain"].startswith(told)
        assert "run this cell to use it" in bundle["text/html"]
        data = re.search(
            r'<img alt="[^"]{30,}"[^>]* src="data:image/png;base64,([^"]+)"', bundle["text/html"]
        )
        assert len(b64decode(data[1])) <= 60_000
        one.start()
        one.result(SOON)
