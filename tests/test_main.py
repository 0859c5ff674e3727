"""The command line, driven as a user drives it."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import course_lib
from course_lib import Run
from course_lib import __main__ as cli

TINY = ["--d-model=16", "--heads=2", "--context=8", "--batch=4", "--probe-every=3"]
TINY += ["--steps=12", "--warmup=4"]


def run(*arguments):
    return cli.main(["compare", "--preset", "copy", *TINY, *map(str, arguments)])


def refused(capsys, *arguments):
    """The one line that is printed for bad input, whichever way it is found."""
    try:
        status = run(*arguments)
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_compare_writes_what_it_promises(tmp_path, capsys):
    out = tmp_path / "deep" / "first"
    assert run("--out", out, "--seed", 3) == 0
    table = capsys.readouterr().out
    rows = json.loads((out / "compare.json").read_text())
    assert [row["arm"] for row in rows] == ["adamw", "adamw-warmup", "adamw2"]
    keys = {"arm", "final_val_loss", "verdict", "learnt", "first_collapse_step", "seconds", "seed", "config"}
    for row in rows:
        assert keys <= set(row)
        assert row["seed"] == 3
        assert row["arm"] in table
        assert f"{row['final_val_loss']:.3f}" in table
    assert [row["config"]["warmup"] for row in rows] == [0, 4, 0]
    assert [row["config"]["optimizer"] for row in rows] == ["adamw", "adamw", "adamw2"]
    records = pd.read_csv(out / "records.csv")
    assert set(records.arm) == {"adamw", "adamw-warmup", "adamw2"}
    last = records[(records.arm == "adamw2") & (records.quantity == "val_loss")].value.item()
    assert last == pytest.approx(rows[2]["final_val_loss"])
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    saved = Run.load(out / "adamw2.safetensors")
    assert saved.finished
    assert saved.validate() == pytest.approx(rows[2]["final_val_loss"], rel=1e-6)


def test_json_on_standard_output_is_json_alone(tmp_path, capsys):
    assert run("--out", tmp_path / "r", "--json", "--arms", "adamw2,adamw-warmup-blocks", "--tau", "0.1") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["arm"] for row in rows] == ["adamw2", "adamw-warmup-blocks"]
    assert rows[0]["config"]["tau"] == 0.1
    groups = rows[1]["config"]["groups"]
    assert groups == {group: {"warmup": 0} for group in ("embedding", "head", "norm")}


def test_every_hyperparameter_has_an_option(tmp_path, capsys):
    options = (
        "--tau off --clip 1.5 --betas 0.8 0.9 --qk-norm --norm post --attention uniform --schedule constant"
    )
    groups = ["--group", "qk.lr_multiplier=0.5", "--group", "qk.tau=off"]
    assert run("--out", tmp_path / "r", "--json", "--arms", "adamw2", *options.split(), *groups) == 0
    config = json.loads(capsys.readouterr().out)[0]["config"]
    assert (config["tau"], config["clip"], config["betas"], config["qk_norm"]) == (
        None,
        1.5,
        [0.8, 0.9],
        True,
    )
    assert (config["norm"], config["attention"], config["schedule"]) == ("post", "uniform", "constant")
    assert config["groups"] == {"qk": {"lr_multiplier": 0.5, "tau": None}}
    with pytest.raises(SystemExit):
        cli.main(["compare", "--help"])
    text = capsys.readouterr().out
    for name in course_lib.RunConfig.__dataclass_fields__:
        if name not in ("optimizer", "groups"):
            assert f"--{name.replace('_', '-')}" in text


IMAGES = ["--d-model=16", "--heads=2", "--image-size=28", "--patch=7", "--stem=patch", "--batch=4"]
IMAGES += ["--probe-every=3", "--steps=6", "--warmup=2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vit", ["--layers=2"]),
        ("swin", ["--depths", "1", "2", "--window", "2"]),
        ("flatten-swin", ["--depths", "1", "2", "--window", "2"]),
    ],
)
def test_a_model_of_images_is_compared_by_its_name(tmp_path, capsys, name, sizes):
    out = tmp_path / "r"
    arms = ["adamw-warmup", "adamw2"]
    options = ["--model", name, "--arms", ",".join(arms), *IMAGES, *sizes]
    assert cli.main(["compare", *options, "--out", str(out)]) == 0
    table = capsys.readouterr().out
    rows = json.loads((out / "compare.json").read_text())
    assert [row["arm"] for row in rows] == arms
    assert {(row["config"]["model"], row["config"]["task"]) for row in rows} == {(name, "fashion-mnist")}
    assert {tuple(row["config"]["betas"]) for row in rows} == {course_lib.preset(name).betas}
    for row in rows:
        assert 0 <= row["final_val_accuracy"] <= 1
        assert f"{row['final_val_loss']:.3f}" in table
        assert f"{row['final_val_accuracy']:.3f}" in table
        assert row["reference"]["name"] == "nearest class mean"
    assert "val. accuracy" in table
    assert re.search(r"learnt: above the nearest class mean line, accuracy 0\.6\d\d", table)
    assert "writes" not in table
    records = pd.read_csv(out / "records.csv")
    last = records[(records.arm == "adamw2") & (records.quantity == "val_accuracy")].value.item()
    assert last == rows[1]["final_val_accuracy"]
    assert Run.load(out / "adamw2.safetensors").evaluate().accuracy == rows[1]["final_val_accuracy"]


VIT = [*IMAGES, "--layers=1", "--arms=adamw"]


@pytest.fixture
def folder(tmp_path):
    """Forty training and twenty test images of a reader's own, in files like MNIST's."""
    own = tmp_path / "own images"
    own.mkdir()
    for prefix, n in (("train", 40), ("t10k", 20)):
        images = np.random.default_rng(0).integers(256, size=(n, 28, 28), dtype=np.uint8)
        labels = np.arange(n, dtype=np.uint8) % 10
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes((0, 0, 8, array.ndim)) + b"".join(k.to_bytes(4, "big") for k in array.shape)
            (own / f"{prefix}-{what}-ubyte").write_bytes(header + array.tobytes())
    return own


def test_data_may_be_a_folder_of_ones_own(tmp_path, capsys, folder):
    out = tmp_path / "r"
    assert cli.main(["compare", "--data", str(folder), "--out", str(out), *VIT]) == 0
    (row,) = json.loads((out / "compare.json").read_text())
    assert row["config"]["model"] == "vit"
    assert (row["config"]["task"], row["config"]["folder"]) == ("fashion-mnist-full", str(folder))
    run = Run.load(out / "adamw.safetensors")
    assert len(run.task.images.train_images) == 40
    assert run.task.validation_size == 20


@pytest.mark.parametrize("name", ["fashion-mnist", "fashion-mnist-full"])
def test_data_may_be_a_set_by_its_name(tmp_path, monkeypatch, folder, name):
    from course_lib.data import fetch

    monkeypatch.setattr(fetch, "fetch", lambda: folder)  # as if it were downloaded
    train = ["train", "--data", name, "--preset", "vit", "--out", str(tmp_path / "r")]
    assert cli.main([*train, *VIT[:-1]]) == 0
    row = json.loads((tmp_path / "r" / "result.json").read_text())
    assert (row["config"]["task"], row["config"]["folder"]) == (name, None)


def test_text_has_no_accuracy(tmp_path, capsys):
    assert run("--out", tmp_path / "r", "--arms", "adamw") == 0
    assert "val. accuracy" not in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "r" / "compare.json").read_text())
    assert row["final_val_accuracy"] is None
    assert set(row["reference"]) == {"name", "loss"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vti"], "model is 'vti': expected one of gpt, .*did you mean 'vit'"),
        (["--model", "vit", "--patch", "5"], r"patch is 5: expected a divisor of the image's side \(32\)"),
        (["--model", "swin", "--window", "3"], "window is 3: expected a divisor .*; try 4"),
        (["--model", "swin", "--depths", "2", "x"], "argument --depths: 'x' is no whole number"),
        (["--model", "vit", "--heads", "3"], "heads is 3: expected a divisor of d_model"),
        (["--model", "vit", "--task", "text"], "model is 'vit': expected gpt for the task 'text'"),
        (["--preset", "live", "--model", "vit"], "model is 'vit': expected gpt for the task 'text'"),
        (["--preset", "live", "--task", "fashion-mnist"], "model is 'gpt': expected vit, swin, flatten-swin"),
        (["--data", "fashion-mnist-ful"], "data is 'fashion-mnist-ful': .*did you mean 'fashion-mnist-full'"),
        (["--data", "nowhere"], "data is 'nowhere': expected one of .* a folder that exists"),
        (["--data", "."], "train-images-idx3-ubyte.gz: expected a file that can be read"),
        (["--data", "fashion-mnist", "--task", "text"], "--data and --task are both given: expected one"),
        (["--folder", ".", "--model", "vit"], r"folder is '\.': expected none for the task 'fashion-mnist'"),
    ],
)
def test_bad_input_for_images(tmp_path, capsys, arguments, message):
    try:
        status = cli.main(["compare", "--out", str(tmp_path / "r"), *arguments])
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "-1"], "lr is -1.0: expected a positive number; try 0.01"),
        (["--lr", "nan"], "lr is nan"),
        (["--lr", "fast"], "argument --lr: 'fast' is no number, such as 0.01"),
        (["--tau", "0"], "tau is 0.0"),
        (["--tau", "inf"], "tau is inf"),
        (["--steps", "0"], "steps is 0"),
        (["--steps", "1.5"], "'1.5' is no whole number"),
        (["--warmup", "13"], "warmup is 13: expected at most 12, the steps of the run"),
        (["--betas", "0.9", "1"], r"betas is \(0.9, 1.0\)"),
        (["--arms", "adamw,adam3"], "arm is 'adam3': expected one of adamw,"),
        (["--device", "meta"], "device is 'meta': expected one that computes; try --device auto"),
        (["--device", "cuda:99"], "device is 'cuda:99': expected one of this machine"),
        (["--preset", "liev"], "preset is 'liev': .*did you mean 'live'"),
        (["--group", "qk"], "--group is 'qk': expected GROUP.SETTING=VALUE"),
        (["--group", "qk.warmup=x"], "--group is 'qk.warmup=x'"),
        (["--group", "kq.warmup=1"], "group is 'kq'"),
        (["--text", "missing.txt", "--task", "text"], "missing.txt: expected a text file that can be read"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, arguments, message):
    line = refused(capsys, "--out", tmp_path / "r", *arguments)
    assert re.search(message, line)
    assert not (tmp_path / "r" / "compare.json").exists()


def test_no_cuda_here(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    line = refused(capsys, "--out", tmp_path / "r", "--device", "cuda")
    assert (
        "device is 'cuda': expected one of this machine, which has 0 of that kind; try device='auto'" in line
    )


def test_a_text_of_ones_own_that_is_too_short(tmp_path, capsys):
    text = tmp_path / "short.txt"
    text.write_text("In the beginning")
    line = refused(capsys, "--out", tmp_path / "r", "--task", "text", "--text", text)
    assert "short.txt has 16 characters" in line


def test_nothing_is_overwritten_without_force(tmp_path, capsys):
    out = tmp_path / "r"
    assert run("--out", out, "--arms", "adamw") == 0
    before = (out / "compare.json").read_bytes()
    capsys.readouterr()
    line = refused(capsys, "--out", out, "--arms", "adamw", "--seed", 1)
    assert "expected a folder without a run, it holds one; try another folder, or --force" in line
    assert (out / "compare.json").read_bytes() == before
    assert run("--out", out, "--arms", "adamw", "--seed", 1, "--force") == 0
    assert (out / "compare.json").read_bytes() != before


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "expected a folder, it is a file" in refused(capsys, "--out", tmp_path / "file")
    line = refused(capsys, "--out", tmp_path / "file" / "below")
    assert "expected a folder that can be written" in line


def test_ctrl_c_keeps_what_was_trained(tmp_path, capsys, monkeypatch, ctrl_c):
    """It is pressed inside the fifth step of the second arm."""
    out, step = tmp_path / "r", Run.step

    def interrupted(one):
        if one.config.warmup == 0 and one.updates == 4:
            ctrl_c()
        return step(one)

    monkeypatch.setattr(Run, "step", interrupted)
    assert run("--out", out, "--arms", "adamw-warmup,adamw,adamw2") == 130
    err = capsys.readouterr().err
    assert "keeps what was trained" in err
    assert "Traceback" not in err
    rows = json.loads((out / "compare.json").read_text())
    assert [(row["arm"], row["finished"], row["steps"]) for row in rows] == [
        ("adamw-warmup", True, 12),
        ("adamw", False, 4),
    ]
    monkeypatch.undo()
    loaded = Run.load(out / "adamw.safetensors")
    assert loaded.updates == 4
    loaded.step()


def test_a_group_has_a_tau_of_its_own_and_a_short_run_without_warmup_needs_none(tmp_path, capsys):
    arguments = ["--arms", "adamw,adamw2", "--group", "qk.tau=0.02", "--warmup", "100", "--json"]
    assert run("--out", tmp_path / "r", *arguments) == 0
    plain, bounded = json.loads(capsys.readouterr().out)
    assert plain["config"]["groups"] == {"qk": {}}
    assert bounded["config"]["groups"] == {"qk": {"tau": 0.02}}


def test_a_file_that_is_not_ours_is_not_overwritten_and_force_leaves_nothing_of_the_old_run(tmp_path, capsys):
    out = tmp_path / "r"
    out.mkdir()
    (out / "adamw.safetensors").write_bytes(b"mine")
    assert "it holds one" in refused(capsys, "--out", out, "--arms", "adamw")
    assert (out / "adamw.safetensors").read_bytes() == b"mine"
    (out / "adamw2.safetensors").write_bytes(b"old")
    assert run("--out", out, "--arms", "adamw", "--force") == 0
    assert not (out / "adamw2.safetensors").exists()


def test_a_run_that_blows_up_is_reported(tmp_path, capsys):
    assert run("--out", tmp_path / "r", "--lr", "1e30", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in rows[:2]] == ["diverged", "diverged"]
