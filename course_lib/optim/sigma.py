"""σ₁, the largest singular value, of many matrices at once, by power iteration on a block of vectors.

A single warm vector is not enough for an update: Adam's ΔW turns from step to step, often with several large
singular values close together, and the estimate then falls short, which is the unsafe side. On `copy` one
step of a block of two was short by 77 %; three products with a block of eight, and two more where the last
two changed the estimate by 5 %, never were by more than 1.1 % (bench/sigma.py).

Matrices come in stacks (b, m, n), m ≥ n, of one n but any m: what is k × k or k × n is worked on for all
stacks together, for on small matrices the number of calls is what costs. Where rows are spread over
processes, a `course_lib.optim.sharded.ShardedMatrix` stands for a stack. Nothing here makes an accelerator
wait for the host.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

BLOCK = 8
"""Vectors that are iterated together."""
COLD_ITERATIONS = 8
"""From a random start."""
STIR = 1e-3
"""Share of the start vectors that is mixed into the block before it is made orthonormal, so that a direction
that was lost (the matrix had no part in it for a step) is found again. The estimate feels its square."""
JITTER = 1e-6
"""Added to a Gram matrix, well above fp32's rounding: Cholesky then meets no negative pivot, and nearly
dependent rows come out shorter than one, never longer (`upper_bound` relies on it)."""
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

    Each iteration multiplies by the matrix and its transpose and makes the vectors orthonormal again. The
    estimate, the root of the largest Ritz value, never exceeds σ₁ but for rounding.

    Args:
        matrix: in at least fp32 (`as_matrix`).
        block: orthonormal rows, from `start_block` or the last call.
        iterations: `COLD_ITERATIONS` from a start, 1 or 2 where the matrix has changed a little.

    Returns:
        σ₁'s estimate, (…), and the block to start from next time. Where a matrix is not finite, its
        estimate is not either, and its old block is kept.
    """
    lead = block.shape[:-2]
    start = block.reshape(-1, *block.shape[-2:])
    stacks = [matrix if matrix.ndim == 3 else matrix.reshape(-1, *matrix.shape[-2:])]
    now, image = start, images(start, stacks)
    for _ in range(iterations):
        now = advance(image, stacks)
        image = images(now, stacks)
    sigma, _ = ritz(image)
    return sigma.reshape(lead), kept(now, start, sigma).reshape(block.shape)


def images(block: Tensor, stacks: Sequence[Tensor]) -> list[Tensor]:
    """The products of vectors (matrices, k, n) with the matrices of stacks (b, m, n): (b, k, m) each.

    Rows, not columns: (k, n) × (n, m) is several times as fast as (m, n) × (n, k) in MKL where k is small.
    """
    parts = block.split([stack.shape[0] for stack in stacks])
    return [part @ stack.mT for part, stack in zip(parts, stacks, strict=True)]


def ritz(image: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Of the images of orthonormal vectors: σ₁ as far as they see it, and ‖image‖_F², (matrices,) each.

    σ₁ is the root of the largest Ritz value, a lower bound.
    """
    grams = [part @ part.mT for part in image]
    gram = torch.cat(grams) if len(grams) > 1 else grams[0]
    energy = _trace(gram)
    return _largest_eigenvalue(gram, energy).sqrt(), energy


def advance(image: Sequence[Tensor], stacks: Sequence[Tensor]) -> Tensor:
    """Orthonormal rows (matrices, k, n) that see σ₁ better than those whose `image` this is."""
    products = [part @ stack for part, stack in zip(image, stacks, strict=True)]
    block = torch.cat(products) if len(products) > 1 else products[0]
    return _orthonormal_rows(_unit(block) + _start_rows(block.shape[-1], block.dtype, block.device) * STIR)


def kept(block: Tensor, before: Tensor, sigma: Tensor) -> Tensor:
    """`block`, but that of before where a matrix was not finite, so that the next estimate is sound."""
    return torch.where(sigma.isfinite()[:, None, None], block, before)


def upper_bound(sigma: Tensor, energy: Tensor, frobenius: Tensor) -> Tensor:
    """σ₁ is at most this, (matrices,): never more than ‖·‖_F, and σ₁ itself where the rank is at most k.

    Args:
        sigma: from `ritz`, as `energy`.
        frobenius: ‖·‖_F of the matrices.

    With orthonormal rows V, the i-th Ritz value is at most σᵢ² (Cauchy's interlacing), so that
    σ₁² = ‖·‖_F² − Σ_{i>1} σᵢ² ≤ ‖·‖_F² − Σ_{i>1} θᵢ. Rows shorter than one leave it a bound.
    """
    square = frobenius.square()
    rest = (square - energy).clamp(min=0) + ROUNDING * square
    return torch.minimum((sigma.square() + rest).sqrt(), frobenius * (1 + ROUNDING))


def _unit(block: Tensor) -> Tensor:
    """Scaled to a Frobenius norm of one, so that no square overflows or vanishes; zeros stay zeros."""
    tiny = torch.finfo(block.dtype).tiny
    # First by the largest entry: the squares in a norm would overflow beyond 1e19.
    block = block / block.abs().amax((-2, -1), keepdim=True).clamp_(min=tiny)
    return block / torch.linalg.matrix_norm(block, keepdim=True).clamp_(min=tiny)


def _orthonormal_rows(block: Tensor) -> Tensor:
    """Cholesky QR of rows (…, k, n) of norm about one: products and k × k factors, no loop over rows.

    Twice: the first time rows that nearly depend on others come out too short (`JITTER`).
    """
    eye = _eye(block.shape[-2], block.dtype, block.device)
    for _ in range(2):
        # _ex: no check that would wait for the device
        factor = torch.linalg.cholesky_ex(torch.add(block @ block.mT, eye, alpha=JITTER)).L
        block = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False) @ block
    return block


@lru_cache(maxsize=16)
def _eye(k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.eye(k, dtype=dtype, device=device)


def _largest_eigenvalue(gram: Tensor, trace: Tensor) -> Tensor:
    """Of small positive semi-definite matrices (…, k, k); NaN where one is not finite."""
    if gram.device.type != "cpu":
        return _largest_by_powers(gram)  # eigvalsh would wait for the device
    finite = trace.isfinite()  # no entry off the diagonal exceeds those on it
    if not finite.all():
        gram = torch.where(finite[..., None, None], gram, 0.0)
    return torch.where(finite, torch.linalg.eigvalsh(gram)[..., -1].clamp(min=0), torch.nan)


def _largest_by_powers(gram: Tensor) -> Tensor:
    """The mean of the eigenvalues, weighted by their 4096th powers.

    Short by less than k/(4096·e) of the largest, which for k = 8 is 0.07 %, when they lie as unfavourably
    as they can.
    """
    tiny = torch.finfo(gram.dtype).tiny  # a matrix of zeros has the eigenvalue 0, not 0/0
    power = gram
    for _ in range(3):  # 16³ = 4096; scaled in between, so that nothing overflows or vanishes
        power = torch.linalg.matrix_power(power / _trace(power)[..., None, None].clamp(min=tiny), 16)
    weighted = (power * gram).sum((-2, -1))
    return weighted / _trace(power).clamp(min=tiny)


def _trace(square: Tensor) -> Tensor:
    return square.diagonal(dim1=-2, dim2=-1).sum(-1)
