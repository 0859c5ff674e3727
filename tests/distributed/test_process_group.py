"""One run in two processes: the same losses, and a file to go on from whatever happens."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
from two_processes import HERE, start, torchrun

from course_lib import Run, RunConfig, preset
from course_lib.data import IGNORED, make_task
from course_lib.distributed.process_group import SINGLE_PROCESS, ProcessGroup

SMALL = {"d_model": 32, "heads": 2, "context": 16, "batch": 8, "steps": 50, "probe_every": 20}
CONFIGS = {
    "adamw": preset("live", warmup=25, **SMALL),
    "adamw2": preset("live", optimizer="adamw2", **SMALL),
    "scored on a half, clipped": preset("recall", warmup=25, clip=0.5, **SMALL),
    "images in windows": preset("swin", lr=1e-3, warmup=25, patch=8, window=2, depths=(2, 2), **SMALL),
    "some parameters without a gradient": preset("copy", attention="uniform", lr=3e-3, warmup=25, **SMALL),
}
TINY = {"d_model": 16, "heads": 2, "layers": 2, "context": 8, "batch": 4, "lr": 1e-3, "probe_every": 20}
KILLED = preset("copy", steps=400, **TINY)


def options(config):
    """A config's numbers as a command line's words."""
    names = ("d_model", "heads", "layers", "context", "batch", "lr", "probe_every", "steps", "warmup")
    words = ["train", "--preset", config.task if config.task != "text" else "live"]
    return words + [f"--{name.replace('_', '-')}={getattr(config, name)}" for name in names]


def losses(folder):
    table = pd.read_csv(folder / "records.csv")
    return table[table.quantity == "loss"].value.to_numpy()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two processes found: config's name → losses, whether the weights stayed the same, val. loss."""
    folder = tmp_path_factory.mktemp("together")
    configs = {name: config.to_dict() for name, config in {**CONFIGS, "killed": KILLED}.items()}
    (folder / "configs.json").write_text(json.dumps(configs))
    status, _, err = torchrun(HERE / "train.py", folder / "configs.json", folder / "results.json")
    assert status == 0, err
    return json.loads((folder / "results.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_have_the_losses_of_one(together, name):
    alone = Run(CONFIGS[name])
    one = np.array([record.loss for record in alone])
    two = np.array(together[name]["losses"])
    print(f"{name}: largest difference {np.abs(one - two).max():.1e}")
    assert len(two) == 51
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-4)
    room = 0.2 if name == "images in windows" else 0.1  # eight images' loss differs by 0.1 between batches
    assert one.max() < one[0] + room  # a run that crashes would magnify any rounding
    assert together[name]["same_weights"]
    assert together[name]["sizes"] == [2, 4]  # the probes' sequences, half a batch
    assert together[name]["val_loss"] == pytest.approx(alone.validate(), abs=1e-4)


@pytest.mark.slow
def test_what_is_wrong_in_one_process_is_known_in_all(together):
    assert together["told"]


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "way"), [("adamw", "ddp"), ("adamw2", "fsdp")])
def test_the_study_preset_from_the_command_line(tmp_path, optimizer, way):
    """The other two pairs are tested at a smaller size, here and in test_fsdp.py."""
    words = ["-m", "course_lib", "train", "--preset", "study", "--steps", "25", "--optimizer", optimizer]
    words += ["--warmup", "25" if optimizer == "adamw" else "0", "--probe-every", "0"]
    status, _, err = torchrun(*words, *(["--fsdp"] if way == "fsdp" else []), "--out", tmp_path / "two")
    assert status == 0, err
    subprocess.run([sys.executable, *words, "--out", str(tmp_path / "one")], check=True, capture_output=True)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    print(f"study, {optimizer}, {way}: largest difference {np.abs(one - two).max():.1e}")
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-4)
    assert len(one) == 26
    assert one[-1] < one[0] - 0.5


@pytest.mark.slow
def test_a_process_that_is_killed_costs_the_steps_since_the_checkpoint(tmp_path, together):
    out = tmp_path / "r"
    words = ["-m", "course_lib", *options(KILLED), "--out", out, "--save-every", "10"]
    job = start(*words)
    second = wait_for_second(job, out / "run.safetensors")
    second.kill()
    _, err = job.communicate(timeout=600)
    assert job.returncode != 0
    assert "Signal 9 (SIGKILL)" in err
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == ["run.safetensors"]
    saved = Run.load(out / "run.safetensors")
    assert 0 < saved.updates < 400
    assert saved.updates % 10 == 0
    (out / ".run.safetensors.half").write_bytes(b"as a process leaves it that dies while it writes")
    status, shown, err = torchrun(*words, "--resume", "--json")
    assert status == 0, err
    row = json.loads(shown)
    assert (row["resumed_at"], row["steps"], row["processes"]) == (saved.updates, 400, 2)
    np.testing.assert_array_equal(losses(out), together["killed"]["losses"])
    assert not (out / ".run.safetensors.half").exists()


