"""Final validation losses and verdicts over seeds, all arms: the table of the README.

python experiments/seeds.py [--presets copy live] [--seeds 0 1 2 3 4] [--arms adamw adamw2]
"""

import pandas as pd
from command import outcome, parser, trained

from course_lib import preset
from course_lib.studies.arms import MAIN_ARMS, arm_config


def main() -> None:
    command = parser(__doc__, seeds=range(5))
    command.add_argument("--presets", nargs="+", default=["copy", "live"])
    command.add_argument("--arms", nargs="+", default=MAIN_ARMS)
    options = command.parse_args()
    rows = []
    for name in options.presets:
        for seed in options.seeds:
            for arm in options.arms:
                run = trained(arm_config(preset(name, seed=seed), arm))
                rows.append({"preset": name, "arm": arm, "seed": seed, **outcome(run)})
                print(*rows[-1].values(), flush=True)
    table = pd.DataFrame(rows)
    losses = table.pivot(index=["preset", "arm"], columns="seed", values="final_val_loss")
    print(losses.assign(mean=losses.mean(axis=1)).round(3).to_string())
    print(table["verdict"].value_counts().to_string())


if __name__ == "__main__":
    main()
