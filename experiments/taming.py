"""The runs that notebook 05 reads: sensitivity, replay, which matrices, τ, and where the bound does not help.

    python experiments/taming.py                  # the runs that are missing: an hour on one core for all
    python experiments/taming.py --most 1         # one of them
    python experiments/taming.py --tables recall  # those of a table
    python experiments/taming.py --redo           # first drop those that depend on AdamW²'s code

Every run is written as soon as it ends, to experiments/records/taming.csv, one row each, with the settings
that make it again; a run of the same settings in another table is not made twice. In the table `replay`, the
mean of AdamW²'s α over the bounded matrices at each step goes to experiments/records/alpha.csv, from where
the arms named after it take their schedule.
"""

import argparse
import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from course_lib import Run, preset
from course_lib.atomic import write_atomically
from course_lib.models import BLOCK_GROUPS
from course_lib.studies.compare_arms import WARMUP

RECORDS = Path(__file__).parents[1] / "experiments" / "records"
RUNS, ALPHA = RECORDS / "taming.csv", RECORDS / "alpha.csv"

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
REPLAY_RATES = (1e-2, 3e-2)
TAUS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
TAU = 0.05
COVERED = {"qk": ("qk",), "vo": ("vo",), "mlp": ("mlp",), "outside": ("embedding", "head")}
"""What the table `which` bounds or leaves alone: names of its arms → groups of parameters."""

BOUND: dict[str, Any] = {"optimizer": "adamw2", "tau": TAU}
BLOCKS_WARM: dict[str, Any] = {"groups": {group: {"warmup": WARMUP} for group in BLOCK_GROUPS}}
SENSITIVITY: dict[str, dict[str, Any]] = {
    "adamw": {},
    "adamw-warmup": {"warmup": WARMUP},
    "adamw2": BOUND,
    "qk-norm": {"qk_norm": True},
    "qk-norm-adamw2": {"qk_norm": True, **BOUND},
    "adamw-warmup-blocks": BLOCKS_WARM,
    "adamw2-tau-0.02": {**BOUND, "tau": 0.02},
}
FIRST = ("adamw", "adamw-warmup", "adamw2", "qk-norm", "qk-norm-adamw2")
THREE = {arm: SENSITIVITY[arm] for arm in ("adamw", "adamw-warmup", "adamw2")}
OUTSIDE: dict[str, dict[str, Any]] = {
    "adamw2-outside-bounded": {**BOUND, "groups": {g: {"tau": TAU} for g in COVERED["outside"]}},
    "adamw2-outside-warm": {
        **BOUND,
        "groups": {g: {"warmup": WARMUP} for g in ("embedding", "head", "norm")},
    },
}
"""AdamW² with what its bound leaves alone bounded or warmed up, too."""
REPLAYS = ("replayed", "replayed on the blocks", "constant", "replayed from seed 0")
POST: dict[str, Any] = {"norm": "post", "layers": 4, "steps": 200}