def wait_for_second(job, file):
    """The second process of a job, once `file` is there."""
    while not file.exists():
        assert job.poll() is None, job.communicate()[1]
        time.sleep(0.02)
    children = psutil.Process(job.pid).children()
    return next(child for child in children if child.environ().get("RANK") == "1")


@pytest.mark.slow
def test_a_process_that_fails_tells_why_and_ends_the_job(tmp_path):
    out = tmp_path / "r"
    status, _, err = torchrun(HERE / "fail.py", *options(KILLED), "--out", out, "--save-every", "5")
    assert status != 0
    line = "process 1 of 2 ends: RuntimeError: the lights went out; try --resume, which goes on from the"
    assert err.count(line) == 1
    assert Run.load(out / "run.safetensors").updates == 5


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_after_the_same_step(tmp_path):
    out = tmp_path / "r"
    job = start("-m", "course_lib", *options(KILLED), "--steps=100000", "--out", out, "--save-every=10")
    wait_for_second(job, out / "run.safetensors")
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=600)
    done = int(re.search(r"interrupted: .* keeps (\d+) steps; --resume goes on from there", err)[1])
    assert "process 1 of 2 ends" not in err
    assert "process 0 of 2 ends" not in err
    saved = Run.load(out / "run.safetensors")
    assert saved.updates == done == len(saved.records)
    assert json.loads((out / "result.json").read_text())["finished"] is False


@pytest.mark.slow
def test_bad_input_is_told_once(tmp_path):
    words = [*options(KILLED), "--batch=3", "--out", tmp_path / "r"]
    status, out, err = torchrun("-m", "course_lib", *words)
    assert status != 0
    assert out == ""
    told = [line for line in err.splitlines() if line.startswith("python -m course_lib")]
    assert told == [
        "python -m course_lib: batch is 3: expected a multiple of 2, the number of processes; try 4"
    ]
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("task", ["copy", "recall", "text"])
@pytest.mark.parametrize("context", [8, 9])
def test_every_sequence_has_equally_many_scored_positions(task, context):
    _, targets = make_task(task, context, seed=0).batch(0, 64)
    assert len((targets != IGNORED).sum(1).unique()) == 1


def test_shares_of_a_batch():
    batch = make_task("copy", 8, seed=0).batch(0, 6)
    parts = [ProcessGroup(rank, 3).local_batch(batch) for rank in range(3)]
    for whole, pieces in zip(batch, zip(*parts, strict=True), strict=True):
        assert [len(piece) for piece in pieces] == [2, 2, 2]
        assert np.concatenate(pieces).tolist() == whole.tolist()
    assert ProcessGroup(1, 3).local_batch_size(6) == 2
    with pytest.raises(ValueError, match="batch is 16: expected a multiple of 3, .*; try 18"):
        ProcessGroup(1, 3).local_batch_size(16)
    with pytest.raises(ValueError, match="batch is 16: expected a multiple of 3"):
        Run(RunConfig(task="copy"), ProcessGroup(1, 3))


def test_each_process_takes_a_card_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    second = ProcessGroup(1, 2, local_rank=1, local_world_size=2)
    assert [str(second.device(name)) for name in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    assert str(SINGLE_PROCESS.device("cuda:1")) == "cuda:1"
    with pytest.raises(
        ValueError, match="device is 'cuda:0': expected 'cpu', or 'cuda' to give each of the 2"
    ):
        second.device("cuda:0")
    with pytest.raises(ValueError, match="device is 'cuda:2': expected one of this machine, which has 2"):
        ProcessGroup(2, 3, local_rank=2, local_world_size=3).device("cuda")


def test_without_torchrun_a_process_is_alone(monkeypatch):
    assert ProcessGroup.from_environment() == SINGLE_PROCESS
    monkeypatch.setenv("RANK", "3")  # as some cluster's scheduler may set it
    assert ProcessGroup.from_environment() == SINGLE_PROCESS
    for name, value in {"WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert ProcessGroup.from_environment() == ProcessGroup(3, 4, local_rank=1, local_world_size=2)
    assert not ProcessGroup.from_environment().is_main


def test_weights_are_spread_over_several_processes_only():
    assert ProcessGroup(1, 2, fsdp=True).sharded
    assert not ProcessGroup(1, 2).sharded
    assert not ProcessGroup(fsdp=True).sharded
