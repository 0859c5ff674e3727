"""What the commands of this folder share: their options, and what is written of a run."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from course_lib import Run, RunConfig
from course_lib.studies.results import RECORDS, Row


def parser(doc: str | None, record: str = "", seeds: Sequence[int] = (0, 1, 2)) -> argparse.ArgumentParser:
    """A parser with the options that all plans have; those about a file only where a `record` is named."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--seeds", type=int, nargs="+", default=list(seeds), help="such as 0 1 2")
    if record:
        made.add_argument("--most", type=int, help="make so many entries at most, the rest in a later call")
        made.add_argument("--redo", metavar="ROOM", help="first drop what depends on a room, such as optim")
        made.add_argument("--out", type=Path, default=RECORDS / record, help="file to write or to complete")
    return made


def presets(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Let the command choose among the presets of its plan."""
    parser.add_argument("--presets", choices=names, nargs="+", default=list(names), help="only these")


def trained(config: RunConfig, each_step: Callable[[Run], Any] = lambda run: None) -> Run:
    """The run, made to its end."""
    run = Run(config)
    for _ in run:
        each_step(run)
    return run


def outcome(run: Run) -> Row:
    """What became of a finished run."""
    verdict = run.verdict()
    return {"final_val_loss": round(verdict.loss, 4), "verdict": verdict.name, "learnt": verdict.learnt}
