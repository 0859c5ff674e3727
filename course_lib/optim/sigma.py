"""σ₁, the largest singular value, of many matrices at once, by power iteration on a block of vectors.

A single warm vector is not enough for an update: Adam's ΔW turns from step to step, often with several large
singular values close together, and the estimate then falls short, which is the unsafe side. So a block of
eight is iterated, and each product with the matrix gives an estimate: from the vectors, and from the other
side, of their images. Where the second is still above the first, the block has further to go
(how close that comes: bench/sigma.py).

Matrices come in stacks (b, m, n), m ≥ n, of one n but any m: what is k × k or k × n is worked on for all
stacks together, for on small matrices the number of calls is what costs (`bmm` makes fewer than `@`). Where
rows are spread over processes, a `course_lib.optim.sharded.ShardedMatrix` stands for a stack. Nothing here
makes an accelerator wait for the host.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 8
"""Vectors that are iterated together."""
COLD_ITERATIONS = 8
"""From a random start."""
STIR = 1e-3
"""Share of the start vectors that is mixed into the block before it is made orthonormal, so that a direction
that was lost (the matrix had no part in it for a step) is found again. The estimate feels its square."""
JITTER = 1e-5
"""Added to a Gram matrix of trace one, well above fp32's rounding: Cholesky then meets no negative pivot, and
nearly dependent rows come out shorter than one, never longer (`upper_bound` relies on it)."""
ROUNDING = 1e-5
"""Share of ‖·‖_F² by which fp32 may have rounded a difference of two sums of squares."""


def as_matrix(weight: Tensor) -> Tensor:
    """(…, out, in) with no more columns than rows, in at least fp32. σ₁ is the same of the transpose."""
    matrix = weight.float() if weight.element_size() < 4 else weight
    return matrix.mT if matrix.shape[-2] < matrix.shape[-1] else matrix


def start_block(matrix: Tensor) -> Tensor:
    """Orthonormal rows to start from, (…, k, n), for matrices (…, m, n), m ≥ n; the same on every device."""
    rows = _start_rows(matrix.shape[-1], matrix.dtype, matrix.device)
    return rows.expand(*matrix.shape[:-2], *rows.shape)


@lru_cache(maxsize=64)
def _start_rows(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    columns = torch.linalg.qr(torch.randn(n, min(BLOCK, n), generator=generator)).Q
    return columns.mT.contiguous().to(device, dtype)


def power_iteration(matrix: Tensor, block: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Estimate σ₁ of `matrix` (…, m, n), m ≥ n, from the vectors in the rows of `block` (…, k, n).

    Each iteration multiplies by the matrix and its transpose and makes the vectors orthonormal after either.
    The estimate, the root of the largest Ritz value, never exceeds σ₁ but for rounding.

    Args:
        matrix: in at least fp32 (`as_matrix`).
        block: orthonormal rows, from `start_block` or the last call.
        iterations: at least 1: `COLD_ITERATIONS` from a start, 1 or 2 where the matrix has changed a little.

    Returns:
        σ₁'s estimate, (…), and the block to start from next time. Where a matrix is not finite, its
        estimate is not either, and its old block is kept.
    """
    lead = block.shape[:-2]
    start = now = block.reshape(-1, *block.shape[-2:])
    stacks = [matrix if matrix.ndim == 3 else matrix.reshape(-1, *matrix.shape[-2:])]
    for _ in range(iterations):
        _, after = iterate(now, stacks)
        now = after.block
    sigma = largest_eigenvalue(after.gram).sqrt()
    return sigma.reshape(lead), kept(now, start, sigma).reshape(block.shape)


class Seen(NamedTuple):
    """What vectors see of matrices."""

    block: Tensor
    """Orthonormal rows, or shorter ones, (matrices, k, n): to go on from."""
    gram: Tensor
    """Of the products with orthonormal vectors, (matrices, k, k). Its eigenvalues are Ritz values: the i-th
    is at most σᵢ² (Cauchy's interlacing), also where vectors are shorter than one."""