KEY = ("table", "arm", "lr", "seed")
Rows = dict[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Item:
    """A run that the plan asks for: a row of the file."""

    table: str
    preset: str
    arm: str
    lr: float
    seed: int
    changes: dict[str, Any] = field(compare=False)
    """What the arm changes of the preset, besides lr and seed."""

    @property
    def key(self) -> tuple[Any, ...]:
        return self.table, self.arm, self.lr, self.seed

    @property
    def bounded(self) -> bool:
        """Whether its outcome depends on AdamW²."""
        return self.changes.get("optimizer") == "adamw2" or self.arm in REPLAYS

    @property
    def settings(self) -> str:
        return json.dumps(self.changes)


def which(names: tuple[str, ...]) -> dict[str, Any]:
    """AdamW² with the bound on these of `COVERED` and on nothing else."""
    groups = {group: {"tau": TAU} for name in names for group in COVERED[name]}
    if names == BLOCK_GROUPS:
        return BOUND  # the default
    return {"optimizer": "adamw2", "tau": None, "groups": groups} if names else {}


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for name in names:
        found += [(*subset, name) for subset in found]
    return found


def sensitivity(seed: int, *, first: bool) -> list[Item]:
    arms = {arm: changes for arm, changes in SENSITIVITY.items() if (arm in FIRST) == first}
    return [
        Item("sensitivity", "live", arm, lr, seed, changes) for arm, changes in arms.items() for lr in RATES
    ]


def replay(seed: int) -> list[Item]:
    arms = THREE | {arm: {} for arm in REPLAYS if seed or arm != "replayed from seed 0"}
    return [
        Item("replay", "live", arm, lr, seed, changes) for lr in REPLAY_RATES for arm, changes in arms.items()
    ]


def limits(seed: int) -> list[Item]:
    others = ("adamw2-tau-0.02", "adamw-warmup-blocks")
    recall = {**THREE, **{arm: SENSITIVITY[arm] for arm in others}, **OUTSIDE}
    items = [Item("recall", "recall", arm, 3e-2, seed, changes) for arm, changes in recall.items()]
    post = {arm: {**POST, **changes} for arm, changes in THREE.items()}
    return items + [Item("post", "live", arm, 3e-3, seed, changes) for arm, changes in post.items()]


def matrices_and_tau(seed: int) -> list[Item]:
    # The groups outside the blocks, which are not bounded by default, on the first seed alone.
    parts = tuple(COVERED) if seed == 0 else BLOCK_GROUPS
    covered = {"+".join(names) or "none": which(names) for names in subsets(parts)}
    taus = {f"{tau:g}": {"optimizer": "adamw2", "tau": tau} for tau in TAUS}
    tables = {"which": covered, "tau": taus}
    return [
        Item(table, "live", arm, 1e-2, seed, changes)
        for table, arms in tables.items()
        for arm, changes in arms.items()
    ]


def plan() -> list[Item]:
    """All runs, what matters most first."""
    first = [*sensitivity(0, first=True), *replay(0), *sensitivity(1, first=True), *replay(1)]
    then = [item for seed in range(3) for item in limits(seed)]
    more = [item for seed in range(2) for item in sensitivity(seed, first=False)]
    return [*first, *then, *matrices_and_tau(0), *replay(2), *more, *matrices_and_tau(1)]


def mean_alpha(run: Run) -> float:
    """α of the last step, mean over the bounded matrices, as a share of the run's base learning rate."""
    used = torch.stack([report.lr for report in run.optimizer.last_step.values()])
    return used.mean().item() / run.lr


def train(item: Item, alpha: pd.DataFrame) -> tuple[Run, pd.DataFrame]:
    """The finished run and, of AdamW² in the table `replay`, its mean α per step."""
    changes = item.changes
    factors: list[float] = []
    if item.arm in REPLAYS:
        seed = 0 if item.arm == "replayed from seed 0" else item.seed
        factors = alpha[(alpha["lr"] == item.lr) & (alpha["seed"] == seed)]["alpha"].tolist()
        if item.arm == "constant":
            changes = {"schedule": [sum(factors) / len(factors)] * len(factors)}
        elif item.arm != "replayed on the blocks":
            changes = {"schedule": factors}
    run = Run(preset(item.preset, lr=item.lr, seed=item.seed, probe_every=100, device="cpu", **changes))
    used = []
    while not run.finished:
        if item.arm == "replayed on the blocks" and run.updates < run.config.steps:
            multiplier = factors[run.updates] / (run.current_lr() / run.lr)
            for group in BLOCK_GROUPS:
                run.set_group(group, {"lr_multiplier": multiplier})
        run.step()
        if item.table == "replay" and item.arm == "adamw2" and len(used) < run.updates:
            used.append((item.lr, item.seed, len(used), round(mean_alpha(run), 5)))
    return run, pd.DataFrame(used, columns=["lr", "seed", "step", "alpha"])


def row_of(item: Item, run: Run) -> dict[str, Any]:
    verdict = run.verdict()
    return {
        "table": item.table,
        "preset": item.preset,
        "arm": item.arm,
        "lr": item.lr,
        "seed": item.seed,
        "final_val_loss": round(verdict.loss, 4),
        "verdict": verdict.name,
        "learnt": verdict.learnt,
        "settings": item.settings,
    }


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, comment="#", keep_default_na=False) if path.exists() else pd.DataFrame()


def write(path: Path, frame: pd.DataFrame) -> None:
    made = (
        f"# python experiments/taming.py\n# torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"device cpu, {platform.system()} {platform.machine()}\n"
    )
    RECORDS.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (made + frame.to_csv(index=False)).encode())


def twin(item: Item, rows: Rows) -> dict[str, Any] | None:
    """A row of another table whose run had the same settings."""
    if item.arm in REPLAYS or (item.table == "replay" and item.bounded):  # whose α is wanted
        return None
    same = {"preset": item.preset, "lr": item.lr, "seed": item.seed, "settings": item.settings}
    for row in rows.values():
        if all(row[name] == value for name, value in same.items()) and row["arm"] not in REPLAYS:
            return {**row, "table": item.table, "arm": item.arm}
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, help="make so many runs at most")
    parser.add_argument("--redo", action="store_true", help="first drop the rows that depend on AdamW²")
    parser.add_argument("--tables", nargs="+", help="only these tables")
    options = parser.parse_args()
    items = plan()
    wanted = [item for item in items if options.tables is None or item.table in options.tables]
    rows: Rows = {tuple(r[n] for n in KEY): r for r in read(RUNS).to_dict("records")}
    if options.redo:
        for item in items:
            if item.bounded:
                rows.pop(item.key, None)
    made = 0
    for item in wanted:
        if item.key in rows or made == options.most:
            continue
        row, alpha = twin(item, rows), read(ALPHA)
        if row is None:
            run, used = train(item, alpha)
            made += 1
            row = row_of(item, run)
            if len(used):
                others = (
                    alpha[(alpha["lr"] != item.lr) | (alpha["seed"] != item.seed)] if len(alpha) else alpha
                )
                write(ALPHA, pd.concat([others, used]).sort_values(["lr", "seed", "step"]))
        rows[item.key] = row
        write(RUNS, pd.DataFrame([rows[i.key] for i in items if i.key in rows]))
        print(*list(row.values())[:8], flush=True)
    missing = sum(item.key not in rows for item in items)
    print(f"{missing} runs are missing" if missing else "complete")


if __name__ == "__main__":
    main()
