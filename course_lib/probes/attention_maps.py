"""What an attention map shows: entropy, effective rank, the largest score."""

from functools import lru_cache

import torch
from torch import Tensor


def entropy(attention: Tensor, visible: Tensor) -> Tensor:
    """Normalised attention entropy per query: of weights that are a distribution, which not all kinds are.

    Softmax, uniform and focused linear attention give each query weights of at least 0 with sum 1. Those of a
    sigmoid and of ReLU² have a sum of their own, which is part of what they say, and which may be 0; those of
    identity (z/n) can be negative: none of the three has an entropy.

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


FEW_KEYS = 0.25
"""Share of the largest rank there could be that a map without a causal mask is compared with."""


def reference_rank(tokens: int, causal: bool, thin: int | None = None) -> float:
    """The effective rank that an attention map of a model is quoted against.

    Causal: that of uniform attention, which the mask alone makes 0.42 (32 tokens) to 0.33 (64) of full.
    Not causal: a quarter (`FEW_KEYS`) of full. Uniform attention is no measure there: its map has the least
    rank that a map can have, 1. What the number means: the rank of a sharp map is about the number of
    different keys that its queries choose, all tokens if each chooses its own, 1 if all choose the same.

    Args:
        tokens: that attention looks at; in windows, those of a window.
        causal: whether a query sees only what came before.
        thin: width of the factors of a map that is a product of two, as in linear attention, which is all
            the rank it can have; None for no such limit.
    """
    if causal:
        return uniform_rank(tokens)
    return FEW_KEYS * min(tokens, tokens if thin is None else thin)


def max_logit(logits: Tensor, visible: Tensor) -> Tensor:
    """Largest score over the visible keys, (…, queries, keys) → (…)."""
    return logits.masked_fill(~visible, -torch.inf).amax((-2, -1))
