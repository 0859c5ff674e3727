"""Solutions of 05 · Taming GPT. Run it in the folder of the notebooks, or paste each part into its cell."""

import math

import numpy as np

from course_lib.exercises import check_lr_sensitivity, check_steps_to_grow, check_taming_claims

# --- Exercise 1 · Sensitivity to the learning rate ------------------------------------------------


def my_sensitivity(losses, initial):
    """losses: one per learning rate; initial: the untrained model's. Returns a number ≥ 0."""
    capped = np.fmin(losses, initial)  # fmin prefers a number to a NaN, so that NaN counts as initial
    return capped.mean() - capped.min()


print(check_lr_sensitivity(my_sensitivity))

# --- Exercise 2 · Steps to grow -------------------------------------------------------------------


def my_steps(factor, tau):
    """The fewest steps, a whole number."""
    return math.ceil(math.log(factor) / math.log(1 + tau))


print(check_steps_to_grow(my_steps))

# --- Exercise 3 · What do the records support? ----------------------------------------------------

supported = {"a", "c"}

print(check_taming_claims(supported))
