"""The size of an optimizer's step relative to its matrix, measured from outside."""

from collections.abc import Mapping

import torch
from torch import Tensor

from course_lib.distributed.sharding import whole
from course_lib.probes.spectrum import sigma_max


class StepProbe:
    """Measures one optimizer step: build it before the step, and call `measure` after it.

    Args:
        matrices: name → parameter with two or more dimensions. They are copied as they are now; of sharded
            ones (FSDP2), each process copies its own rows.
    """

    def __init__(self, matrices: Mapping[str, Tensor]) -> None:
        self.matrices = matrices
        self.before = {name: p.detach().clone() for name, p in matrices.items()}

    @torch.no_grad()
    def measure(self, decay: Mapping[str, float | Tensor] | None = None) -> dict[str, Tensor]:
        """`weight_sigma`, σ₁(W) before the step, and `rho_applied`, α σ₁(ΔW)/σ₁(W): (matrices,) each.

        All processes must call it for sharded matrices, which are gathered one shape at a time.

        Args:
            decay: name → α·λ, the share by which decoupled weight decay shrank the matrix. Decay is not part
                of the update, so it is removed before the ratio is taken. None: no decay.
        """
        decay = decay or {}
        moved = {
            name: before * (1 - decay.get(name, 0.0)) - self.matrices[name]
            for name, before in self.before.items()
        }
        sigma = _sigma_by_shape(self.before)
        return {"weight_sigma": sigma, "rho_applied": _sigma_by_shape(moved) / sigma}


def _sigma_by_shape(matrices: Mapping[str, Tensor]) -> Tensor:
    """σ₁ of each matrix, (matrices,), in one call per shape."""
    shapes: dict[torch.Size, list[str]] = {}
    for name, matrix in matrices.items():
        shapes.setdefault(matrix.shape, []).append(name)
    sigma: dict[str, Tensor] = {}
    for names in shapes.values():
        stack = torch.stack([whole(matrices[name]).flatten(1) for name in names])
        sigma.update(zip(names, sigma_max(stack), strict=True))
    return torch.stack([sigma[name] for name in matrices])
