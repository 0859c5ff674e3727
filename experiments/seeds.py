"""Final validation losses and verdicts over seeds, all arms: the table of the README.

python experiments/seeds.py [--presets copy,live] [--seeds 0,1,2,3,4] [--arms adamw,adamw2]
"""

import argparse

import pandas as pd

from course_lib import preset
from course_lib.studies.compare_arms import ARMS, compare


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", default="copy,live")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--arms", default=",".join(ARMS))
    options = parser.parse_args()
    rows = []
    for name in options.presets.split(","):
        for seed in map(int, options.seeds.split(",")):
            for result in compare(preset(name, seed=seed), options.arms.split(",")):
                verdict = result.run.verdict()
                rows.append((name, result.arm, seed, verdict.loss, verdict.name, verdict.first_collapse_step))
                print(*rows[-1], flush=True)
    columns = ["preset", "arm", "seed", "val. loss", "verdict", "first collapse"]
    table = pd.DataFrame(rows, columns=columns).groupby(["preset", "arm"], sort=False)
    losses = table["val. loss"].agg(lambda x: " / ".join(f"{v:.3f}" for v in x))
    print(pd.DataFrame({"losses": losses, "mean": table["val. loss"].mean().round(3)}).to_string())
    print(table["verdict"].value_counts().to_string())


if __name__ == "__main__":
    main()
