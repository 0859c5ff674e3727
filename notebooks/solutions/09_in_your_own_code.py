"""Solutions of 09 · In your own code. Run it in the notebooks' folder, or paste each part into its cell."""

import torch

from course_lib.exercises import check_first_aid, check_share_cut, check_sites
from course_lib.probes import AttentionSite

# --- Exercise 1 · The share that was cut ----------------------------------------------------------


def my_share(last_step):
    """last_step: name → report. Returns the share of the matrices that were cut."""
    return torch.cat([report.cut.flatten() for report in last_step.values()]).float().mean()


print(check_share_cut(my_share))

# --- Exercise 2 · Where attention is --------------------------------------------------------------


def stranger_site(layer):
    """Queries and keys come out of one module, which also makes the values."""
    qkv = f"stack.{layer}.qkv"
    return AttentionSite(qkv, qkv, f"{qkv}.weight", f"{qkv}.weight", heads=6, fused=3)


my_sites = [stranger_site(0), stranger_site(1)]

print(check_sites(my_sites))

# --- Exercise 3 · First aid -----------------------------------------------------------------------

remedies = {"A": "bound the steps", "B": "raise tau", "C": "leave it alone", "D": "look elsewhere"}

print(check_first_aid(remedies))
