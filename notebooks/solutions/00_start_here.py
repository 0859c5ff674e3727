"""Solutions of 00 · Start here. Run it in the folder of the notebooks, or paste each part into its cell."""

# --- Exercise 1 · Give the verdict ---------------------------------------------------------------
# First the loss: A and C are far below the reference, B and D above it. Then the entropy: A and B are sharp.
# Then the rank: B's is below uniform attention's, which makes it malignant.

answers = {"A": "benign collapse", "B": "malignant collapse", "C": "healthy", "D": "stalled"}

from course_lib.exercises import check_verdicts

print(check_verdicts(answers))

# --- Exercise 2 · Write a warmup -----------------------------------------------------------------
# Step 0 is the first of the warmup, and already moves something: hence the + 1.


def warmup_factor(step, warmup):
    """1/warmup at step 0, growing along a straight line to 1 at step warmup − 1, and 1 from there on."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


from course_lib.exercises import check_warmup

print(check_warmup(warmup_factor))
