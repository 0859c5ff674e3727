"""How far a step may go: σ₁ of matrices and of their updates, as exactly as the answer needs them.

Where the host may decide (on the CPU), a matrix that a cheap upper bound excuses costs one norm:
‖ΔW‖_F ≥ σ₁(ΔW), and σ₁(W) is known to be at least its last estimate less what the steps since can have
taken (Weyl's inequality).
On an accelerator a decision would have to wait for the device, so every matrix is estimated in every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from course_lib.optim.sigma import (
    COLD_ITERATIONS,
    WARM_ITERATIONS,
    as_matrix,
    power_iteration,
    start_block,
)

SIGMA_FLOOR = 1e-3
"""σ₁(W) counts as at least this much, else a matrix that starts at zero could never leave it."""
STACKED = 2**18
"""Elements up to which a matrix is copied beside others, so that all are multiplied in one call."""

Split = tuple[int, int]
"""(dim, parts): a parameter holds several matrices side by side along `dim`, such as fused q, k and v."""


def parts_of(tensor: Tensor, split: Split) -> list[Tensor]:
    """Views of a parameter-shaped tensor, one for each matrix in it."""
    dim, parts = split
    return [tensor] if parts == 1 else list(tensor.chunk(parts, dim))


def matrices_of(tensor: Tensor, split: Split) -> list[Tensor]:
    """`parts_of` as matrices (m, n), m ≥ n; a convolution's kernel is flattened behind its outputs."""
    return [as_matrix(part.flatten(1)) for part in parts_of(tensor, split)]


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor's rows lie on several processes (a DTensor, or what is made of one)."""
    return not isinstance(tensor, Tensor) or hasattr(tensor, "placements")


@dataclass
class Known:
    """What is known of matrices of one shape from the steps before, one row for each."""

    block_weight: Tensor
    """Vectors to go on from, (matrices, k, n), for W."""
    block_update: Tensor
    """The same for ΔW."""
    sigma_low: Tensor
    """σ₁(W) is at least this much, (matrices,)."""
    cold: bool = False
    """Whether a block among them is at its start, or its matrix has been changed by others."""

    @classmethod
    def nothing(cls, matrices: Sequence[Tensor]) -> "Known":
        """Of matrices that are seen for the first time."""
        start = start_block(matrices[0]).expand(len(matrices), -1, -1)
        low = torch.zeros(len(matrices), dtype=start.dtype, device=start.device)
        return cls(start.clone(), start.clone(), low, cold=True)


@dataclass(frozen=True)
class Limit:
    """σ₁ of matrices and of their updates, (matrices,), and what follows from them."""

    sigma_weight: Tensor
    """σ₁(W), a lower bound; at least `SIGMA_FLOOR`."""
    sigma_update: Tensor
    """σ₁(ΔW), or an upper bound of it where that is enough."""
    frobenius: Tensor
    """‖ΔW‖_F."""

    @classmethod
    def of(
        cls, weights: Sequence[Tensor], updates: Sequence[Tensor], known: Known, lr: float, tau: float
    ) -> "Limit":
        """Measure matrices (m, n), m ≥ n, of one shape, and bring `known` up to date."""
        frobenius = torch.stack([u.norm() for u in updates])
        sigma_weight, sigma_update = known.sigma_low.clone(), frobenius.clone()
        if frobenius.device.type == "cpu":
            excused = lr * frobenius <= tau * sigma_weight.clamp(min=SIGMA_FLOOR)  # NaN is not excused
            asked = [i for i, free in enumerate(excused.tolist()) if not free]
        else:
            asked = list(range(len(updates)))
        if len(asked) == len(updates):
            sigma_weight, sigma_update = _estimate(weights, updates, known)
        elif asked:
            some = Known(known.block_weight[asked], known.block_update[asked], known.sigma_low, known.cold)
            sigma_weight[asked], sigma_update[asked] = _estimate(
                [weights[i] for i in asked], [updates[i] for i in asked], some
            )
            known.block_weight[asked], known.block_update[asked] = some.block_weight, some.block_update
        known.cold = False
        known.sigma_low = sigma_weight
        return cls(sigma_weight.clamp(min=SIGMA_FLOOR), sigma_update, frobenius)

    def rho(self, lr: float) -> Tensor:
        """ρ = α σ₁(ΔW)/σ₁(W) at the learning rate `lr`."""
        return lr * self.sigma_update / self.sigma_weight

    def allowed(self, lr: float, tau: float) -> tuple[Tensor, Tensor]:
        """The learning rate that keeps ρ ≤ τ, and where it had to be cut for that (bool).

        A NaN is no reason to cut: it then reaches the weights as it does in AdamW, and shows in the loss.
        """
        bound = self.rho(lr) > tau
        return torch.where(bound, tau * self.sigma_weight / self.sigma_update, lr), bound


def _estimate(weights: Sequence[Tensor], updates: Sequence[Tensor], known: Known) -> tuple[Tensor, Tensor]:
    iterations = COLD_ITERATIONS if known.cold else WARM_ITERATIONS
    if len(weights) == 1 and (is_sharded(weights[0]) or weights[0].numel() > STACKED):
        sigma_w, block_w = power_iteration(weights[0], known.block_weight[0], iterations)
        sigma_u, block_u = power_iteration(updates[0], known.block_update[0], iterations)
        known.block_weight, known.block_update = block_w[None], block_u[None]
        return sigma_w[None], sigma_u[None]
    both = torch.stack([*weights, *updates])
    blocks = torch.cat([known.block_weight, known.block_update])
    sigma, blocks = power_iteration(both, blocks, iterations)
    n = len(weights)
    known.block_weight, known.block_update = blocks[:n], blocks[n:]
    return sigma[:n], sigma[n:]
