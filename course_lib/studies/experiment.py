"""Train a run in a cell, with a bar that shows how far it is, and read what became of it."""

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice

import pandas as pd
from tqdm.auto import tqdm

from course_lib.data import load_text
from course_lib.runs import Run, RunConfig
from course_lib.studies.alarms import signals
from course_lib.studies.arms import LABELS


def train(config: RunConfig, label: str = "training", until: int | None = None) -> Run:
    """Make the steps of a run, or those before step `until`; a progress bar shows while it lasts."""
    run = Run(config)
    steps = config.steps + 1 if until is None else min(until, config.steps + 1)
    for _ in tqdm(islice(run, steps), total=steps, desc=label, leave=False):
        pass
    return run


def verdicts(runs: Mapping[str, Run]) -> pd.DataFrame:
    """What became of runs, one row each (arms by their labels); entropy and rank of each layer in order."""
    rows = {}
    for name, run in runs.items():
        verdict = run.verdict()
        ranks = ", ".join(f"{layer.rank:.2f}" for layer in verdict.layers)
        accuracy = {} if verdict.accuracy is None else {"validation accuracy": f"{verdict.accuracy:.2f}"}
        rows[LABELS.get(name, name)] = {
            "verdict": verdict.name,
            "validation loss": f"{verdict.loss:.2f}",
            **accuracy,
            "entropy by layer": ", ".join(f"{layer.entropy:.2f}" for layer in verdict.layers),
            f"rank by layer (× {verdict.rank_unit})": ranks,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def step_table(run: Run) -> pd.DataFrame:
    """The signals of `course_lib.studies.alarms`, one row per probed step."""
    return signals(run).dropna(subset="score")


@lru_cache(maxsize=1)
def _known_words() -> frozenset[str]:
    return frozenset(re.findall("[a-z]+", load_text().lower()))


def real_words(page: str, letters: int = 3) -> float:
    """Share of a page's words, of so many letters or more, that occur in the King James text."""
    words = [w for w in re.findall("[a-z]+", page.lower()) if len(w) >= letters]
    return sum(w in _known_words() for w in words) / max(1, len(words))
