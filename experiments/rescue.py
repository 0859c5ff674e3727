"""How late can a crashing run still be cured? Several cures, begun at several steps, over seeds.

    python experiments/rescue.py                                    # hours on one core for all
    python experiments/rescue.py --presets copy --seeds 0 --out rescue.csv    # some minutes

The steps of `FIRST` are tried first, whatever their outcome, to see whether outcomes are in order; bisection
then looks for the border between them. The cures are those of `course_lib.studies.rescue.CURES`. Every row of
experiments/records/rescue.csv is a fork, with the loss of the crash itself beside it. Notebook 08 reads it.
"""

from functools import partial

from command import parser, presets

from course_lib import preset
from course_lib.studies.rescue import CURES, Rescue
from course_lib.studies.results import TRAINING, Row, Work, fill

FIRST = (0, 1, 2, 5, 20, 100)
PRESETS = ("copy", "live")
KEY = ("preset", "cure", "seed")


def rows(name: str, cure: str, seed: int) -> list[Row]:
    config = preset(name, seed=seed, device="cpu", probe_every=0)
    named = CURES[cure]
    search = Rescue(config, named.cure, first_tries=FIRST, more_time=named.more_time).finish()
    assert search.crash is not None
    table = search.to_frame().assign(ordered=search.ordered, crash_loss=search.crash.loss)
    return table.drop(columns="verdict").round(4).to_dict("records")  # without probes it is stalled or not


def plan(names: list[str], cures: list[str], seeds: list[int]) -> dict[tuple[object, ...], Work]:
    return {
        (name, cure, seed): Work(
            partial(rows, name, cure, seed), (*TRAINING, "optim") if CURES[cure].cure.tau else TRAINING
        )
        for seed in seeds
        for name in names
        for cure in cures
    }


def main() -> None:
    command = parser(__doc__, "rescue.csv", seeds=range(5))
    presets(command, PRESETS)
    command.add_argument("--cures", choices=CURES, nargs="+", default=list(CURES))
    options = command.parse_args()
    work = plan(options.presets, options.cures, options.seeds)
    fill(options.out, KEY, work.items(), most=options.most, redo=options.redo)


if __name__ == "__main__":
    main()
