"""σ₁ of matrices whose rows lie in two processes, and a model trained under fully_shard."""

import json

import numpy as np
import pytest
from two_processes import HERE, torchrun


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    file = tmp_path_factory.mktemp("sharded") / "found.json"
    status, _, err = torchrun(HERE / "sharded.py", file)
    assert status == 0, err
    return json.loads(file.read_text())


def test_the_estimate_is_that_of_the_whole_matrix(found):
    for estimate in [*found["estimates"], found["bf16"]]:
        assert estimate["relative"] < 1e-5, estimate
        assert estimate["block"] < 1e-4, estimate
        assert estimate["same"], estimate


def test_only_vectors_are_moved(found):
    for estimate in found["estimates"]:
        rows, columns = estimate["shape"][0], int(np.prod(estimate["shape"][1:]))
        padded = rows + rows % 2  # all processes send equally many
        # Three iterations and the estimate's own product.
        assert estimate["traffic"] <= 4 * estimate["vectors"] * (padded + columns), estimate
        assert estimate["largest"] <= estimate["vectors"] * max(padded, columns), estimate
    square = found["estimates"][0]
    assert square["largest"] < 64 * 64 / 4


def test_a_nan_in_one_process_is_a_nan_in_all_and_spoils_no_block(found):
    assert found["lost"]


def test_what_is_not_sharded_by_rows_is_refused(found):
    columns, whole, rows = found["refused"]
    assert "expected one Shard(dim=0), its rows over the processes" in columns
    assert "expected one Shard(dim=0), its rows over the processes" in whole
    assert "the shard has 3 rows: expected 2" in rows


def test_a_sharded_model_has_the_losses_of_the_whole_one(found):
    (whole, cuts), (sharded, sharded_cuts) = found["whole"], found["sharded"]
    print(f"fully_shard: largest difference {np.abs(np.subtract(whole, sharded)).max():.1e}, {cuts} cuts")
    np.testing.assert_allclose(sharded, whole, rtol=0, atol=1e-4)
    assert 100 < cuts == sharded_cuts < 600  # of 12 matrices in 50 steps
    assert whole[-1] < whole[0] - 0.3
