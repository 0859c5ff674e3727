"""What the probes saw, and when: the signals of crashing and of learning runs over seeds.

    python experiments/signals.py    # what experiments/records/signals.csv lacks; all takes eight minutes

Three arms of copy and of live, probed at every one of the first 60 steps and at every tenth from there on.
Four digits are kept. Notebook 08 reads the file.
"""

from functools import partial
from itertools import islice

from command import parser, presets

from course_lib import Run, RunConfig, preset
from course_lib.studies.alarms import signals_of
from course_lib.studies.arms import DEFAULT_ARMS, arm_config
from course_lib.studies.results import Row, Work, fill, rooms_of

EARLY = 60
PRESETS = ("copy", "live")
KEY = ("preset", "arm", "seed")


def rows(arm: str, config: RunConfig) -> list[Row]:
    run = Run(config)
    list(islice(run, EARLY))
    run = run.fork(probe_every=10)
    list(run)
    table = signals_of({(arm, config.seed): run}).drop(columns=["arm", "seed", "rank"])
    numbers = table.columns.drop(["step", "learnt"])
    table[numbers] = table[numbers].map(lambda value: float(f"{value:.4g}"))
    return table.to_dict("records")


def main() -> None:
    command = parser(__doc__, "signals.csv", seeds=range(5))
    presets(command, PRESETS)
    options = command.parse_args()
    plan = {}
    for name in options.presets:
        for seed in options.seeds:
            for arm in DEFAULT_ARMS:
                config = arm_config(preset(name, seed=seed, device="cpu", probe_every=1), arm)
                plan[name, arm, seed] = Work(partial(rows, arm, config), rooms_of(config))
    fill(options.out, KEY, plan.items(), most=options.most, redo=options.redo)


if __name__ == "__main__":
    main()
