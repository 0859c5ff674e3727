"""The command `train` in one process, driven as a user drives it."""

import json
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from two_processes import hears_ctrl_c

import course_lib
from course_lib import Run
from course_lib import __main__ as cli

TINY = ["--d-model=16", "--heads=2", "--context=8", "--batch=4", "--probe-every=3", "--steps=12"]
COPY = ["--preset=copy", *TINY]


def train(*arguments):
    return cli.main(["train", *map(str, arguments)])


def refused(capsys, *arguments):
    """The one line that is printed for bad input, whichever way it is found."""
    try:
        status = train(*arguments)
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_train_writes_what_it_promises(tmp_path, capsys):
    out = tmp_path / "deep" / "r"
    assert train(*COPY, "--optimizer", "adamw2", "--warmup", 4, "--tau", 0.1, "--seed", 3, "--out", out) == 0
    table = capsys.readouterr().out
    row = json.loads((out / "result.json").read_text())
    assert row["arm"] == "adamw2-warmup"
    assert row["arm"] in table
    assert f"{row['final_val_loss']:.3f}" in table
    config = row["config"]
    assert (config["optimizer"], config["warmup"], config["tau"], config["seed"]) == ("adamw2", 4, 0.1, 3)
    assert (row["steps"], row["finished"], row["processes"], row["resumed_at"]) == (12, True, 1, 0)
    records = pd.read_csv(out / "records.csv")
    loss = records[records.quantity == "val_loss"].value.item()
    assert loss == pytest.approx(row["final_val_loss"])
    assert Run.load(out / "run.safetensors").finished
    assert sorted(path.name for path in out.iterdir()) == ["records.csv", "result.json", "run.safetensors"]


def test_its_row_is_that_of_compare(tmp_path, capsys):
    assert train(*COPY, "--out", tmp_path / "t", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert row == json.loads((tmp_path / "t" / "result.json").read_text())
    assert (
        cli.main(["compare", *COPY, "--arms=adamw", "--warmup=4", "--json", f"--out={tmp_path / 'c'}"]) == 0
    )
    (other,) = json.loads(capsys.readouterr().out)
    differing = {"seconds", "processes", "resumed_at"}
    assert {k: v for k, v in row.items() if k not in differing} == {
        k: v for k, v in other.items() if k not in differing
    }


def test_one_process_alone_holds_all_weights_also_under_fsdp(tmp_path):
    assert train(*COPY, "--out", tmp_path / "plain") == 0
    assert train(*COPY, "--fsdp", "--out", tmp_path / "fsdp") == 0
    plain, fsdp = ((tmp_path / name / "records.csv").read_bytes() for name in ("plain", "fsdp"))
    assert fsdp == plain


def test_every_hyperparameter_has_an_option(capsys):
    with pytest.raises(SystemExit):
        train("--help")
    text = capsys.readouterr().out
    for name in course_lib.RunConfig.__dataclass_fields__:
        option = "group" if name == "groups" else name.replace("_", "-")
        assert f"--{option}" in text


@pytest.fixture
def crashed(tmp_path, monkeypatch, capsys):
    """The folder of a run that crashed in its ninth step, with a checkpoint every three."""
    step = Run.step

    def failing(run):
        if run.updates == 8:
            raise RuntimeError("out of memory")
        return step(run)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            train(*COPY, "--out", tmp_path / "r", "--save-every", 3)
    capsys.readouterr()
    return tmp_path / "r"


def test_a_crash_costs_the_steps_since_the_checkpoint(tmp_path, capsys, crashed):
    assert Run.load(crashed / "run.safetensors").updates == 6
    assert train("--resume", "--out", crashed, "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["resumed_at"], row["steps"], row["finished"]) == (6, 12, True)
    assert train(*COPY, "--out", tmp_path / "whole") == 0
    assert (crashed / "records.csv").read_bytes() == (tmp_path / "whole" / "records.csv").read_bytes()
    assert train(*COPY, "--resume", "--out", crashed) == 0  # nothing left to do, nothing lost
    assert (crashed / "records.csv").read_bytes() == (tmp_path / "whole" / "records.csv").read_bytes()


def test_a_resumed_run_keeps_its_hyperparameters(capsys, crashed):
    before = (crashed / "run.safetensors").read_bytes()
    line = refused(capsys, "--resume", "--out", crashed, "--lr", 0.3)
    assert re.search(r"lr is 0.3: expected 0.05, as .*run.safetensors was saved with; leave out all", line)
    line = refused(capsys, "--resume", "--out", crashed, "--preset=live", *TINY)
    assert "task is 'text': expected 'copy'" in line
    line = refused(capsys, "--resume", "--out", crashed, "--group", "qk.warmup=3")
    assert "groups is {'qk': {'warmup': 3}}: expected {}" in line
    assert (crashed / "run.safetensors").read_bytes() == before
    assert train("--resume", "--out", crashed, "--device", "cpu") == 0  # any machine will do


def test_force_begins_anew_and_leaves_nothing_of_the_old_run(crashed, capsys, monkeypatch):
    line = refused(capsys, *COPY, "--out", crashed)
    assert "expected a folder without a run, it holds one; try another folder, or --force" in line
    line = refused(capsys, *COPY, "--out", crashed, "--force", "--lr", -1)
    assert "lr is -1.0" in line
    assert (crashed / "run.safetensors").exists()

    def failing(run):
        raise RuntimeError("at once")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", failing)
        with pytest.raises(RuntimeError, match="at once"):
            train(*COPY, "--out", crashed, "--force")
    assert list(crashed.iterdir()) == []
    assert train(*COPY, "--out", crashed) == 0


def test_neither_command_overwrites_the_other(tmp_path, capsys):
    assert train(*COPY, "--out", tmp_path / "t") == 0
    capsys.readouterr()
    with_compare = ["compare", *COPY, "--warmup=4", "--out"]
    assert cli.main([*with_compare, str(tmp_path / "t")]) == 2
    assert "it holds one" in capsys.readouterr().err
    assert cli.main([*with_compare, str(tmp_path / "c"), "--arms=adamw"]) == 0
    capsys.readouterr()
    assert "it holds one" in refused(capsys, *COPY, "--out", tmp_path / "c")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "nan"], "lr is nan"),
        (["--warmup", "13"], "warmup is 13: expected at most 12"),
        (["--optimizer", "adam"], "optimizer is 'adam': expected one of adamw, adamw2"),
        (["--save-every", "0"], "save-every is 0: expected a whole number of at least 1"),
        (["--save-every", "x"], "argument --save-every: 'x' is no whole number"),
        (["--resume"], "out is .*: expected a folder with a run.safetensors to resume; leave out --resume"),
        (["--resume", "--force"], "--resume and --force are both given: expected one"),
        (["--group", "qk"], "--group is 'qk': expected GROUP.SETTING=VALUE"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, arguments, message):
    line = refused(capsys, *COPY, "--out", tmp_path / "r", *arguments)
    assert re.search(message, line)
    assert not (tmp_path / "r").exists()


