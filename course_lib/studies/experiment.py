"""Train a run in a notebook's cell with a progress bar, and tabulate its outcome."""

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice

from torch import Tensor
from tqdm.auto import tqdm

from course_lib.data import CLASSES, load_text
from course_lib.extras import pandas as pd
from course_lib.runs import Run, RunConfig
from course_lib.studies.alarms import signals
from course_lib.studies.arms import LABELS

LAST = 20
"""Number of last steps whose mean loss counts as the final loss."""


def train(config: RunConfig, label: str = "training", until: int | None = None) -> Run:
    """Make the steps of a run, or those before step `until`, with a progress bar."""
    run = Run(config)
    steps = config.steps + 1 if until is None else min(until, config.steps + 1)
    for _ in tqdm(islice(run, steps), total=steps, desc=label, leave=False):
        pass
    return run


def verdicts(runs: Mapping[str, Run]) -> pd.DataFrame:
    """The verdicts of runs, one row each, with entropy and rank of each layer. Arms have their labels."""
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


def end_loss(history: pd.DataFrame) -> float:
    """Mean training loss of the last `LAST` steps of a loop, in nats."""
    return float(history["loss"].tail(LAST).mean())


def examples(run: Run, images: int = 5) -> tuple[Tensor, list[str]]:
    """Test images of different classes, and the names of their classes.

    The images are (images, channels, side, side) on the run's device, scaled for its model.
    """
    inputs, labels = run.task.batch(0, 200, "validation")
    # Take the last image of each class, since the probes look at the first ones.
    places = {int(label): i for i, label in enumerate(labels)}
    chosen = [places[c] for c in sorted(places)][:: max(1, len(places) // images)][:images]
    batch, _ = run.to_device((inputs[chosen], labels[chosen]))
    return batch, [CLASSES[labels[i]] for i in chosen]
