"""σ₁, the largest singular value of a matrix, by power iteration on a block of vectors.

A single warm vector is not enough for an update: Adam's ΔW turns from step to step, often with several large
singular values close together, and the estimate then falls short, which is the unsafe side. On `live` one
vector was short by more than half at its worst, a block of eight by less than 0.5 % (bench/sigma.py).

All functions take any number of leading dimensions: matrices of one shape are worked on together. None of
them makes an accelerator wait for the host.
"""

from functools import lru_cache

import torch
from torch import Tensor

BLOCK = 8
"""Vectors that are iterated together."""
COLD_ITERATIONS = 8
"""From a random start."""
WARM_ITERATIONS = 2
"""From the last step's vectors. With one, a step of `copy` exceeded τ by a tenth."""
STIR = 1e-3
"""Share of the start vectors that is mixed into the block before it is made orthonormal, so that a direction
that was lost (the matrix had no part in it for a step) is found again. The estimate feels its square."""
JITTER = 1e-7
"""Added to a Gram matrix of trace one, below which fp32 rounds: Cholesky then meets no negative pivot."""


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

    Each iteration multiplies by the matrix and its transpose and makes the vectors orthonormal again. The
    estimate, the root of the largest Ritz value, never exceeds σ₁ but for rounding.

    Rows, not columns: (k, n) × (n, m) is several times as fast as (m, n) × (n, k) in MKL where k is small.

    Returns:
        σ₁'s estimate, (…), and the block to start from next time. Where a matrix is not finite, its
        estimate is not either, and its old block is kept.
    """
    start = block
    stir = STIR * start_block(matrix)
    for _ in range(iterations):
        image = _unit(block @ matrix.mT)
        block = _orthonormal_rows(_unit(image @ matrix) + stir)
    image = block @ matrix.mT
    sigma = _largest_eigenvalue(image @ image.mT).sqrt()
    return sigma, torch.where(sigma.isfinite()[..., None, None], block, start)


def _unit(block: Tensor) -> Tensor:
    """Scaled to a Frobenius norm of one, so that no square overflows or vanishes; zeros stay zeros."""
    tiny = torch.finfo(block.dtype).tiny
    return block / torch.linalg.matrix_norm(block, keepdim=True).clamp_(min=tiny)


def _orthonormal_rows(block: Tensor) -> Tensor:
    """Cholesky QR of rows (…, k, n) of norm about one: two products and a k × k factor, no Householder loop.

    Nearly dependent rows come out shorter than one, never longer: an estimate made with them is still a
    lower bound.
    """
    eye = _eye(block.shape[-2], block.dtype, block.device)
    # _ex: no check that would wait for the device
    factor = torch.linalg.cholesky_ex(torch.add(block @ block.mT, eye, alpha=JITTER)).L
    return torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False) @ block


@lru_cache(maxsize=16)
def _eye(k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.eye(k, dtype=dtype, device=device)


def _largest_eigenvalue(gram: Tensor) -> Tensor:
    """Of small positive semi-definite matrices (…, k, k); NaN where one is not finite."""
    if gram.device.type == "cpu":
        finite = gram.isfinite().flatten(-2).all(-1)
        safe = torch.where(finite[..., None, None], gram, 0.0)
        return torch.where(finite, torch.linalg.eigvalsh(safe)[..., -1].clamp(min=0), torch.nan)
    return _largest_by_powers(gram)  # eigvalsh would wait for the device


def _largest_by_powers(gram: Tensor) -> Tensor:
    """The mean of the eigenvalues, weighted by their 4096th powers.

    Short by less than k/(4096·e) of the largest, which for k = 8 is 0.07 %, when they lie as unfavourably
    as they can.
    """
    tiny = torch.finfo(gram.dtype).tiny  # a matrix of zeros has the eigenvalue 0, not 0/0
    power = gram
    for _ in range(3):  # 16³ = 4096; scaled in between, so that nothing overflows or vanishes
        power = torch.linalg.matrix_power(power / _trace(power).clamp(min=tiny), 16)
    return ((power * gram).sum((-2, -1), keepdim=True) / _trace(power).clamp(min=tiny))[..., 0, 0]


def _trace(square: Tensor) -> Tensor:
    return square.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
