"""Solutions of 02 · Watch it crash. Run it as it is, or paste each part into its cell."""

from course_lib.runs.verdict import LOW_ENTROPY, LOW_RANK

# --- Exercise 1 · A rule for verdicts ------------------------------------------------------------
# The loss comes first: a run that has learnt may be as sharp as it likes. Rank counts beside low entropy.


def my_verdict(learnt, entropy, rank):
    """One of the four words, for a run with one layer."""
    sharp = entropy < LOW_ENTROPY
    if learnt:
        return "benign collapse" if sharp else "healthy"
    return "malignant collapse" if sharp and rank < LOW_RANK else "stalled"


from course_lib.exercises import check_rule

print(check_rule(my_verdict))

# --- Exercise 2 · A control of your own ----------------------------------------------------------
# Everything is warmed up, as in the run to compare with, except the one group that is on trial.

settings = {"warmup": 100, "groups": {"mlp": {"warmup": 0}}}

from course_lib.exercises import check_control

print(check_control(settings))

# --- Exercise 3 · What does the table support? ---------------------------------------------------
# b: warm up W_q and W_k alone, and the run ends as badly as without any warmup. c: QK-norm does not save a
# run without warmup. e: on copy and recall the same shock keeps no run from its task.

supported = {"a", "d", "f"}

from course_lib.exercises import check_claims

print(check_claims(supported))
