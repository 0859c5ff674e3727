"""Solutions of notebook 03. Run from top to bottom, it passes every checker of the notebook."""

import numpy as np

from course_lib.exercises import check_floor, check_product_gradient, check_sec

# Exercise 1 · Spectral energy


def my_sec(sigma, s):
    """The share of the energy in the s strongest directions; sigma may come in any order."""
    energy = np.sort(sigma)[::-1] ** 2
    return energy[:s].sum() / energy.sum()


result = check_sec(my_sec)
print(result)
assert result.passed

# Exercise 2 · A gradient


def my_gradient(x, g):
    """dP = xᵀ dM x, so dL = Σ g · dP = Σ (x g xᵀ) · dM."""
    return x @ g @ x.T


result = check_product_gradient(my_gradient)
print(result)
assert result.passed

# Exercise 3 · The least entropy of a row


def my_floor(gap, n):
    """The least H, divided by log n, of n scores that lie no more than `gap` apart."""
    k = np.arange(1, n)
    w = np.exp(-gap)
    z = k + (n - k) * w
    return (np.log(z) + gap * (n - k) * w / z).min() / np.log(n)


result = check_floor(my_floor)
print(result)
assert result.passed
