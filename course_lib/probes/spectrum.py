"""The spectrum of W_qᵀW_k, and how large a step is beside its matrix."""

import torch
from torch import Tensor

SEC_DIRECTIONS = 4
"""s in SEC(s): the share of the spectral energy in the first s directions that the recorder keeps."""


def split_head_rows(weight: Tensor, heads: int) -> Tensor:
    """A projection's weight (d_model, d_model) as one W per head: (heads, head_dim, d_model)."""
    return weight.unflatten(0, (heads, weight.shape[0] // heads))


def qk_singular_values(w_q: Tensor, w_k: Tensor) -> Tensor:
    """Singular values of W_qᵀW_k, in descending order, from its thin factors.

    With W_qᵀ = Q_q R_q and W_kᵀ = Q_k R_k the product is Q_q (R_q R_kᵀ) Q_kᵀ, so the singular values are
    those of the small matrix in the middle: the (d_model, d_model) product, of rank head_dim at most, is
    never formed.

    Args:
        w_q, w_k: (…, head_dim, d_model).

    Returns:
        (…, min(head_dim, d_model)); NaN where a weight is not finite.
    """
    finite = (w_q.isfinite() & w_k.isfinite()).all(-1).all(-1)
    keep = finite[..., None, None]
    r_q = torch.linalg.qr(torch.where(keep, w_q, 0.0).float().mT, mode="r").R
    r_k = torch.linalg.qr(torch.where(keep, w_k, 0.0).float().mT, mode="r").R
    product = r_q @ r_k.mT  # of weights that are only just finite it is not
    finite = product.isfinite().all(-1).all(-1)[..., None] & finite[..., None]
    values = torch.linalg.svdvals(torch.where(finite[..., None], product, 0.0))
    return torch.where(finite, values, torch.nan)


def spectral_energy_concentration(singular_values: Tensor, s: int) -> Tensor:
    """SEC(s) = Σ_{i≤s} σᵢ² / Σ σᵢ², (…, n) → (…): 1 if s directions hold everything."""
    energy = singular_values.square()
    return energy[..., :s].sum(-1) / energy.sum(-1)


def stable_rank(singular_values: Tensor) -> Tensor:
    """‖·‖_F²/σ₁² = 1/SEC(1), (…, n) → (…)."""
    return 1 / spectral_energy_concentration(singular_values, 1)


def sigma_max(matrices: Tensor) -> Tensor:
    """σ₁ of each matrix, (…, m, n) → (…), exact: from the eigenvalues of the smaller Gram matrix.

    Relative error about 1e-3 of fp32's at worst, since only the largest value is asked for; NaN for
    matrices that are not finite, or so large that their squares are not.
    """
    matrices = matrices.float()
    gram = matrices @ matrices.mT if matrices.shape[-2] <= matrices.shape[-1] else matrices.mT @ matrices
    size = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    finite = size.isfinite()
    safe = torch.where(finite[..., None, None], gram, 0.0)
    # A step may hold rows of 1e-20 beside others of 1e-3. With their squares alone on the diagonal LAPACK
    # finds no eigenvalues; with as much as fp32 rounds off added to each it does.
    floor = torch.finfo(gram.dtype).eps * torch.where(finite, size, 0.0)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    largest = torch.linalg.eigvalsh(safe + floor[..., None, None] * eye)[..., -1] - floor
    return torch.where(finite, largest.clamp(min=0).sqrt(), torch.nan)