def iterate(block: Tensor, stacks: Sequence[Tensor]) -> tuple[Seen, Seen]:
    """Multiply vectors (matrices, k, n) with the matrices of stacks (b, m, n), and what comes out back.

    Returns:
        What `block` sees of the matrices, and what its images see of them from the other side: never less.
    """
    # Rows, not columns: (k, n) × (n, m) is several times as fast as (m, n) × (n, k) in MKL where k is small.
    parts = block.split([stack.shape[0] for stack in stacks])
    images = [part @ stack.mT for part, stack in zip(parts, stacks, strict=True)]
    gram = _joined([torch.bmm(image, image.mT) for image in images])
    products = _joined([image @ stack for image, stack in zip(images, stacks, strict=True)])
    # The products of the images made orthonormal, without making them so one by one.
    size = trace(gram).clamp(min=torch.finfo(gram.dtype).tiny)[:, None, None]
    back = torch.bmm(_to_orthonormal(gram / size), products * size.rsqrt())
    return Seen(block, gram), Seen(_next_block(back), torch.bmm(back, back.mT))


def kept(block: Tensor, before: Tensor, sigma: Tensor) -> Tensor:
    """`block`, but that of before where a matrix was not finite, so that the next estimate is sound."""
    return torch.where(sigma.isfinite()[:, None, None], block, before)


def upper_bound(sigma: Tensor, energy: Tensor, frobenius: Tensor) -> Tensor:
    """σ₁ is at most this, (matrices,): never more than ‖·‖_F, and σ₁ itself where the rank is at most k.

    Args:
        sigma: root of the largest Ritz value.
        energy: sum of the Ritz values.
        frobenius: ‖·‖_F of the matrices.

    The i-th Ritz value θᵢ is at most σᵢ², so that σ₁² = ‖·‖_F² − Σ_{i>1} σᵢ² ≤ ‖·‖_F² − Σ_{i>1} θᵢ.
    """
    square = frobenius.square()
    rest = (square - energy).clamp(min=0) + ROUNDING * square
    return torch.minimum((sigma.square() + rest).sqrt(), frobenius * (1 + ROUNDING))


def largest_eigenvalue(gram: Tensor) -> Tensor:
    """Of small positive semi-definite matrices (b, k, k); NaN where one is not finite.

    The mean of the eigenvalues, weighted by their 4096th powers: short by less than k/(4096·e) of the
    largest, which for k = 8 is 0.07 %, when they lie as unfavourably as they can. (`eigvalsh` is slower on
    stacks of small matrices, and makes an accelerator wait.)
    """
    tiny = torch.finfo(gram.dtype).tiny  # a matrix of zeros has the eigenvalue 0, not 0/0
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
    """Orthonormal rows that span what these do, or shorter ones where some nearly depend on others."""
    tiny = torch.finfo(rows.dtype).tiny
    size = torch.linalg.vector_norm(rows, dim=(-2, -1), keepdim=True).clamp(min=tiny)
    stirred = torch.add(rows / size, _start_rows(rows.shape[-1], rows.dtype, rows.device), alpha=STIR)
    return torch.bmm(_to_orthonormal(torch.bmm(stirred, stirred.mT)), stirred)


def _to_orthonormal(gram: Tensor) -> Tensor:
    """What makes rows with this Gram matrix, of trace about one, orthonormal: L⁻¹ of Cholesky's LLᵀ."""
    eye = _eye(gram.shape[-1], gram.dtype, gram.device)
    factor = torch.linalg.cholesky_ex(torch.add(gram, eye, alpha=JITTER)).L  # _ex: no check that would wait
    return torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)


@lru_cache(maxsize=16)
def _eye(k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.eye(k, dtype=dtype, device=device)


def _joined(stacks: list[Tensor]) -> Tensor:
    return torch.cat(stacks) if len(stacks) > 1 else stacks[0]
