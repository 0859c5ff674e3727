"""Spectra: the singular values of W_qᵀW_k, and σ₁ of any matrix."""

import torch
from torch import Tensor

SEC_DIRECTIONS = 4
"""s of the recorded SEC(s)."""


def split_head_rows(weight: Tensor, heads: int) -> Tensor:
    """Split a projection's weight (d_model, d_model) into one W per head: (heads, head_dim, d_model)."""
    return weight.unflatten(0, (heads, weight.shape[0] // heads))


def qk_singular_values(w_q: Tensor, w_k: Tensor) -> Tensor:
    """Singular values of W_qᵀW_k, in descending order, from its thin factors.

    With W_qᵀ = Q_q R_q and W_kᵀ = Q_k R_k the product is Q_q (R_q R_kᵀ) Q_kᵀ. Its singular values are those
    of the small R_q R_kᵀ, so the (d_model, d_model) product is never formed.

    Args:
        w_q, w_k: (…, head_dim, d_model).

    Returns:
        (…, min(head_dim, d_model)); NaN if a weight is not finite.
    """
    finite = (w_q.isfinite() & w_k.isfinite()).all(-1).all(-1)
    keep = finite[..., None, None]
    r_q = torch.linalg.qr(torch.where(keep, w_q, 0.0).float().mT, mode="r").R
    r_k = torch.linalg.qr(torch.where(keep, w_k, 0.0).float().mT, mode="r").R
    product = r_q @ r_k.mT  # can overflow for weights that are just finite
    finite = product.isfinite().all(-1).all(-1)[..., None] & finite[..., None]
    values = torch.linalg.svdvals(torch.where(finite[..., None], product, 0.0))
    return torch.where(finite, values, torch.nan)


def spectral_energy_concentration(singular_values: Tensor, s: int) -> Tensor:
    """SEC(s) = Σ_{i≤s} σᵢ² / Σ σᵢ², (…, n) → (…): 1 if s directions hold all spectral energy."""
    energy = singular_values.square()
    return energy[..., :s].sum(-1) / energy.sum(-1)


def stable_rank(singular_values: Tensor) -> Tensor:
    """‖·‖_F²/σ₁² = 1/SEC(1), (…, n) → (…)."""
    return 1 / spectral_energy_concentration(singular_values, 1)


def sigma_max(matrices: Tensor) -> Tensor:
    """σ₁ of each matrix, (…, m, n) → (…), from the eigenvalues of the smaller Gram matrix.

    The largest eigenvalue is accurate to fp32's rounding. NaN for matrices whose squares are not finite.
    """
    matrices = matrices.float()
    gram = matrices @ matrices.mT if matrices.shape[-2] <= matrices.shape[-1] else matrices.mT @ matrices
    size = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    finite = size.isfinite()
    safe = torch.where(finite[..., None, None], gram, 0.0)
    # A step may have rows of 1e-20 beside rows of 1e-3. LAPACK finds no eigenvalues of such a Gram matrix,
    # unless a term of the size of fp32's rounding is added to its diagonal.
    floor = torch.finfo(gram.dtype).eps * torch.where(finite, size, 0.0)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    largest = torch.linalg.eigvalsh(safe + floor[..., None, None] * eye)[..., -1] - floor
    return torch.where(finite, largest.clamp(min=0).sqrt(), torch.nan)
