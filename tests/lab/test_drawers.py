"""What the drawers do, without a browser: race, surgery, rescue, a look inside, files."""

import errno
import re
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread

from course_lib import Run, preset
from course_lib.figures.palette import ARM_COLORS
from course_lib.lab import Lab
from course_lib.lab.drawers import keep_drawer
from course_lib.lab.view.maps import head_picture, strip_picture
from course_lib.studies.arms import MAIN_ARMS

from .conftest import SOON, TINY, losses, trained, training, until

STEPS = {"steps": 40}
TITLES = ["Rewind and fork", "Race", "Surgery", "Rescue", "Look inside", "Keep it"]


# --- drawers ------------------------------------------------------------------------------------


def test_one_drawer_is_open_at_most(lab):
    one = lab()
    drawers = one.drawers
    assert list(drawers.buttons) == TITLES
    assert drawers.open is None
    for title in TITLES:
        drawers.buttons[title].value = True
        assert drawers.open is drawers.all[title]
        assert [name for name, button in drawers.buttons.items() if button.value] == [title]
    drawers.buttons[TITLES[-1]].value = False
    assert drawers.open is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("copy", {"context": 8}),
        ("vit", {"layers": 2, "image_size": 28, "patch": 4, "stem": "conv"}),
        ("swin", {"depths": (1, 2), "window": 2, "image_size": 28, "patch": 7, "stem": "patch"}),
        ("flatten-swin", {"depths": (1, 2), "window": 2, "image_size": 28, "patch": 7, "stem": "patch"}),
    ],
)
def test_all_drawers_stay_open_while_models_of_every_kind_train(name, sizes):
    tiny = {"d_model": 16, "heads": 2, "batch": 4, "probe_every": 2, "steps": 12}
    one = Lab(name, **tiny, **sizes)
    try:
        for title in TITLES:
            one.drawers.buttons[title].value = True
            one.step()
            one.result(SOON)
        one.start()
        assert one.result(SOON).finished
        one.rewind(6)
        one.fork(optimizer="adamw2")
        one.start()
        assert one.result(SOON).finished
        assert len(one.branches) == 2
    finally:
        one.close()


# --- race ---------------------------------------------------------------------------------------


def test_arms_race_in_lock_step_from_the_same_weights_on_the_same_batches(lab):
    one = lab(**STEPS)
    drawer = one.drawers.race
    drawer.usual.click()
    drawer.start.click()
    until(lambda: all(branch.run.updates > 3 for branch in one.branches))
    one.pause()
    one.result(SOON)
    assert len({branch.run.updates for branch in one.branches}) == 1
    one.start()
    one.result(SOON)
    runs = [branch.run for branch in one.branches]
    assert all(run.finished for run in runs)
    assert len({run.records[0].loss for run in runs}) == 1
    alone = Run(runs[1].config)
    assert [record.loss for record in alone] == losses(runs[1])


def test_arms_keep_the_colours_of_the_course_and_are_listed_with_verdict_and_cost(lab):
    one = lab(**STEPS)
    one.race(*MAIN_ARMS)
    assert [branch.color for branch in one.branches] == [ARM_COLORS[arm] for arm in MAIN_ARMS]
    one.start()
    one.result(SOON)
    table = one.panels.legend.value
    for branch in one.branches:
        assert branch.color in table
        assert branch.run.verdict().name in table
        assert f"{branch.seconds:.1f}" in table


def test_a_fifth_arm_is_refused(lab):
    one = lab(**STEPS)
    drawer = one.drawers.race
    drawer.usual.click()
    one.lr = 0.01
    drawer.add.click()
    one.lr = 0.02
    drawer.add.click()
    assert "there would be 5 arms: expected at most 4" in one.message
    assert len(drawer.arms) == 4
    with pytest.raises(ValueError, match="there are 5 arms: expected 1 to 4; try"):
        one.race(*drawer.arms, "adamw")


def test_the_same_arm_twice_is_refused(lab):
    one = lab(**STEPS)
    one.drawers.race.add.click()
    one.drawers.race.add.click()
    assert "is on the list already: expected another" in one.message


