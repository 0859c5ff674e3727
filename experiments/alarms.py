"""What the probes saw, and when: the signals of crashing and of learning runs over seeds.

    python experiments/alarms.py --out experiments/records/signals.csv    # about eight minutes on one core

Three arms (AdamW without warmup, with warmup, AdamW²) of copy and of live, probed at every one of the first
60 steps and at every tenth from there on. Four digits are kept. Notebook 08 reads the file.
"""

import argparse
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rows import fill

from course_lib import Run, preset
from course_lib.studies.alarms import signals_of
from course_lib.studies.compare_arms import DEFAULT_ARMS, arm_config

EARLY = 60
PRESETS = ("copy", "live")


def rows(name: str, arm: str, seed: int) -> list[dict[str, Any]]:
    run = Run(arm_config(preset(name, seed=seed, device="cpu", probe_every=1), arm))
    for _ in islice(run, EARLY):
        pass
    run = run.fork(probe_every=10)
    for _ in run:
        pass
    table = signals_of({(arm, seed): run}).drop(columns=["arm", "seed", "rank"])
    numbers = table.columns.drop(["step", "learnt"])
    table[numbers] = table[numbers].map(lambda value: float(f"{value:.4g}"))
    return table.to_dict("records")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, nargs="+", default=PRESETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write or to complete")
    options = parser.parse_args()
    plan = {
        (name, arm, seed): partial(rows, name, arm, seed)
        for name in options.preset
        for seed in options.seeds
        for arm in DEFAULT_ARMS
    }
    fill(options.out, "warning.py", ("preset", "arm", "seed"), plan)


if __name__ == "__main__":
    main()
