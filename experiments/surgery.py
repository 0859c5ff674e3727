"""Where does the crash live? One parameter group shocked or shielded at a time.

    python experiments/surgery.py --out experiments/records/surgery.csv            # hours on one core
    python experiments/surgery.py --preset copy --seeds 0 1 --out surgery.csv    # some minutes

Shock: all groups are warmed up over 100 steps but one, which starts at 1, 3 or 10 times the full learning
rate. Shield: no group is warmed up, and the steps of some are bounded (τ = 0.05). Every run is a row of the
file, written as soon as it is done; what the file has already is not made again. Notebook 08 reads it.
"""

import argparse
from functools import partial
from pathlib import Path

from rows import fill, run_row

from course_lib import RunConfig, preset
from course_lib.models import BLOCK_GROUPS, GROUPS
from course_lib.studies import Cure
from course_lib.studies.surgery import TAU, operate

WARMUP = 100
LATE = 20
PRESETS = ("copy", "live")
MATRICES = tuple(group for group in GROUPS if group != "norm")


def arms(name: str) -> dict[str, RunConfig]:
    """Arm → its config."""
    healthy, sick = preset(name, warmup=WARMUP), preset(name)
    made = {"warmup on everything": healthy, "no warmup at all": sick}
    made |= {
        f"shock {group} × {factor}": operate(healthy, shock=group, lr_multiplier=factor)
        for factor in (1, 3, 10)
        for group in GROUPS
    }
    made |= {f"shield {group}": operate(sick, shield=group) for group in MATRICES}
    made["shield the blocks"] = operate(sick, shield=BLOCK_GROUPS)
    for group in BLOCK_GROUPS:
        others = [g for g in BLOCK_GROUPS if g != group]
        made[f"shield the blocks but {group}"] = operate(sick, shield=others)
    return made


def cures() -> dict[str, Cure]:
    """Arm → what is done to the crashing run after `LATE` steps."""
    parts = {"nothing": (), **{group: (group,) for group in GROUPS}, "the blocks": BLOCK_GROUPS}
    parts["all but qk"] = tuple(group for group in GROUPS if group != "qk")
    return {f"put back {name}": Cure(tau=TAU, put_back=groups) for name, groups in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, nargs="+", default=PRESETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", help="only these (default: all)")
    parser.add_argument("--limit", type=int, help="make so many runs at most, the rest in a later call")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write or to complete")
    options = parser.parse_args()
    plan = {
        (name, arm, seed): partial(run_row, config, seed)
        for name in options.preset
        for seed in options.seeds
        for arm, config in arms(name).items()
    }
    plan |= {
        (name, arm, seed): partial(run_row, preset(name), seed, LATE, cure)
        for name in options.preset
        for seed in options.seeds
        for arm, cure in cures().items()
    }
    plan = {item: make for item, make in plan.items() if options.arms is None or item[1] in options.arms}
    fill(options.out, "surgery.py", ("preset", "arm", "seed"), plan, options.limit)


if __name__ == "__main__":
    main()
