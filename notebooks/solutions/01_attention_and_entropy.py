"""Solutions of 01 · Attention and entropy. Run it as it is, or paste each part into its cell."""

import numpy as np

# --- Exercise 1 · Softmax ------------------------------------------------------------------------
# The weights stay the same if all scores move by the same amount. With the largest at 0, exp cannot overflow.


def my_softmax(logits, temperature):
    """logits: one score per key. Returns one weight per key."""
    scaled = np.asarray(logits) / temperature
    weights = np.exp(scaled - scaled.max())
    return weights / weights.sum()


from course_lib.exercises import check_softmax

print(check_softmax(my_softmax))

# --- Exercise 2 · Entropy ------------------------------------------------------------------------
# 0 · log 0 counts as 0, so zeros can be left out. They include the keys that the query may not see.


def my_entropy(row, visible):
    """H between 0 and 1. Mind the zeros."""
    row = np.asarray(row)
    seen = row[row > 0]
    return -(seen * np.log(seen)).sum() / np.log(visible)


from course_lib.exercises import check_entropy

print(check_entropy(my_entropy))

# --- Exercise 3 · Effective rank -----------------------------------------------------------------
# The same zeros, and no division by a log: exp turns the entropy into a number of directions.


def my_rank(matrix):
    """exp of the entropy of the singular values' shares."""
    sigma = np.linalg.svd(np.asarray(matrix), compute_uv=False)
    p = sigma / sigma.sum()
    p = p[p > 1e-12]
    return np.exp(-(p * np.log(p)).sum())


from course_lib.exercises import check_effective_rank

print(check_effective_rank(my_rank))

# --- Exercise 4 · Two sharp maps -----------------------------------------------------------------
# Malignant: odd queries crowd on one key, even ones on another, so the map has two directions at most.
# Benign: each query looks one place back, at a key that hardly anybody else looks at.

query = np.arange(16)
malignant = np.eye(16)[np.where(query % 2, 1, 0)]
benign = np.eye(16)[np.maximum(query - 1, 0)]

from course_lib.exercises import check_two_maps

print(check_two_maps((malignant, benign)))
