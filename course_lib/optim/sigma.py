"""σ₁, the largest singular value, of many matrices at once, by power iteration on a block of vectors.

One vector from the last step is not enough for an update: Adam's ΔW turns from step to step and often has
several large singular values close together, so the estimate is too low, which is the unsafe side. A block
of eight vectors is iterated instead. Each iteration gives two estimates: one from the vectors, one from their
images. If the second is higher, the block has not converged (bench/sigma.py measures the error).

Matrices come in stacks (b, m, n), m ≥ n, with one n and any m. The k × k and k × n tensors of all stacks are
processed together, because the number of calls dominates the time on small matrices (`bmm` makes fewer than
`@`). A `course_lib.optim.sharded.ShardedMatrix` represents a stack whose rows are sharded over processes.
Nothing here makes the host wait for an accelerator.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 8
"""Number of vectors iterated together."""
COLD_ITERATIONS = 8
"""Iterations from a random start."""
STIR = 1e-3
"""Share of the start vectors mixed into the block before it is made orthonormal. The block can so find a
direction again that the matrix lacked for a step. The estimate changes by the square of this share."""
JITTER = 1e-5
"""Added to the diagonal of a Gram matrix of trace one, well above fp32's rounding. Cholesky then meets no
negative pivot, and nearly dependent rows come out shorter than one, which `upper_bound` relies on."""
ROUNDING = 1e-5
"""Share of ‖·‖_F² by which fp32 may have rounded a difference of two sums of squares."""


def as_matrix(weight: Tensor) -> Tensor:
    """(…, out, in) in at least fp32, transposed if it has more columns than rows, which keeps σ₁."""
    matrix = weight.float() if weight.element_size() < 4 else weight
    return matrix.mT if matrix.shape[-2] < matrix.shape[-1] else matrix


def start_block(matrix: Tensor) -> Tensor:
    """Orthonormal start rows (…, k, n) for matrices (…, m, n), m ≥ n; the same on every device."""
    rows = _start_rows(matrix.shape[-1], matrix.dtype, matrix.device)
    return rows.expand(*matrix.shape[:-2], *rows.shape)


@lru_cache(maxsize=64)
def _start_rows(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    columns = torch.linalg.qr(torch.randn(n, min(BLOCK, n), generator=generator)).Q
    return columns.mT.contiguous().to(device, dtype)


class Seen(NamedTuple):
    """Vectors and the Gram matrix of their products with a matrix."""

    block: Tensor
    """Orthonormal rows, or shorter ones, (matrices, k, n)."""
    gram: Tensor
    """(matrices, k, k). Its eigenvalues are Ritz values: the i-th is at most σᵢ² (Cauchy's interlacing), also
    for vectors shorter than one."""


def iterate(block: Tensor, stacks: Sequence[Tensor]) -> tuple[Seen, Seen]:
    """Multiply vectors (matrices, k, n) with the matrices of stacks (b, m, n), and their images back.

    Returns:
        `Seen` of `block`, and `Seen` of its images, whose Ritz values are at least as large.
    """
    # For a small k, MKL multiplies (k, n) × (n, m) several times as fast as (m, n) × (n, k).
    parts = block.split([stack.shape[0] for stack in stacks])
    images = [part @ stack.mT for part, stack in zip(parts, stacks, strict=True)]
    gram = _joined([torch.bmm(image, image.mT) for image in images])
    products = _joined([image @ stack for image, stack in zip(images, stacks, strict=True)])
    # Making the products orthonormal afterwards saves doing it with the images of each stack.
    size = trace(gram).clamp(min=torch.finfo(gram.dtype).tiny)[:, None, None]
    back = torch.bmm(_to_orthonormal(gram / size), products * size.rsqrt())
    return Seen(block, gram), Seen(_next_block(back), torch.bmm(back, back.mT))


def kept(block: Tensor, before: Tensor, sigma: Tensor) -> Tensor:
    """`block`, or `before` if the matrix was not finite, so that the next estimate is sound."""
    return torch.where(sigma.isfinite()[:, None, None], block, before)


def upper_bound(sigma: Tensor, energy: Tensor, frobenius: Tensor) -> Tensor:
    """Upper bound of σ₁, (matrices,): at most ‖·‖_F, and equal to σ₁ if the rank is at most k.

    Args:
        sigma: root of the largest Ritz value.
        energy: sum of the Ritz values.
        frobenius: ‖·‖_F of the matrices.

    The i-th Ritz value θᵢ is at most σᵢ². Therefore σ₁² = ‖·‖_F² − Σ_{i>1} σᵢ² ≤ ‖·‖_F² − Σ_{i>1} θᵢ.
    """
    square = frobenius.square()
    rest = (square - energy).clamp(min=0) + ROUNDING * square
    return torch.minimum((sigma.square() + rest).sqrt(), frobenius * (1 + ROUNDING))


def largest_eigenvalue(gram: Tensor) -> Tensor:
    """Largest eigenvalue of positive semi-definite matrices (b, k, k), (b,); NaN if one is not finite.

    It is the mean of the eigenvalues weighted by their 4096th powers, which is too low by less than
    k/(4096·e) of the largest: 0.07 % for k = 8. `eigvalsh` is slower on stacks of small matrices and makes
    the host wait for an accelerator.
    """
    tiny = torch.finfo(gram.dtype).tiny  # gives 0 for a matrix of zeros, not 0/0
    power = gram
    for squaring in range(12):  # 2¹² = 4096
        if squaring % 4 == 0:  # scaled, so that nothing overflows or vanishes
            power = power / trace(power)[:, None, None].clamp(min=tiny)
        power = torch.bmm(power, power)
    return (power * gram).sum((-2, -1)) / trace(power).clamp(min=tiny)


def trace(square: Tensor) -> Tensor:
    """Sum of the diagonal of (…, k, k), (…)."""
    return square.diagonal(dim1=-2, dim2=-1).sum(-1)


def _next_block(rows: Tensor) -> Tensor:
    """Orthonormal rows with the span of these; rows that nearly depend on others come out shorter."""
    tiny = torch.finfo(rows.dtype).tiny
    size = torch.linalg.vector_norm(rows, dim=(-2, -1), keepdim=True).clamp(min=tiny)
    stirred = torch.add(rows / size, _start_rows(rows.shape[-1], rows.dtype, rows.device), alpha=STIR)
    return torch.bmm(_to_orthonormal(torch.bmm(stirred, stirred.mT)), stirred)


def _to_orthonormal(gram: Tensor) -> Tensor:
    """The matrix that makes rows with this Gram matrix LLᵀ, of trace about one, orthonormal: L⁻¹."""
    eye = _eye(gram.shape[-1], gram.dtype, gram.device)
    factor = torch.linalg.cholesky_ex(torch.add(gram, eye, alpha=JITTER)).L  # _ex: its check needs no sync
    return torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)


@lru_cache(maxsize=16)
def _eye(k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.eye(k, dtype=dtype, device=device)


def _joined(stacks: list[Tensor]) -> Tensor:
    return torch.cat(stacks) if len(stacks) > 1 else stacks[0]
