"""The runs that notebook 05 reads: sensitivity, replay, which matrices, τ, and where the bound does not help.

    python experiments/taming.py                  # the runs that are missing: an hour on one core for all
    python experiments/taming.py --most 1         # one of them
    python experiments/taming.py --tables recall  # those of a table
    python experiments/taming.py --redo optim     # first drop those that depend on AdamW²'s code

Every run is a row of experiments/records/taming.csv; a run of the same settings in another table is not made
twice. In the table `replay`, the mean of AdamW²'s α over the bounded matrices at each step goes to alpha.csv
beside it, from where the arms named after it take their schedule.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from command import outcome, parser, trained

from course_lib import Run, RunConfig, preset
from course_lib.models import BLOCK_GROUPS
from course_lib.studies.arms import DEFAULT_ARMS, TAU, arm_config
from course_lib.studies.coverage import PART_GROUPS, PARTS, bounded_parts
from course_lib.studies.replay import mean_alpha
from course_lib.studies.results import TRAINING, Row, Work, fill, read_results, rooms_of, settings_of

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
REPLAY_RATES = (1e-2, 3e-2)
TAUS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
FIRST = (*DEFAULT_ARMS, "qk-norm", "qk-norm-adamw2")
MORE = ("adamw-warmup-blocks", "adamw2-tau-0.02")
OUTSIDE = ("adamw2-bound-outside", "adamw2-warm-outside")
REPLAYS = ("replayed", "replayed-blocks", "constant", "replayed-seed-0")
KEY = ("table", "preset", "arm", "tau", *PARTS, "lr", "seed")


@dataclass(frozen=True)
class Item:
    """A run that the plan asks for: a row of the file."""

    table: str
    preset: str
    arm: str
    config: RunConfig
    """Of the arms that replay: that of AdamW without warmup, before it has its schedule."""

    @property
    def key(self) -> tuple[Any, ...]:
        """The values of `KEY`; one τ for all parts that are bounded."""
        config, parts = self.config, bounded_parts(self.config)
        taus = [config.tau, *(own.get("tau") for own in config.groups.values())]
        tau = next((tau for tau in taus if tau), None) if any(parts.values()) else None
        return self.table, self.preset, self.arm, tau, *parts.values(), config.lr, config.seed

    @property
    def rooms(self) -> tuple[str, ...]:
        return (*TRAINING, "optim") if self.arm in REPLAYS else rooms_of(self.config)


def item(table: str, arm: str, lr: float, seed: int, name: str = "live", **changes: Any) -> Item:
    base = preset(name, lr=lr, seed=seed, probe_every=100, device="cpu", **changes)
    return Item(table, name, arm, arm_config(base, "adamw" if arm in REPLAYS else arm))


def sensitivity(seed: int, arms: tuple[str, ...]) -> list[Item]:
    return [item("sensitivity", arm, lr, seed) for arm in arms for lr in RATES]


def replay(seed: int) -> list[Item]:
    arms = (*DEFAULT_ARMS, *(arm for arm in REPLAYS if seed or arm != "replayed-seed-0"))
    return [item("replay", arm, lr, seed) for lr in REPLAY_RATES for arm in arms]


def limits(seed: int) -> list[Item]:
    arms = (*DEFAULT_ARMS, *MORE[::-1], *OUTSIDE)
    post = {"norm": "post", "layers": 4, "steps": 200}
    return [
        *(item("recall", arm, 3e-2, seed, "recall") for arm in arms),
        *(item("post", arm, 3e-3, seed, **post) for arm in DEFAULT_ARMS),
    ]


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for name in names:
        found += [(*subset, name) for subset in found]
    return found


def covering(parts: tuple[str, ...], seed: int) -> Item:
    """AdamW² with the bound on these parts and on nothing else."""
    made = item("which", "adamw2" if parts else "adamw", 1e-2, seed)
    if not parts or parts == BLOCK_GROUPS:  # the default
        return made
    groups = {group: {"tau": TAU} for part in parts for group in PART_GROUPS[part]}
    return replace(made, config=replace(made.config, tau=None, groups=groups))


def matrices_and_tau(seed: int) -> list[Item]:
    # The groups outside the blocks, which are not bounded by default, on the first seed alone.
    parts = tuple(PARTS) if seed == 0 else BLOCK_GROUPS
    taus = [item("tau", "adamw2", 1e-2, seed, tau=tau) for tau in TAUS]
    return [*(covering(names, seed) for names in subsets(parts)), *taus]


def items() -> list[Item]:
    """All runs, what matters most first."""
    first = [*sensitivity(0, FIRST), *replay(0), *sensitivity(1, FIRST), *replay(1)]
    then = [made for seed in range(3) for made in limits(seed)]
    more = [made for seed in range(2) for made in sensitivity(seed, MORE)]
    return [*first, *then, *matrices_and_tau(0), *replay(2), *more, *matrices_and_tau(1)]


def alphas(made: Item, alpha: Path) -> list[float]:
    """The schedule that an arm replays."""
    table = read_results(alpha)
    seed = 0 if made.arm == "replayed-seed-0" else made.config.seed
    return table[(table["lr"] == made.config.lr) & (table["seed"] == seed)]["alpha"].tolist()


def run_of(made: Item, alpha: Path) -> Run:
    """The finished run; AdamW²'s in the table `replay` leaves its α in a file."""
    if made.arm in REPLAYS:
        factors = alphas(made, alpha)
        if made.arm == "replayed-blocks":
            run = Run(made.config)
            while not run.finished:
                if run.updates < run.config.steps:
                    multiplier = factors[run.updates] / (run.current_lr() / run.lr)
                    for group in BLOCK_GROUPS:
                        run.set_group(group, {"lr_multiplier": multiplier})
                run.step()
            return run
        if made.arm == "constant":
            factors = [sum(factors) / len(factors)] * len(factors)
        return trained(replace(made.config, schedule=factors))
    used: list[float] = []
    keeps = made.table == "replay" and made.arm == "adamw2"
    run = trained(made.config, lambda run: used.append(round(mean_alpha(run), 5)) if keeps else None)
    if keeps:
        rows = [{"step": step, "alpha": share} for step, share in enumerate(used[: run.config.steps])]
        entry = (made.config.lr, made.config.seed), Work(lambda: rows, made.rooms)
        fill(alpha, ("lr", "seed"), [entry], redo="optim")
    return run


