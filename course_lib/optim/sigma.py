"""σ₁, the largest singular value of a matrix, by power iteration."""

import torch
from torch import Tensor

COLD_ITERATIONS = 20
"""From a random start: short of σ₁ by a few per cent at worst on Gaussian matrices."""
WARM_ITERATIONS = 2
"""From the last step's vector, which the matrix has hardly left."""

_TINY = 1e-30  # keeps a zero matrix' vectors finite; far below any σ₁ that fp32 training meets


def as_matrix(weight: Tensor) -> Tensor:
    """`weight` as (out, rest) in at least fp32: a convolution's kernel is flattened behind its outputs."""
    matrix = weight.flatten(1)
    return matrix.float() if matrix.element_size() < 4 else matrix


def start_vector(weight: Tensor) -> Tensor:
    """A unit vector to start from, (rest,), the same for every matrix of a shape on every device."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(weight[0].numel(), generator=generator, dtype=torch.float32)
    return (v / v.norm()).to(weight.device)


def power_iteration(matrix: Tensor, v: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Estimate σ₁ of `matrix` (m, n) from the right vector `v` (n,).

    Each iteration multiplies by the matrix and by its transpose. The estimate ‖Wᵀu‖ for a unit vector u
    never exceeds σ₁, and grows with every iteration.

    Returns:
        σ₁'s estimate, a 0-dim tensor on the matrix' device (no host sync), and the unit right vector
        to start from next time. A zero matrix gives 0 and leaves a vector of zeros behind only if
        `v` was one.
    """
    v = v.to(matrix.dtype)
    for _ in range(iterations):
        u = matrix @ v
        u = u / (u.norm() + _TINY)
        left = matrix.mT @ u
        sigma = left.norm()
        # Where the matrix has sent v to zero, v is kept: a vector of zeros would never recover.
        v = torch.where(sigma > _TINY, left / (sigma + _TINY), v)
    return sigma, v.float()
