"""Peak memory of the first three steps of a preset of a paper's size, on this machine's CPU.

    python bench/run_memory.py [--preset gpt2-124m]

A process of its own makes the steps, and is asked for the most that it held. Exit status 1: more than
`LIMIT`, or a loss that is not finite.
"""

import argparse
import math
import resource
import subprocess
import sys

from course_lib import Run, preset

LIMIT = 8e9
"""Bytes: what a run of GPT-2's size may take where it is trained on a reader's machine."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="gpt2-124m")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.measure:
        return subprocess.run([sys.executable, __file__, "--measure", *sys.argv[1:]]).returncode
    run = Run(preset(options.preset))
    losses = [run.step().loss for _ in range(3)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(
        f"{options.preset}: losses {', '.join(f'{loss:.3f}' for loss in losses)}; {peak / 1e9:.1f} GB at most"
    )
    return int(peak > LIMIT or not all(map(math.isfinite, losses)))


if __name__ == "__main__":
    sys.exit(main())
