"""Measures of where attention looks: entropy and rank, favourite keys, overlap between pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from course_lib.probes import attention_rank, entropy, uniform_rank
from course_lib.runs.verdict import LOW_ENTROPY, LOW_RANK

EQUAL_ENTROPY = 0.05
"""Sharp maps whose entropies differ by no more than this are called equally sharp."""
FAR_RANKS = 1.5
"""Ranks are called far apart if the highest is at least this many times the lowest."""


def map_place(attention: Tensor) -> tuple[float, float]:
    """Mean entropy H of a causal map (tokens, tokens), and its rank as a multiple of uniform's."""
    tokens = attention.shape[-1]
    visible = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    h = entropy(attention, visible).nanmean().item()
    return h, attention_rank(attention).item() / uniform_rank(tokens)


def ranks_apart(places: Sequence[tuple[float, float]]) -> bool:
    """True if (entropy, rank) pairs are equally sharp, with ranks far apart on both sides of uniform's."""
    if len(places) < 2:
        return False
    h, ranks = zip(*places, strict=True)
    equally_sharp = max(h) < LOW_ENTROPY and max(h) - min(h) <= EQUAL_ENTROPY
    return equally_sharp and min(ranks) < LOW_RANK < max(ranks) and max(ranks) >= FAR_RANKS * min(ranks)


def looked_at(attention: Tensor) -> Tensor:
    """Each token's share of attention, mean over heads and queries: (…, heads, queries, keys) → (…, keys)."""
    return attention.mean((1, 2))


def favourites(attention: Tensor) -> float:
    """Number of keys with the largest weight of some query, mean over images and heads."""
    chosen = attention.argmax(-1).flatten(0, 1)
    return float(np.mean([len(head.unique()) for head in chosen]))


def same_for_all(attention: Tensor) -> float:
    """Overlap Σ min(a, b) of two images' shares of attention, mean over pairs of images.

    It is 1 if attention does not depend on the picture.
    """
    shares = looked_at(attention)
    pairs = torch.combinations(torch.arange(len(shares)))
    return float(torch.minimum(shares[pairs[:, 0]], shares[pairs[:, 1]]).sum(-1).mean())
