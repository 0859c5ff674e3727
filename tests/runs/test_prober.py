"""Probes: the numbers of a step reach the host together."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib import Run, preset

READS = ("item", "tolist", "cpu", "numpy", "__array__", "__bool__", "__float__", "__int__")


class Scalars(TorchDispatchMode):
    """Counts what waits for the device to read one number, in Python or below."""

    def __init__(self):
        super().__init__()
        self.read = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.read += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["adamw", "adamw2"])
@pytest.mark.parametrize("name", ["copy", "flatten-swin"])
def test_a_probed_step_takes_one_transfer(name, optimizer, monkeypatch):
    run = Run(preset(name, optimizer=optimizer, device="cpu", d_model=16, heads=2, batch=2))
    prober, reads = run._prober, []
    step = run.optimizer.step
    for read in READS:
        original = getattr(Tensor, read)

        def counted(tensor, *args, read=read, original=original, **kwargs):
            reads.append(read)
            return original(tensor, *args, **kwargs)

        monkeypatch.setattr(Tensor, read, counted)
    run.step()  # gives the parameters gradients
    reads.clear()
    with Scalars() as scalars:
        seen = prober.observe()
        before = prober.before_step()
    assert (reads, scalars.read) == ([], 0)
    step()
    reads.clear()
    with scalars:
        quantities = prober.quantities(seen, before, run.optimizer)
    assert (reads, scalars.read) == (["cpu", "numpy"], 0)
    shapes = {quantity: values.shape for quantity, values in quantities.items()}
    assert shapes["entropy"] == (len(run.sites), max(run.heads))
    assert shapes["rho_applied"] == (len(run.matrices),)
    assert ("rho_requested" in shapes) == (optimizer == "adamw2")


def test_numbers_of_bounded_matrices_stand_in_their_places(tiny):
    run = Run(preset("copy", optimizer="adamw2", **tiny))
    probes = run.step().probes
    reports = run.optimizer.last_step
    for i, name in enumerate(run.matrices):
        for quantity, of in (("rho_requested", "rho_requested"), ("lr_used", "lr")):
            value = probes[quantity][i]
            assert value == getattr(reports[name], of).item() if name in reports else np.isnan(value)
