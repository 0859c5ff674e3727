"""Solutions of 06 · Taming ViT. Run it as it is, or paste each part into its cell."""

import numpy as np

# --- Exercise 1 · Where the class token looks ----------------------------------------------------
# A query's weights are a row; the class token is row 0. Its own key, 0, has no place in the picture.


def my_patch_map(attention):
    """attention: (heads, tokens, tokens), the class token first. Returns (side, side), sum 1."""
    row = attention.mean(0)[0, 1:]
    side = round(len(row) ** 0.5)
    return (row / row.sum()).reshape(side, side)


from course_lib.exercises import check_patch_map

print(check_patch_map(my_patch_map))

# --- Exercise 2 · Tamed, by a fair comparison ----------------------------------------------------
# Means over the seeds on both sides, the rival at its own best learning rate, one point of slack.


def my_tamed(ours, rival):
    """ours: accuracies by seed; rival: learning rate → accuracies by seed. Returns True or False."""
    best = max(np.mean(values) for values in rival.values())
    return np.mean(ours) >= best - 0.01


from course_lib.exercises import check_tamed

print(check_tamed(my_tamed))