def test_arms_on_other_data_are_refused_and_nothing_is_lost(lab):
    one = trained(lab)
    run = one.run
    with pytest.raises(ValueError, match="seed is 1: expected 0, as in the first arm"):
        one.race(preset("copy", **TINY), preset("copy", seed=1, **TINY))
    with pytest.raises(ValueError, match="arm is 'adamv'"):
        one.race("adamv")
    assert one.run is run


def test_another_arm_can_be_shown_while_they_race(lab):
    one = lab()
    one.race("adamw", "adamw2")
    one.start()
    until(lambda: one.run.updates > 3)
    one.choose("B")
    assert one.run.config.optimizer == "adamw2"
    held = one.run.updates
    until(lambda: one.run.updates > held + 3)
    one.stop()


# --- surgery ------------------------------------------------------------------------------------


def test_a_shock_takes_effect_at_the_next_step(lab):
    one = training(lab, warmup=1000, schedule="constant")
    one.drawers.surgery.groups["qk"].value = "shock ×3"
    until(lambda: one.run.changes)
    one.stop()
    run = one.result(SOON)
    assert run.settings.groups == {"qk": {"warmup": 0, "lr_multiplier": 3.0}}
    assert run.current_lr("qk") == pytest.approx(3 * run.lr)
    assert run.current_lr("mlp") < run.lr


def test_a_shield_chooses_adamw2_that_bounds_nothing_else(lab):
    one = lab(**STEPS)
    one.drawers.surgery.groups["qk"].value = "shield"
    assert "A shield needs AdamW²" in one.message
    one.start()
    run = one.result(SOON)
    assert (run.config.optimizer, run.tau) == ("adamw2", None)
    assert run.config.groups == {"qk": {"tau": 0.05}}


def test_a_shield_of_a_run_under_adamw_waits_for_the_fork(lab):
    one = trained(lab)
    one.rewind(10)
    one.drawers.surgery.groups["qk"].value = "shield"
    one.fork()
    assert one.run.config.optimizer == "adamw2"
    assert one.run.settings.groups == {"qk": {"tau": 0.05}}
    assert one.branches["A"].run.changes == []


def test_back_to_adamw_drops_the_shield(lab):
    one = lab(**STEPS)
    one.drawers.surgery.groups["qk"].value = "shield"
    one.controls.optimizer.value = "adamw"
    one.start()
    run = one.result(SOON)
    assert run.config.optimizer == "adamw"
    assert run.config.groups == {}


def test_uniform_attention_from_a_fork_on(lab):
    one = trained(lab)
    one.rewind(10)
    one.drawers.surgery.attention.value = "uniform"
    fork = one.fork()
    assert fork.config.attention == "uniform"
    one.start()
    entropy = one.result(SOON).records[-1].probes["entropy"]
    np.testing.assert_allclose(entropy, 1, atol=1e-6)  # float32


def test_looking_back_shows_the_surgery_of_that_moment(lab):
    one = lab(warmup=40)
    for _ in range(12):
        one.step()
        one.result(SOON)
    one.drawers.surgery.groups["vo"].value = "shock ×10"
    for _ in range(10):
        one.step()
        one.result(SOON)
    one.drawers.buttons["Surgery"].value = True
    one.rewind(10)
    assert one.drawers.surgery.groups["vo"].value == "as the rest"
    one.rewind(20)
    assert one.drawers.surgery.groups["vo"].value == "shock ×10"


# --- rescue -------------------------------------------------------------------------------------


def test_the_bound_turned_on_here_is_a_fork_with_tau(lab):
    one = trained(lab)
    one.rewind(10)
    one.drawers.rescue.here.click()
    run = one.result(SOON)
    assert (run.config.optimizer, run.tau) == ("adamw2", 0.05)
    assert run.finished
    assert [(c.step, c.setting) for c in run.changes] == [(10, "optimizer")]


