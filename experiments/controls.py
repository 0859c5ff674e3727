"""What causes what: one run per arm and seed, each arm a single change from another.

    python experiments/controls.py        # what experiments/records/controls.csv lacks; all takes ten minutes
    python experiments/controls.py --redo optim          # first drops the runs with a bound

Notebook 02 reads the file.
"""

from command import outcome, parser, trained

from course_lib import RunConfig, preset
from course_lib.studies.arms import ARMS, arm_config
from course_lib.studies.results import Row, Work, fill, rooms_of, settings_of

ALL = (
    *("adamw-warmup", "adamw-warmup-blocks", "adamw2", "adamw2-warm-embeddings", "shock-qk"),
    *("shock-qk-bound-qk", "warmup-bound-qk", "shock-qk-norm", "warmup-qk-only", "adamw", "qk-norm"),
    *("qk-norm-warmup", "qk-norm-adamw2", "uniform-warmup"),
)
SHORT = ("adamw", "adamw-warmup", "adamw2", "shock-qk")
PLAN = (("live", 1e-2, ALL), ("copy", 5e-2, SHORT), ("recall", 1e-2, SHORT), ("recall", 3e-2, SHORT))
"""Preset, learning rate, arms."""
KEY = ("preset", "lr", "arm", "seed")


def row(name: str, config: RunConfig) -> Row:
    run = trained(config)
    verdict = run.verdict()
    layers = verdict.layers
    sharpest = min(range(len(layers)), key=lambda i: layers[i].entropy)
    return outcome(run) | {
        "first_collapse_step": verdict.first_collapse_step,
        "sharpest_layer": sharpest + 1,
        "entropy": round(layers[sharpest].entropy, 4),
        "rank": round(layers[sharpest].rank, 3),
        "settings": settings_of(name, config),
    }


def configs(seeds: list[int]) -> dict[tuple[str, float, str, int], RunConfig]:
    return {
        (name, lr, arm, seed): arm_config(preset(name, lr=lr, seed=seed, device="cpu"), arm)
        for name, lr, arms in PLAN
        for arm in arms
        for seed in seeds
    }


def main() -> None:
    options = parser(__doc__, "controls.csv").parse_args()
    plan = {
        item: Work(lambda item=item, config=config: row(item[0], config), rooms_of(config))
        for item, config in configs(options.seeds).items()
    }
    table = fill(options.out, KEY, plan.items(), most=options.most, redo=options.redo)
    table["arm"] = [f"{arm}: {ARMS[arm].label}" for arm in table["arm"]]
    print(table.pivot_table("final_val_loss", ["preset", "lr", "arm"], "seed", sort=False).to_string())


if __name__ == "__main__":
    main()
