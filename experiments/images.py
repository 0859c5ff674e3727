"""Arms × learning rates × seeds of an image preset: the tables of the README and of notebooks 06 and 07.

    python experiments/images.py vit --lrs 3e-3 1e-2 --seeds 0 1 2
    python experiments/images.py vit --steps 100 --out runs/short.jsonl    # any field of RunConfig

Each run is a line of experiments/records/images.jsonl, with the config that makes it again as far as it
differs from RunConfig's defaults.
"""

from functools import partial

import pandas as pd
from command import parser

from course_lib import RunConfig, preset
from course_lib.cli.options import add_config_options, given, whole
from course_lib.studies.arms import DEFAULT_ARMS, WARMUP, arm_config
from course_lib.studies.compare_arms import compare
from course_lib.studies.results import Row, Work, fill, rooms_of

COLUMNS = ("lr", "warmup", "seed")
"""Fields of the config that have a column of their own, too."""
KEY = ("preset", "arm", *COLUMNS, "config")
OUTCOME = ("final_val_accuracy", "final_val_loss", "verdict", "learnt", "first_collapse_step", "seconds")


def identity(name: str, arm: str, config: RunConfig) -> tuple[object, ...]:
    """The values of `KEY`, which tell a run from others and make it again."""
    plain, defaults = config.to_dict(), RunConfig().to_dict()
    own = {field: value for field, value in plain.items() if value != defaults[field]}
    return name, arm, *(plain[column] for column in COLUMNS), own


def row(base: RunConfig, arm: str, warmup: int) -> Row:
    (result,) = compare(base, [arm], warmup=warmup)
    made = result.to_dict()
    layers = result.run.verdict().layers
    return {
        **{name: made[name] for name in OUTCOME},
        "entropy": [round(layer.entropy, 4) for layer in layers],
        "rank": [round(layer.rank, 3) for layer in layers],
        "spectrum": [round(layer.spectrum, 3) for layer in layers],
        "device": str(result.run.device),
    }


def table(runs: pd.DataFrame) -> str:
    """One line per preset, learning rate and arm: accuracies by seed, and how many have learnt."""
    by_seed = runs.pivot_table("final_val_accuracy", ["preset", "lr", "arm", "warmup"], "seed")
    learnt = runs.groupby(["preset", "lr", "arm", "warmup"])["learnt"].sum()
    return by_seed.assign(learnt=learnt).to_string(na_rep="")


def main() -> None:
    command = parser(__doc__, "images.jsonl", seeds=[0])
    command.add_argument("preset", help="vit, swin, flatten-swin or another preset of images")
    command.add_argument("--arms", nargs="+", default=DEFAULT_ARMS)
    command.add_argument("--lrs", type=float, nargs="+", help="learning rates (default: the preset's)")
    command.add_argument("--warmup", type=whole, default=WARMUP, help=f"steps (default: {WARMUP})")
    add_config_options(command, without=("optimizer", "warmup", "lr", "seed"))
    options = command.parse_args()
    own = {name: value for name, value in given(options).items() if name != "warmup"}
    plan = []
    for lr in options.lrs or [preset(options.preset).lr]:
        for seed in options.seeds:
            base = preset(options.preset, **{**own, "optimizer": "adamw2", "lr": lr, "seed": seed})
            for arm in options.arms:
                config = arm_config(base, arm, options.warmup)
                work = Work(partial(row, base, arm, options.warmup), rooms_of(config))
                plan.append((identity(options.preset, arm, config), work))
    print(table(fill(options.out, KEY, plan, most=options.most, redo=options.redo)))


if __name__ == "__main__":
    main()
