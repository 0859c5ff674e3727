"""A lower bound of attention entropy, from the largest distance between scores.

Zhai et al. prove a bound of this kind (σReparam, arXiv 2303.06296). Notebook 03 derives this one.
"""

import math

import torch
from torch import Tensor


def entropy_floor(gap: Tensor, keys: Tensor) -> Tensor:
    """The least entropy H of softmax over n scores that differ by at most `gap`.

    The row of least entropy has k scores at the top and the others `gap` below. With w = e^−gap and
    Z = k + (n − k)w its entropy is log Z + gap·(n − k)w/Z nats. The result is the least of these over k from
    1 to n − 1, divided by log n.

    Args:
        gap: (…), in natural-log units, at least 0.
        keys: n, the number of keys that the query sees, broadcastable with `gap`.

    Returns:
        (…), between 0 and 1; NaN for queries that see a single key.
    """
    n = keys.to(gap.dtype)[..., None]
    k = torch.arange(1, max(2, int(keys.max())), dtype=gap.dtype, device=gap.device)
    w = torch.exp(-gap)[..., None]
    z = k + (n - k) * w
    entropy = z.log() + gap[..., None] * (n - k) * w / z
    least = torch.where(k < n, entropy, torch.inf).amin(-1)
    return torch.where(keys > 1, least / keys.clamp(min=2).log(), torch.nan)


def score_gap_limit(sigma: Tensor, tokens: Tensor, head_dim: int) -> Tensor:
    """Largest distance between a causal query's scores: σ₁(W_qᵀW_k)·‖x_i‖·max‖x_j − x_l‖/√head_dim.

    Args:
        sigma: σ₁(W_qᵀW_k), (heads,).
        tokens: attention's input, (batch, tokens, d_model).
        head_dim: width of a head; scores are divided by its root.

    Returns:
        (batch, heads, queries); the maximum is over the keys j and l that query i sees.
    """
    apart = torch.cdist(tokens, tokens)
    # The widest pair among the first i tokens is the maximum of the leading i × i corner.
    widest = apart.cummax(-1).values.cummax(-2).values.diagonal(dim1=-2, dim2=-1)
    reach = tokens.norm(dim=-1) * widest / math.sqrt(head_dim)
    return sigma[:, None] * reach[:, None, :]