def test_the_search_is_shown_can_be_stopped_and_goes_on(lab):
    one = trained(lab, lr=0.5)
    drawer = one.drawers.rescue
    one.drawers.buttons["Rescue"].value = True
    drawer.sweep.click()
    assert one.state in ("searching", "finished")
    one.stop()
    one.result(SOON)
    search = one.session.search
    drawer.sweep.click()
    one.result(SOON)
    assert one.session.search is search
    assert search.finished
    assert search.trials
    shown = [
        *zip(drawer.saved.x, drawer.saved.y, strict=True),
        *zip(drawer.lost.x, drawer.lost.y, strict=True),
    ]
    assert sorted(shown) == sorted((t.step, pytest.approx(t.loss)) for t in search.trials)
    assert str(search) in drawer.found.value
    assert one.run.finished
    assert len(one.branches) == 1


# --- inside -------------------------------------------------------------------------------------


def test_the_panels_inside_follow_the_moment_and_the_choice(lab):
    one = trained(lab, optimizer="adamw2", tau=0.005)
    inside = one.drawers.inside
    one.drawers.buttons["Look inside"].value = True
    assert "Step 40, layer 1, head 1" in inside.text.value
    inside.layer.value, inside.head.value = 2, 2
    assert "Step 40, layer 2, head 2" in inside.text.value
    assert "layer 2, head 2" in inside.map.figure.title
    now = inside.spectrum.lines.y.copy()
    one.rewind(10)
    assert "Step 10, layer 2, head 2" in inside.text.value
    assert not np.array_equal(now, inside.spectrum.lines.y)


def test_the_matrices_that_the_bound_cut_are_marked(lab):
    one = trained(lab, optimizer="adamw2", tau=0.005)
    one.drawers.buttons["Look inside"].value = True
    sizes = one.drawers.inside.ratios
    record = next(r for r in reversed(one.run.records) if "rho_requested" in r.probes)
    cut = sum(record.probes["rho_requested"] > 0.005)
    assert cut > 0
    assert len(sizes.cut.x) == cut
    assert len(sizes.free.x) == 12 - cut
    assert (sizes.cut.y > 0.005).all()
    assert f"the bound cut {cut} of 12 matrices" in one.drawers.inside.text.value


def test_without_a_bound_nothing_is_marked(lab):
    one = trained(lab)
    one.drawers.buttons["Look inside"].value = True
    assert len(one.drawers.inside.ratios.cut.x) == 0
    assert len(one.drawers.inside.ratios.free.x) == 12
    assert "nothing is bounded" in one.drawers.inside.text.value


def test_what_is_not_measured_yet_is_white(lab):
    one = lab(**STEPS)
    one.drawers.buttons["Look inside"].value = True
    for strip in (one.drawers.inside.entropy, one.drawers.inside.sec):
        assert strip.x.max == 40
        assert (imread(BytesIO(strip.mark.image.value))[..., :3] == 1).all()
    one.start()
    one.result(SOON)
    for strip in (one.drawers.inside.entropy, one.drawers.inside.sec):
        assert (imread(BytesIO(strip.mark.image.value))[..., :3] < 1).any()
        assert strip.mark.x.tolist() == [0, 40]


def test_names_of_matrices_are_short_enough_for_a_narrow_panel(lab):
    names = lab().drawers.inside.ratios.x_axis.tick_labels
    assert list(names.values()) == ["1 q", "k", "v", "o", "in", "out", "2 q", "k", "v", "o", "in", "out"]
    many = lab(layers=4).drawers.inside.ratios.x_axis.tick_labels
    assert many == {"1": "1", "7": "2", "13": "3", "19": "4"}


def test_pictures_are_drawn_sharp():
    strip = imread(BytesIO(strip_picture(np.array([[0.0, 1.0], [np.nan, 0.5]]))))
    assert strip.shape[:2] == (400, 400)
    assert strip[0, 0, :3].sum() < strip[0, -1, :3].sum()  # dark is 0
    assert (strip[-1, 0, :3] == 1).all()  # white is none
    head = imread(BytesIO(head_picture(torch.eye(4))))
    assert head.shape[:2] == (256, 256)
    assert (head[0, -1, :3] == 1).all()
    assert head[0, 0, :3].sum() < 1


# --- files --------------------------------------------------------------------------------------


