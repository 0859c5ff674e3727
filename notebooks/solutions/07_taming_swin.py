"""Solutions of 07 · Taming Swin. Run it as it is, or paste each part into its cell."""

# --- Exercise 1 · Who sees whom in shifted windows -----------------------------------------------
# Counted from the first border, windows are blocks of `window` tokens; // rounds down below 0 as well, so
# that the tokens in front of the first border are a block of their own.


def my_sees(i, j, side, window, shift):
    """Whether tokens i and j of a row lie in one of the shifted windows."""
    return (i - shift) // window == (j - shift) // window


from course_lib.exercises import check_sees

print(check_sees(my_sees))

# --- Exercise 2 · Attention without its map ------------------------------------------------------
# First φ(K)ᵀV, d × d, and the sum of all φ(k); then both meet the queries.


def my_linear_attention(phi_q, phi_k, v):
    """phi_q, phi_k, v: (n, d), all at least 0. Returns (n, d)."""
    weights = phi_q @ phi_k.sum(0)
    return phi_q @ (phi_k.T @ v) / weights[:, None]


from course_lib.exercises import check_linear

print(check_linear(my_linear_attention))
