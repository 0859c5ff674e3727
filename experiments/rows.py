"""Files of runs that are made one after the other, perhaps in several calls."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from course_lib import Run, RunConfig
from course_lib.atomic import write_atomically
from course_lib.studies import Cure

Row = dict[str, Any]


def run_row(config: RunConfig, seed: int, late: int = 0, cure: Cure | None = None) -> Row:
    """Train a run to its end, on the CPU, from step `late` on with the cure, and say what became of it."""
    run = Run(replace(config, seed=seed, device="cpu", probe_every=config.steps))
    if cure is not None:
        for _ in islice(run, late):
            pass
        run = cure.apply(run)
    for _ in run:
        pass
    verdict = run.verdict()
    return {
        "final_val_loss": round(verdict.loss, 4),
        "learnt": verdict.learnt,
        "verdict": verdict.name,
        "entropy": round(min(layer.entropy for layer in verdict.layers), 3),
    }


def fill(
    path: Path,
    script: str,
    key: Sequence[str],
    plan: Mapping[tuple[Any, ...], Callable[[], Row | list[Row]]],
    limit: int | None = None,
) -> pd.DataFrame:
    """Make what the plan has and the file has not, and write the file after each.

    Args:
        script: file of `bench/` that makes it, for the file's first line.
        key: columns that tell entries apart.
        plan: values of the key → what makes the entry's rows.
        limit: entries to make at most.
    """
    there = pd.read_csv(path, comment="#") if path.exists() else pd.DataFrame(columns=list(key))
    done = {tuple(row) for row in there[list(key)].itertuples(index=False)}
    todo = [item for item in plan if item not in done][:limit]
    for item in tqdm(todo, desc="runs"):
        rows = plan[item]()
        rows = rows if isinstance(rows, list) else [rows]
        new = pd.DataFrame([dict(zip(key, item, strict=True)) | row for row in rows])
        there = new if there.empty else pd.concat([there, new], ignore_index=True)
        head = (
            f"# python bench/{script} --out {path.as_posix()}\n"
            f"# torch {torch.__version__}, {torch.get_num_threads()} threads, device cpu, "
            f"{platform.system()} {platform.machine()}\n"
        )
        write_atomically(path, (head + there.to_csv(index=False)).encode())
    return there
