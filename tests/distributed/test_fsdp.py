"""One run whose weights are spread over two processes: nobody who looks at it can tell."""

import json

import numpy as np
import pandas as pd
import pytest
from two_processes import HERE, torchrun
from two_processes.fsdp import HALF_WAY, same

from course_lib import Run, preset
from course_lib.runs.snapshot import Snapshot

pytestmark = pytest.mark.slow

# Odd numbers of rows everywhere: neither the weights nor the probes' matrices can be halved evenly.
SMALL = {"d_model": 21, "heads": 3, "context": 17, "batch": 8, "steps": 12, "probe_every": 4}
CONFIGS = {
    "adamw": preset("live", warmup=6, clip=0.5, **SMALL),
    "adamw2": preset("live", optimizer="adamw2", **SMALL),
    # W_q and W_k get no gradient; the second process holds no row of the position embedding.
    "uniform": preset("live", attention="uniform", warmup=6, **{**SMALL, "context": 1, "probe_every": 0}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes have saved and found, and what one has saved for them."""
    folder = tmp_path_factory.mktemp("fsdp")
    configs = {name: config.to_dict() for name, config in CONFIGS.items()}
    (folder / "configs.json").write_text(json.dumps(configs))
    one = Run(CONFIGS["adamw2"])
    for _ in range(HALF_WAY):
        one.step()
    one.save(folder / "one.safetensors")
    status, _, err = torchrun(HERE / "fsdp.py", folder)
    assert status == 0, err
    return folder


@pytest.fixture(scope="module")
def alone():
    """Name → the same run in one process, at its end."""
    runs = {name: Run(config) for name, config in CONFIGS.items()}
    for run in runs.values():
        for _ in run:
            pass
    return runs


def differences(one, two):
    """Largest absolute difference of losses and of weights, largest relative one of probes."""
    assert [r.step for r in one.records] == [r.step for r in two.records]
    losses = [abs(a.loss - b.loss) for a, b in zip(one.records, two.records, strict=True)]
    first, second = (run.snapshot().tensors for run in (one, two))
    assert {n: (t.shape, t.dtype) for n, t in first.items()} == {
        n: (t.shape, t.dtype) for n, t in second.items()
    }
    weights = [(t - second[n]).abs().max().item() for n, t in first.items() if n.startswith("model.")]
    probes = [0.0]
    for a, b in zip(one.records, two.records, strict=True):
        assert a.probes.keys() == b.probes.keys()
        for quantity in a.probes:
            np.testing.assert_array_equal(np.isnan(a.probes[quantity]), np.isnan(b.probes[quantity]))
            relative = np.abs(a.probes[quantity] - b.probes[quantity]) / np.abs(b.probes[quantity]).clip(1e-9)
            probes.append(np.nanmax(relative).item())
    return max(losses), max(weights), max(probes)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_sharded_run_is_the_run_of_one_process(folder, alone, name):
    sharded = Run.load(folder / f"{name}.safetensors")
    losses, weights, probes = differences(sharded, alone[name])
    print(f"{name}: largest difference of losses {losses:.1e}, weights {weights:.1e}, probes {probes:.1e}")
    assert losses < 1e-4
    assert weights < 1e-4
    assert probes < 1e-3
    assert sharded.records[-1].val_loss == pytest.approx(alone[name].records[-1].val_loss, abs=1e-4)
    assert sharded.records[0].loss - sharded.records[-1].loss > 0.3


@pytest.mark.parametrize("name", CONFIGS)
def test_it_repeats_bit_for_bit(folder, name):
    found = json.loads((folder / "found.json").read_text())[name]
    assert found["repeats"]
    assert found["fork repeats"]
    assert found["moment"], "a timeline keeps something else than a snapshot"


@pytest.mark.parametrize("name", CONFIGS)
def test_each_process_holds_its_part(folder, name):
    # The first one: the larger half of an odd number of rows, of a single row all.
    assert 0.5 < json.loads((folder / "found.json").read_text())[name]["held"] < 0.53


@pytest.mark.parametrize("name", CONFIGS)
def test_it_writes_what_one_process_would(folder, name):
    found = json.loads((folder / "found.json").read_text())[name]
    assert found["writes"] == Run.load(folder / f"{name}.safetensors").generate(20)


def test_a_file_of_one_process_goes_on_in_two(folder, alone):
    one, again = (Snapshot.load(folder / f"{name}.safetensors") for name in ("one", "again"))
    assert one.updates == HALF_WAY
    assert one.config == again.config
    assert same(one, again)
    losses, weights, probes = differences(Run.load(folder / "finished.safetensors"), alone["adamw2"])
    assert losses < 1e-4
    assert weights < 1e-4
    assert probes < 1e-3


def test_from_the_command_line(tmp_path):
    """Fails after seven steps in two processes, with a checkpoint at five; goes on in two, and in one."""
    words = ["train", "--preset=live", "--optimizer=adamw2", "--steps=10", "--batch=8", "--probe-every=5"]
    words += ["--d-model=21", "--heads=3", "--context=17", "--save-every=5", "--fsdp"]
    out = tmp_path / "two"
    status, _, err = torchrun(HERE / "fail.py", *words, "--out", out)
    assert status != 0
    assert "process 1 of 2 ends: RuntimeError: the lights went out; try --resume" in err
    saved = Run.load(out / "run.safetensors")
    assert saved.updates == 5
    status, shown, err = torchrun("-m", "course_lib", "train", "--resume", "--fsdp", "--out", out)
    assert status == 0, err
    assert shown.count("adamw2 writes: ") == 1
    assert json.loads((out / "result.json").read_text())["processes"] == 2
    for _ in saved:
        pass
    sharded, one = pd.read_csv(out / "records.csv"), saved.to_frame()
    assert sharded.quantity.tolist() == one.quantity.tolist()
    np.testing.assert_allclose(sharded.value, one.value, rtol=1e-3, atol=1e-4)
