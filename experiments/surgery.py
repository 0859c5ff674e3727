"""Where does the crash live? One parameter group shocked or shielded at a time.

    python experiments/surgery.py                                      # hours on one core for all
    python experiments/surgery.py --presets copy --seeds 0 1 --out surgery.csv    # some minutes

Every row of experiments/records/surgery.csv is a run. Its `arm` is the run that was operated on, its
`operation` what was done (`course_lib.studies.surgery.OPERATIONS`), `group` to which group of parameters, and
`factor` how many times the learning rate a shocked group gets. Notebook 08 reads the file.
"""

from dataclasses import replace
from functools import partial
from itertools import islice

from command import outcome, parser, presets

from course_lib import Run, RunConfig, preset
from course_lib.models import BLOCK_GROUPS, GROUPS
from course_lib.studies.arms import TAU, arm_config
from course_lib.studies.rescue import Cure
from course_lib.studies.results import TRAINING, Row, Work, fill, rooms_of
from course_lib.studies.surgery import operate

LATE = 20
"""The step at which groups are put back."""
FACTORS = (1, 3, 10)
MATRICES = tuple(group for group in GROUPS if group != "norm")
PRESETS = ("copy", "live")
KEY = ("preset", "arm", "operation", "group", "factor", "seed")
Operation = tuple[str, str, str, int | None]
"""Arm, operation, group, factor."""


def operated(name: str) -> dict[Operation, RunConfig]:
    """Operations from the first step on."""
    healthy, sick = (arm_config(preset(name), arm) for arm in ("adamw-warmup", "adamw"))
    made: dict[Operation, RunConfig] = {
        ("adamw-warmup", "none", "none", None): healthy,
        ("adamw", "none", "none", None): sick,
    }
    for factor in FACTORS:
        for group in GROUPS:
            shocked = operate(healthy, shock=group, lr_multiplier=factor)
            made["adamw-warmup", "shock", group, factor] = shocked
    for group in MATRICES:
        made["adamw", "shield", group, None] = operate(sick, shield=group)
    made["adamw", "shield", "blocks", None] = operate(sick, shield=BLOCK_GROUPS)
    for group in BLOCK_GROUPS:
        others = [other for other in BLOCK_GROUPS if other != group]
        made["adamw", "shield-blocks-but", group, None] = operate(sick, shield=others)
    return made


def put_back() -> dict[Operation, Cure]:
    """What is done to the crashing run after `LATE` steps."""
    made: dict[Operation, Cure] = {}
    for name, groups in {"none": (), **{g: (g,) for g in GROUPS}, "blocks": BLOCK_GROUPS}.items():
        made["adamw", "put-back", name, None] = Cure(tau=TAU, put_back=groups)
    others = tuple(group for group in GROUPS if group != "qk")
    made["adamw", "put-back-all-but", "qk", None] = Cure(tau=TAU, put_back=others)
    return made


def row(config: RunConfig, cure: Cure | None = None) -> Row:
    run = Run(config)
    if cure is not None:
        list(islice(run, LATE))
        run = cure.apply(run)
    list(run)
    return outcome(run) | {"entropy": round(min(layer.entropy for layer in run.verdict().layers), 3)}


def plan(names: list[str], seeds: list[int]) -> dict[tuple[object, ...], Work]:
    made: dict[tuple[object, ...], Work] = {}
    for name in names:
        for seed in seeds:
            once = {"seed": seed, "device": "cpu", "probe_every": preset(name).steps}
            for item, config in operated(name).items():
                made[(name, *item, seed)] = Work(partial(row, replace(config, **once)), rooms_of(config))
            for item, cure in put_back().items():
                made[(name, *item, seed)] = Work(
                    partial(row, preset(name, **once), cure), (*TRAINING, "optim")
                )
    return made


def main() -> None:
    command = parser(__doc__, "surgery.csv", seeds=range(5))
    presets(command, PRESETS)
    options = command.parse_args()
    fill(options.out, KEY, plan(options.presets, options.seeds).items(), most=options.most, redo=options.redo)


if __name__ == "__main__":
    main()
