"""Train a run in a cell, with a bar that shows how far it is, and read what became of it."""

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from course_lib.data import load_text
from course_lib.training import Run, RunConfig, losses, mean_over_heads, probed


def train(config: RunConfig, label: str = "training", until: int | None = None) -> Run:
    """Make the steps of a run, or those before step `until`; a progress bar shows while it lasts."""
    run = Run(config)
    steps = config.steps + 1 if until is None else min(until, config.steps + 1)
    for _ in tqdm(islice(run, steps), total=steps, desc=label, leave=False):
        pass
    return run


def verdicts(runs: Mapping[str, Run]) -> pd.DataFrame:
    """What became of runs, one row each; entropy and rank (× its unit) of each layer in order."""
    rows = {}
    for name, run in runs.items():
        verdict = run.verdict()
        ranks = ", ".join(f"{layer.rank:.2f}" for layer in verdict.layers)
        accuracy = {} if verdict.accuracy is None else {"validation accuracy": f"{verdict.accuracy:.2f}"}
        rows[name] = {
            "verdict": verdict.name,
            "validation loss": f"{verdict.loss:.2f}",
            **accuracy,
            "entropy by layer": ", ".join(f"{layer.entropy:.2f}" for layer in verdict.layers),
            f"rank by layer (× {verdict.rank_unit})": ranks,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def step_table(run: Run) -> pd.DataFrame:
    """One row per probed step, for a run with probes: what its signs of trouble are read from.

    Columns: `loss` (nats); `rho`, the largest σ₁ ratio of any W_q or W_k; `sigma`, the largest
    σ₁(W_qᵀW_k); `score`, the largest score; `entropy` of the sharpest layer, and that layer's `rank` as a
    multiple of its reference (uniform attention's where attention is causal).
    """
    steps, entropies = probed(run.records, "entropy")
    layers = mean_over_heads(entropies)
    sharpest = layers.argmin(1)
    ranks = mean_over_heads(probed(run.records, "attention_rank")[1]) / np.array(run.reference_ranks)
    table = pd.DataFrame(
        {
            "loss": losses(run.records)[steps],
            "sigma": np.fmax.reduce(probed(run.records, "qk_sigma")[1], axis=(1, 2)),
            "score": np.fmax.reduce(probed(run.records, "max_logit")[1], axis=(1, 2)),
            "entropy": layers.min(1),
            "rank": ranks[range(len(steps)), sharpest],
        },
        index=pd.Index(steps, name="step"),
    )
    qk = [i for i, name in enumerate(run.matrices) if "w_q" in name or "w_k" in name]
    ratio_steps, ratios = probed(run.records, "sigma_ratio")  # none after the last update
    table["rho"] = pd.Series(ratios[:, qk].max(1), index=ratio_steps)
    return table


@lru_cache(maxsize=1)
def _known_words() -> frozenset[str]:
    return frozenset(re.findall("[a-z]+", load_text().lower()))


def real_words(page: str, letters: int = 3) -> float:
    """Share of a page's words, of so many letters or more, that occur in the King James text."""
    words = [w for w in re.findall("[a-z]+", page.lower()) if len(w) >= letters]
    return sum(w in _known_words() for w in words) / max(1, len(words))
