"""Under torchrun: the command line, but the second process fails after some steps."""

import os
import sys

from course_lib.__main__ import main
from course_lib.runs.run import Run

GOOD_STEPS = 7
step = Run.step


def failing(run: Run):
    if os.environ["RANK"] == "1" and run.updates == GOOD_STEPS:
        raise RuntimeError("the lights went out\nand nobody saw it")
    return step(run)


Run.step = failing
sys.exit(main(sys.argv[1:]))
