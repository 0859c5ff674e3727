"""Arms × learning rates × seeds of an image preset: the tables of the README and of notebooks 06 and 07.

    python experiments/images.py vit --lrs 3e-3,1e-2 --seeds 0,1,2 --out runs/vit.jsonl
    python experiments/images.py vit --steps 100 --out runs/short.jsonl    # any field of RunConfig
    python experiments/images.py --table runs/vit.jsonl                    # trains nothing

Each run appends one line of JSON to --out, with the config that makes it again (as far as it differs from
RunConfig's defaults). A run that the file holds already is not made again, so that what was interrupted
goes on where it stopped; --most 1 makes one run and ends.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from course_lib import RunConfig, preset
from course_lib.cli.options import add_config_options, given, whole
from course_lib.studies.compare_arms import ARMS, DEFAULT_ARMS, WARMUP, ArmResult, arm_config, compare

COLUMNS = ("lr", "warmup", "seed")
"""Fields of the config that have a column of their own, too."""


def identity(name: str, arm: str, config: RunConfig) -> dict[str, Any]:
    """The first columns of a run's row, which tell it from others and make it again."""
    plain, defaults = config.to_dict(), RunConfig().to_dict()
    own = {field: value for field, value in plain.items() if value != defaults[field]}
    return {"preset": name, "arm": arm, **{c: plain[c] for c in COLUMNS}, "config": own}


def outcome(result: ArmResult) -> dict[str, Any]:
    """What became of a run."""
    row = result.to_dict()
    names = ("final_val_accuracy", "final_val_loss", "verdict", "learnt", "first_collapse_step", "seconds")
    layers = result.run.verdict().layers
    return {
        **{name: row[name] for name in names},
        "entropy": [round(layer.entropy, 4) for layer in layers],
        "rank": [round(layer.rank, 3) for layer in layers],
        "spectrum": [round(layer.spectrum, 3) for layer in layers],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, none where there is no file yet."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def settings(row: dict[str, Any]) -> str:
    """What a run changes of its preset, apart from its arm, learning rate and seed."""
    ours, theirs = RunConfig(**row["config"]).to_dict(), preset(row["preset"]).to_dict()
    shown = {k: v for k, v in ours.items() if v != theirs[k] and k not in (*COLUMNS, "optimizer")}
    return json.dumps(shown) if shown else ""


def table(rows: list[dict[str, Any]]) -> str:
    """One line per preset, learning rate and arm: accuracies by seed, verdicts, how many learnt, seconds."""
    if not rows:
        return "no run yet"
    lines = [
        f"{'preset':12} {'lr':>7}  {'arm':14} {'w.up':>4}  accuracy by seed; verdicts; learnt; time a run"
    ]
    order = ["preset", "settings", "lr", "arm", "warmup"]
    frame = pd.DataFrame(rows).assign(settings=[settings(row) for row in rows])
    heading = ""
    for (name, changes, lr, arm, warmup), runs in frame.sort_values([*order, "seed"]).groupby(order):
        if changes != heading:
            lines.append(f"with {changes}")
        heading = changes
        accuracies = " ".join(f"{a:.3f}" for a in runs["final_val_accuracy"].astype(float))
        verdicts = ", ".join(f"{n} {v}" for v, n in runs["verdict"].value_counts().items())
        learnt = f"{runs['learnt'].sum()} of {len(runs)}"
        seconds = f"{runs['seconds'].min():.0f}–{runs['seconds'].max():.0f} s"
        lines.append(f"{name:12} {lr:7g}  {arm:14} {warmup:4}  {accuracies}; {verdicts}; {learnt}; {seconds}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", nargs="?", help="vit, swin, flatten-swin or another preset of images")
    parser.add_argument("--arms", default=",".join(DEFAULT_ARMS), help=f"from {', '.join(ARMS)}")
    parser.add_argument("--lrs", help="learning rates, such as 3e-3,1e-2 (default: the preset's)")
    parser.add_argument("--seeds", default="0", help="such as 0,1,2 (default: 0)")
    parser.add_argument("--warmup", type=whole, default=WARMUP, help=f"steps (default: {WARMUP})")
    parser.add_argument("--out", type=Path, help="file to append to, one line of JSON per run")
    parser.add_argument("--most", type=whole, default=1000, help="end after so many runs")
    parser.add_argument("--table", type=Path, help="print the table of this file and end")
    add_config_options(parser, without=("optimizer", "warmup", "lr", "seed"))
    options = parser.parse_args()
    if options.table:
        print(table(read(options.table)))
        return
    if options.preset is None:
        parser.error("preset is missing: expected one of images, such as vit")
    own = given(options)
    lrs = [float(lr) for lr in options.lrs.split(",")] if options.lrs else [preset(options.preset).lr]
    seeds = [int(seed) for seed in options.seeds.split(",")]
    rows = [] if options.out is None else read(options.out)
    made = 0
    for lr, seed, arm in [(lr, s, a) for lr in lrs for s in seeds for a in options.arms.split(",")]:
        base = preset(options.preset, **{**own, "optimizer": "adamw2", "warmup": 0, "lr": lr, "seed": seed})
        run = identity(options.preset, arm, arm_config(base, arm, options.warmup))
        if made == options.most or any(all(row[k] == v for k, v in run.items()) for row in rows):
            continue
        (result,) = compare(base, [arm], warmup=options.warmup)
        rows.append({**run, **outcome(result)})
        made += 1
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1], ensure_ascii=False) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