def test_a_folder_is_needed(tmp_path, capsys):
    assert "the following arguments are required: --out" in refused(capsys, *COPY)
    (tmp_path / "file").write_text("")
    assert "expected a folder, it is a file" in refused(capsys, *COPY, "--out", tmp_path / "file")
    assert "expected a folder, it is a file" in refused(capsys, "--resume", "--out", tmp_path / "file")


def test_a_checkpoint_that_is_damaged(crashed, capsys):
    path = crashed / "run.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "run.safetensors: expected a whole saved run" in refused(capsys, "--resume", "--out", crashed)


def test_a_run_that_diverged_is_valid_json(tmp_path, capsys):
    assert train(*COPY, "--lr", "1e30", "--probe-every", 0, "--out", tmp_path / "r", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["verdict"], row["final_val_loss"]) == ("diverged", None)


def test_compare_does_not_run_in_many_processes(tmp_path, capsys, monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "0")
    assert cli.main(["compare", *COPY, "--out", str(tmp_path / "r")]) == 2
    assert "compare is started in 2 processes: expected 1; try train" in capsys.readouterr().err


def pressing(monkeypatch, key):
    """Press a key inside the eighth step."""
    step = Run.step

    def interrupted(run):
        if run.updates == 7:
            key()
        return step(run)

    monkeypatch.setattr(Run, "step", interrupted)


def test_ctrl_c_ends_a_run_after_a_whole_step(tmp_path, capsys, monkeypatch, ctrl_c):
    out = tmp_path / "r"
    pressing(monkeypatch, ctrl_c)
    assert train(*COPY, "--save-every", 5, "--out", out) == 130
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert re.search(r"interrupted: .* keeps 8 steps; --resume goes on from there", err)
    kept = Run.load(out / "run.safetensors")
    assert kept.updates == len(kept.records) == 8
    monkeypatch.undo()
    again = Run(kept.config)
    for _ in range(8):
        again.step()
    assert all((a == b).all() for a, b in zip(again.model.parameters(), kept.model.parameters(), strict=True))
    assert json.loads((out / "result.json").read_text())["finished"] is False


def test_ctrl_c_that_the_parent_has_ignored_ends_nothing(tmp_path, monkeypatch, ctrl_c_ignored):
    """As under nohup."""
    pressing(monkeypatch, ctrl_c_ignored)
    assert train(*COPY, "--out", tmp_path / "r") == 0
    assert json.loads((tmp_path / "r" / "result.json").read_text())["finished"] is True


@pytest.mark.slow
def test_ctrl_c_reaches_a_process_of_its_own(tmp_path):
    out = tmp_path / "r"
    command = [sys.executable, "-m", "course_lib", "train", *COPY, "--steps", "1000000", "--save-every", "5"]
    process = subprocess.Popen(
        [*command, "--out", str(out)], stderr=subprocess.PIPE, text=True, preexec_fn=hears_ctrl_c
    )
    while not (out / "run.safetensors").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert Run.load(out / "run.safetensors").updates > 0
