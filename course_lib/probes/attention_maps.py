"""Measures of an attention map: entropy, effective rank, the largest score."""

from functools import lru_cache

import torch
from torch import Tensor


def entropy(attention: Tensor, visible: Tensor) -> Tensor:
    """Normalised attention entropy per query, for weights that are a distribution.

    H = −Σ A log A, divided by log(number of visible keys): 1 for a uniform row, 0 for a one-hot row.
    Softmax, uniform and focused linear attention give each query weights of at least 0 with sum 1. Sigmoid
    and ReLU² do not fix the sum, and identity (z/n) allows negative weights: these three have no entropy.

    Args:
        attention: (…, queries, keys), rows that sum to one.
        visible: bool (queries, keys), which keys a query sees.

    Returns:
        (…, queries), NaN for queries that see a single key.
    """
    h = torch.special.entr(attention).sum(-1)
    seen = visible.sum(-1)
    return torch.where(seen > 1, h / seen.clamp(min=2).log(), torch.nan)


def effective_rank(singular_values: Tensor) -> Tensor:
    """exp of the entropy of σ/Σσ (Roy & Vetterli 2007): (…, n) → (…); 0 for a matrix of zeros.

    Unlike a count of large singular values, it needs no threshold.
    """
    total = singular_values.sum(-1, keepdim=True)
    p = singular_values / torch.where(total == 0, 1, total)
    return torch.where(total[..., 0] == 0, 0.0, torch.special.entr(p).sum(-1).exp())


def attention_rank(attention: Tensor) -> Tensor:
    """Effective rank of attention maps, (…, queries, keys) → (…); NaN where a map is not finite."""
    finite = attention.isfinite().all(-1).all(-1)
    safe = torch.where(finite[..., None, None], attention, 0.0)
    return torch.where(finite, effective_rank(torch.linalg.svdvals(safe)), torch.nan)


@lru_cache
def uniform_rank(queries: int, causal: bool = True) -> float:
    """Effective rank of uniform attention over `queries` tokens.

    Causal: about 0.42 of the number of queries at 32 and 0.33 at 64. Not causal: 1.
    """
    rows = torch.ones(queries, queries, dtype=torch.float64).tril(0 if causal else queries)
    return effective_rank(torch.linalg.svdvals(rows / rows.sum(-1, keepdim=True))).item()


FEW_KEYS = 0.25
"""Share of the largest possible rank that a map without a causal mask is compared with."""


def reference_rank(tokens: int, causal: bool, thin: int | None = None) -> float:
    """Effective rank with which a model's attention maps are compared.

    Causal: the rank of uniform attention (`uniform_rank`). Not causal: a quarter (`FEW_KEYS`) of the largest
    possible rank, since uniform attention has the least possible rank there, 1. The rank of a sharp map is
    about the number of different keys that its queries choose: `tokens` if each query chooses its own key, 1
    if all choose the same key.

    Args:
        tokens: number of tokens that attention looks at; for windows, the tokens of one window.
        causal: whether a query sees only itself and earlier tokens.
        thin: largest possible rank of a map that is a product of two thin factors (linear attention), which
            is the factors' width; None for no such limit.
    """
    if causal:
        return uniform_rank(tokens)
    return FEW_KEYS * min(tokens, tokens if thin is None else thin)


def max_logit(logits: Tensor, visible: Tensor) -> Tensor:
    """Largest score over the visible keys, (…, queries, keys) → (…)."""
    return logits.masked_fill(~visible, -torch.inf).amax((-2, -1))
