"""How late can a crashing run be cured? Several cures, begun at several steps, over seeds.

    python experiments/rescue.py --out experiments/records/rescue.csv             # hours on one core
    python experiments/rescue.py --preset copy --seeds 0 --out rescue.csv       # some minutes

First the steps of `FIRST` are tried, whatever their outcome, so that one sees whether outcomes are in order;
then bisection looks for the border between them. `given a whole run` is a fork that makes as many steps as a
run from the start, along the whole schedule anew. Every row is a fork, with the crash's own loss beside it.
Notebook 08 reads the file.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from rows import fill

from course_lib import preset
from course_lib.studies import Cure, Rescue

FIRST = (0, 1, 2, 5, 20, 100)
PRESETS = ("copy", "live")
CURES: dict[str, tuple[Cure, bool]] = {
    "τ = 0.05": (Cure(tau=0.05), False),
    "τ = 0.05, given a whole run": (Cure(tau=0.05), True),
    "lr × 0.1": (Cure(lr_factor=0.1), False),
    "warmup of 100": (Cure(warmup=100), False),
    "τ = 0.05, W_q and W_k put back": (Cure(tau=0.05, put_back=("qk",)), False),
}


def rows(name: str, cure: str, seed: int) -> list[dict[str, Any]]:
    config = preset(name, seed=seed, device="cpu", probe_every=0)
    how, more_time = CURES[cure]
    search = Rescue(config, how, first_tries=FIRST, more_time=more_time).finish()
    assert search.crash is not None
    table = search.to_frame().assign(ordered=search.ordered, crash_loss=search.crash.loss)
    return table.drop(columns="verdict").round(4).to_dict("records")  # without probes it is stalled or not


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, nargs="+", default=PRESETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--cures", choices=CURES, nargs="+", default=list(CURES))
    parser.add_argument("--limit", type=int, help="make so many searches at most, the rest in a later call")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write or to complete")
    options = parser.parse_args()
    plan = {
        (name, cure, seed): partial(rows, name, cure, seed)
        for seed in options.seeds
        for name in options.preset
        for cure in options.cures
    }
    fill(options.out, "rescue.py", ("preset", "cure", "seed"), plan, options.limit)


if __name__ == "__main__":
    main()
