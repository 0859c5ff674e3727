"""Solutions of 08 · Rewind and rescue. Run it as it is, or paste each part into its cell."""

from course_lib.exercises import check_alarm, check_border, check_carriers
from course_lib.studies.results import read_results

# --- Exercise 1 · Find the border ----------------------------------------------------------------
# `low` is always saved and `high` never is. Halving what lies between them takes about log₂(steps) trials.


def last_saved(saves, steps):
    """The last step from which the cure saves the run, None if there is none."""
    if not saves(0):
        return None
    low, high = 0, steps
    while high - low > 1:
        middle = (low + high) // 2
        if saves(middle):
            low = middle
        else:
            high = middle
    return low


print(check_border(last_saved))

# --- Exercise 2 · Choose an alarm ----------------------------------------------------------------
# Scores, σ₁, SEC and low entropy come in runs that learn, too, only later. ρ does not, and it is there before
# the bound is too late. The rank of the map keeps still as well, but it falls a few steps after the border.

signals = read_results("signals")
copy = signals[signals["preset"] == "copy"]
unseen = copy[copy["seed"] > 2]

rescues = read_results("rescue")
saved = rescues[(rescues["preset"] == "copy") & (rescues["cure"] == "bound") & rescues["saved"]]

my_alarm = {"rho_applied": 1.0}
print(check_alarm(my_alarm, unseen, by=int(saved["step"].max())))

# --- Exercise 3 · Who carries the crash ----------------------------------------------------------
# a: bounded alone, W_q and W_k save every run of copy. c: put back at step 20, they save it too.
# f: embeddings shocked at ten times the rate: all runs of copy learn.
# b fails: shocked at the full rate those runs learn. d fails: with all but W_q and W_k put back they stay
# crashed. e fails: on live, W_q and W_k bounded alone stay above the bigram line.

supported = {"a", "c", "f"}
print(check_carriers(supported))