@pytest.fixture
def forked(lab, tmp_path):
    one = trained(lab)
    one.rewind(10)
    one.fork(optimizer="adamw2")
    one.start()
    one.result(SOON)
    one.drawers.keep.folder.value = str(tmp_path / "files")
    return one


def test_records_of_all_branches_as_one_table(forked, tmp_path):
    forked.drawers.keep.records.click()
    assert "Written: " in forked.message
    table = pd.read_csv(tmp_path / "files" / "records.csv")
    for branch in forked.branches:
        own = table[(table["branch"] == branch.name) & (table["quantity"] == "loss")]
        assert own["value"].tolist() == losses(branch.run)


def test_figures_as_png_and_svg_say_what_they_show(forked, tmp_path):
    forked.drawers.keep.figures.click()
    assert (tmp_path / "files" / "figure.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "files" / "figure.svg").read_text()
    for branch in forked.branches:
        assert branch.color.lower() in svg.lower()
        assert branch.run.verdict().name in svg


def test_a_run_to_a_file_and_back_goes_on_bit_for_bit(lab, tmp_path):
    one = lab(**STEPS)
    one.start()
    original = one.result(SOON)
    one.rewind(20)
    drawer = one.drawers.keep
    drawer.folder.value = str(tmp_path)
    drawer.save.click()
    one.reset()
    drawer.load.click()
    assert "at step 20 of 40" in one.message
    one.start()
    assert one.result(SOON) is not original
    assert losses(one.run) == losses(original)


def test_saving_while_it_trains_lets_it_go_on(lab, tmp_path):
    one = lab()
    one.drawers.keep.folder.value = str(tmp_path)
    one.start()
    until(lambda: one.run.updates > 3)
    one.drawers.keep.save.click()
    assert "Saved: " in one.message
    held = one.run.updates
    until(lambda: one.run.updates > held + 3)
    one.stop()


def test_the_code_of_a_branch_makes_it_again(forked):
    forked.drawers.keep.code.click()
    names = {}
    exec(forked.drawers.keep.lines.value, names)
    assert losses(names["run"]) == losses(forked.run)


def test_a_file_that_is_no_run_is_refused_and_nothing_is_lost(forked, tmp_path):
    path = tmp_path / "run.safetensors"
    path.write_bytes(b"no run")
    before = [branch.run for branch in forked.branches]
    forked.drawers.keep.file.value = str(path)
    forked.drawers.keep.load.click()
    assert "expected a whole saved run" in forked.message
    forked.drawers.keep.file.value = ""
    forked.drawers.keep.load.click()
    assert "expected the path of a saved run" in forked.message
    assert [branch.run for branch in forked.branches] == before


def test_a_run_file_of_another_version_is_refused_and_nothing_is_lost(forked, monkeypatch):
    drawer, before = forked.drawers.keep, [branch.run for branch in forked.branches]
    with monkeypatch.context() as later:
        later.setattr("course_lib.runs.snapshot.FORMAT", 99)
        drawer.save.click()
    drawer.load.click()
    assert "format is 99: expected " in forked.message
    assert "load it with the course_lib it is from" in forked.message
    assert [branch.run for branch in forked.branches] == before


def test_a_full_disk_is_said_and_nothing_is_lost(forked, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("course_lib.atomic.os.fsync", full)
    drawer = forked.drawers.keep
    for button in (drawer.records, drawer.figures, drawer.save):
        forked.message = ""
        button.click()
        said = f"{tmp_path}/files/.*: No space left on device: expected to write there; nothing of the lab"
        assert re.match(said, forked.message)
    assert list((tmp_path / "files").iterdir()) == []
    assert [branch.run.finished for branch in forked.branches] == [True, True]


def test_a_figure_without_a_step_is_refused(lab, tmp_path):
    one = lab()
    one.drawers.keep.folder.value = str(tmp_path)
    one.drawers.keep.figures.click()
    assert "expected at least one step" in one.message
    one.drawers.keep.folder.value = " "
    one.drawers.keep.records.click()
    assert f"expected its name; try {keep_drawer.FOLDER!r}" in one.message