def twin(made: Item, path: Path) -> Row | None:
    """The row of a run with the same settings in another table."""
    if made.arm in REPLAYS or (made.table == "replay" and made.arm == "adamw2") or not path.exists():
        return None
    rows = read_results(path)
    same = rows[~rows["arm"].isin(REPLAYS) & (rows["settings"] == settings_of(made.preset, made.config))]
    own = {"preset": made.preset, "lr": made.config.lr, "seed": made.config.seed}
    for column, value in own.items():
        same = same[same[column] == value]
    return None if same.empty else same.iloc[0].drop([*KEY]).to_dict()


def row(made: Item, path: Path) -> Row:
    if (known := twin(made, path)) is not None:
        return known
    run = run_of(made, path.with_name("alpha.csv"))
    return outcome(run) | {"settings": settings_of(made.preset, made.config)}


def main() -> None:
    command = parser(__doc__, "taming.csv")
    command.add_argument("--tables", nargs="+", help="only these tables")
    options = command.parse_args()
    wanted = [made for made in items() if made.config.seed in options.seeds]
    wanted = [made for made in wanted if options.tables is None or made.table in options.tables]
    plan = [(made.key, Work(partial(row, made, options.out), made.rooms)) for made in wanted]
    fill(options.out, KEY, plan, most=options.most, redo=options.redo)


if __name__ == "__main__":
    main()
