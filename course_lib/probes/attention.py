"""What an attention map shows: entropy, effective rank, the largest score."""

from functools import lru_cache

import torch
from torch import Tensor


def entropy(attention: Tensor, visible: Tensor) -> Tensor:
    """Normalised attention entropy per query.

    H = −Σ A log A, divided by log(number of visible keys): 1 for a uniform row, 0 for a one-hot row.

    Args:
        attention: (…, queries, keys), rows that sum to one.
        visible: bool (queries, keys), which keys a query sees.

    Returns:
        (…, queries), NaN for queries that see a single key: they have no choice to make.
    """
    h = torch.special.entr(attention).sum(-1)
    seen = visible.sum(-1)
    return torch.where(seen > 1, h / seen.clamp(min=2).log(), torch.nan)


def effective_rank(singular_values: Tensor) -> Tensor:
    """exp of the entropy of σ/Σσ (Roy & Vetterli 2007): (…, n) → (…). No threshold to choose.

    A matrix of zeros has rank 0.
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
    """Effective rank of uniform attention over `queries` tokens, the scale for all other maps.

    About 0.42 of the queries at 32 and 0.33 at 64 for causal attention; 1 where all see all.
    """
    rows = torch.ones(queries, queries, dtype=torch.float64)
    rows = rows.tril() if causal else rows
    return effective_rank(torch.linalg.svdvals(rows / rows.sum(-1, keepdim=True))).item()


def max_logit(logits: Tensor, visible: Tensor) -> Tensor:
    """Largest score over the visible keys, (…, queries, keys) → (…)."""
    return logits.masked_fill(~visible, -torch.inf).amax((-2, -1))
