"""Seconds and peak memory of every notebook: each run from top to bottom in a kernel of its own.

    python bench/notebooks.py
    python bench/notebooks.py notebooks/01_attention_and_entropy.ipynb

Budget: 60 seconds and 1,000 MB each, 600 seconds for the whole course, on two cores. Memory is the kernel's
resident set (with the processes that it starts, shared pages once), its peak sampled every 50 ms; seconds
include its start. Exits with 1 if a notebook fails
or the budget is exceeded. --slack multiplies the seconds (not the memory) for a machine that others use too;
--kept takes the executions of build/notebooks that still hold.
"""

import argparse
import sys
from pathlib import Path

import psutil
import torch

from book.execute import course, executed

SECONDS = 60
COURSE_SECONDS = 600
MEGABYTES = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of the course")
    parser.add_argument("--kept", action="store_true", help="take executions that were kept and still hold")
    parser.add_argument("--slack", type=float, default=1.0, help="factor on the budget of seconds")
    options = parser.parse_args()
    cores = len(psutil.Process().cpu_affinity() or []) if hasattr(psutil.Process, "cpu_affinity") else "?"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {cores} cores")
    print(f"{'notebook':28} {'seconds':>8} {'peak MB':>8}")
    bad, total, most = False, 0.0, 0.0
    for path in options.notebooks or course():
        it = executed(path.resolve(), again=not options.kept)
        over = "" if it.seconds <= options.slack * SECONDS and it.megabytes <= MEGABYTES else "over budget"
        print(f"{path.stem:28} {it.seconds:8.1f} {it.megabytes:8.0f}  {it.problem or over}", flush=True)
        bad |= bool(it.problem or over)
        total, most = total + it.seconds, max(most, it.megabytes)
    over = "" if total <= options.slack * COURSE_SECONDS else "over budget"
    print(f"{'all':28} {total:8.1f} {most:8.0f}  {over}")
    return int(bad or bool(over))


if __name__ == "__main__":
    sys.exit(main())
