"""What causes what: one run per arm and seed, each arm a single change from another.

    python experiments/controls.py        # prints the table, in about ten minutes
    python experiments/controls.py --out experiments/records/controls.csv
    python experiments/controls.py --out experiments/records/controls.csv --optimizer adamw2  # the rest stays

With --out it also writes every run to a file, one row each, with the settings that make it again.
Notebook 02 reads that file.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from course_lib import Run, preset

WARMUP = 100
TAU = 0.05
BLOCKS_WARM: dict[str, Any] = {name: {"warmup": WARMUP} for name in ("qk", "vo", "mlp")}
QK_SHOCK: dict[str, Any] = {"qk": {"warmup": 0}}
QK_BOUND: dict[str, Any] = {"qk": {"warmup": 0, "tau": TAU}}

ARMS: dict[str, dict[str, Any]] = {
    "warmup on everything": {"warmup": WARMUP},
    "warmup on the block matrices only": {"groups": BLOCKS_WARM},
    "AdamW²": {"optimizer": "adamw2", "tau": TAU},
    "AdamW², embeddings warmed up": {
        "optimizer": "adamw2",
        "tau": TAU,
        "groups": {"embedding": {"warmup": WARMUP}},
    },
    "no warmup for W_q, W_k only": {"warmup": WARMUP, "groups": QK_SHOCK},
    "no warmup for W_q, W_k only, bounded": {
        "optimizer": "adamw2",
        "tau": None,
        "warmup": WARMUP,
        "groups": QK_BOUND,
    },
    "warmup on everything, W_q, W_k bounded": {
        "optimizer": "adamw2",
        "tau": None,
        "warmup": WARMUP,
        "groups": {"qk": {"tau": TAU}},
    },
    "no warmup for W_q, W_k only, QK-norm": {
        "warmup": WARMUP,
        "groups": QK_SHOCK,
        "qk_norm": True,
    },
    "no warmup for all but W_q, W_k": {"groups": {"qk": {"warmup": WARMUP}}},
    "no warmup at all": {},
    "no warmup at all, QK-norm": {"qk_norm": True},
    "warmup on everything, QK-norm": {"warmup": WARMUP, "qk_norm": True},
    "AdamW², QK-norm": {"optimizer": "adamw2", "tau": TAU, "qk_norm": True},
    "uniform attention, warmup": {"warmup": WARMUP, "attention": "uniform"},
}
"""Arm → what it changes of the preset."""

SHORT = ("no warmup at all", "warmup on everything", "AdamW²", "no warmup for W_q, W_k only")
PLAN: list[tuple[str, float, tuple[str, ...]]] = [
    ("live", 1e-2, tuple(ARMS)),
    ("copy", 5e-2, SHORT),
    ("recall", 1e-2, SHORT),
    ("recall", 3e-2, SHORT),
]
"""Preset, learning rate, arms."""


def one_run(name: str, lr: float, arm: str, seed: int, device: str) -> dict[str, object]:
    run = Run(preset(name, lr=lr, seed=seed, device=device, **ARMS[arm]))
    for _ in run:
        pass
    verdict = run.verdict()
    entropies = [layer.entropy for layer in verdict.layers]
    ranks = [layer.rank for layer in verdict.layers]
    sharpest = entropies.index(min(entropies))
    return {
        "preset": name,
        "lr": lr,
        "arm": arm,
        "seed": seed,
        "final_val_loss": round(verdict.loss, 4),
        "verdict": verdict.name,
        "learnt": verdict.learnt,
        "first_collapse_step": verdict.first_collapse_step,
        "sharpest_layer": sharpest + 1,
        "entropy": round(entropies[sharpest], 4),
        "rank": round(ranks[sharpest], 3),
        "settings": json.dumps(ARMS[arm], ensure_ascii=False),
    }


def table(frame: pd.DataFrame) -> str:
    lines = [f"{'preset':7} {'lr':>6}  {'arm':40} loss by seed, verdicts"]
    for (name, lr, arm), rows in frame.groupby(["preset", "lr", "arm"], sort=False):
        losses = " ".join(f"{loss:.3f}" for loss in rows["final_val_loss"])
        verdicts = ", ".join(f"{n}× {v}" for v, n in rows["verdict"].value_counts().items())
        lines.append(f"{name:7} {lr:6g}  {arm:40} {losses}  {verdicts}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda (default: cpu)")
    parser.add_argument("--out", type=Path, help="CSV file to write, one row per run")
    parser.add_argument("--optimizer", choices=("adamw", "adamw2"), help="only the arms of this optimizer")
    options = parser.parse_args()
    plan = [(n, lr, a, s) for n, lr, arms in PLAN for a in arms for s in options.seeds]
    wanted = [item for item in plan if options.optimizer in (None, ARMS[item[2]].get("optimizer", "adamw"))]
    rows = {item: one_run(*item, options.device) for item in tqdm(wanted, desc="runs")}
    if options.optimizer and options.out and options.out.exists():
        for row in pd.read_csv(options.out, comment="#").to_dict("records"):
            rows.setdefault((row["preset"], row["lr"], row["arm"], row["seed"]), row)
    frame = pd.DataFrame([rows[item] for item in plan if item in rows])
    frame = frame.astype({"first_collapse_step": "Int64"})
    print(table(frame))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        made = (
            f"# python experiments/controls.py --out {options.out.as_posix()}\n"
            f"# torch {torch.__version__}, {torch.get_num_threads()} threads, "
            f"device {options.device}, {platform.system()} {platform.machine()}\n"
        )
        options.out.write_text(made + frame.to_csv(index=False), encoding="utf-8")


if __name__ == "__main__":
    main()
