"""σ₁ of matrices whose rows lie in two processes, and a model trained under fully_shard."""

import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from two_processes import HERE, torchrun

from course_lib.optim import AdamW2, SpectralBound


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    file = tmp_path_factory.mktemp("sharded") / "found.json"
    status, _, err = torchrun(HERE / "sharded.py", file)
    assert status == 0, err
    return json.loads(file.read_text())


@pytest.mark.slow
def test_the_estimate_is_that_of_the_whole_matrix(found):
    for estimate in [*found["estimates"], found["bf16"]]:
        assert estimate["relative"] < 1e-5, estimate
        assert estimate["block"] < 1e-4, estimate
        assert estimate["same"], estimate


@pytest.mark.slow
def test_only_vectors_are_moved(found):
    for estimate in found["estimates"]:
        rows, columns = estimate["shape"][0], int(np.prod(estimate["shape"][1:]))
        padded = rows + rows % 2  # all processes send equally many
        # Three looks; for a stack of one, each moves (rows + columns) numbers per vector.
        assert estimate["traffic"] <= 3 * estimate["vectors"] * (padded + columns), estimate
        assert estimate["largest"] <= estimate["vectors"] * max(padded, columns), estimate
    square = found["estimates"][0]
    assert square["largest"] < 64 * 64 / 4


@pytest.mark.slow
def test_a_nan_in_one_process_is_a_nan_in_all_and_spoils_no_block(found):
    assert found["lost"]


@pytest.mark.slow
def test_what_is_not_sharded_by_rows_is_refused(found):
    columns, whole, rows = found["refused"]
    assert "expected one Shard(dim=0), its rows over the processes" in columns
    assert "expected one Shard(dim=0), its rows over the processes" in whole
    assert "the shard has 3 rows: expected 2" in rows


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw2", "adam", "sgd"])
def test_a_sharded_model_has_the_losses_of_the_whole_one(found, optimizer):
    (whole, cuts), (sharded, sharded_cuts) = found["trained"][optimizer]
    print(f"{optimizer}: largest difference {np.abs(np.subtract(whole, sharded)).max():.1e}, {cuts} cuts")
    np.testing.assert_allclose(sharded, whole, rtol=0, atol=1e-4)
    steps = len(whole)
    assert 2 * steps < cuts == sharded_cuts < 12 * steps  # of 12 matrices
    assert whole[-1] < whole[0] - 0.3
    assert max(whole) == whole[0]  # a run that crashes would magnify any rounding


@pytest.mark.slow
def test_clipping_sees_the_norm_of_the_whole_gradient(found):
    whole, sharded, difference = found["clipped"]
    assert whole > 0.2  # twice what is allowed, so that it is cut
    assert sharded == pytest.approx(whole, rel=1e-5)
    assert difference < 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("way", ["sharded", "full"])
def test_torchs_checkpoint_functions_take_the_vectors_along(found, way):
    assert found["kept"][way] == []


@pytest.mark.slow
def test_parts_one_below_the_other_are_refused_where_rows_are_spread(found):
    assert found["fused"].startswith("parameter 0.in_proj_weight is sharded by rows, and holds 3 matrices")


def test_a_sharded_step_runs_on_meta_so_nothing_waits_for_the_host():
    """Of one process among two, whose messages go nowhere."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        mesh = DeviceMesh.from_group(dist.group.WORLD, "cpu")
        parameters = []
        for shape in [(33, 33), (132, 33), (33,)]:
            held = torch.zeros(-(-shape[0] // 2), *shape[1:], device="meta")
            stride = torch.empty(shape, device="meta").stride()
            sharded = DTensor.from_local(
                held, mesh, [Shard(0)], run_check=False, shape=torch.Size(shape), stride=stride
            )
            parameters.append(torch.nn.Parameter(sharded))
        for optimizer in (AdamW2(parameters), SpectralBound(torch.optim.SGD(parameters))):
            for p in parameters:
                p.grad = torch.zeros_like(p)
            for _ in range(2):  # cold and warm
                optimizer.step()
            assert [report.cut.is_meta for report in optimizer.last_step.values()] == [True, True]
    finally:
        dist.destroy_process_group()
