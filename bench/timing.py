"""Times several things in turn, A B C A B C …, so that a drift of the machine's speed meets all alike."""

from collections.abc import Callable, Mapping
from time import perf_counter

import numpy as np
import pandas as pd
import torch


def alternate(contestants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 5) -> pd.DataFrame:
    """Seconds per call, with what it starts on a CUDA device: one row a round, one column a contestant."""
    finish = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    rows = []
    for _ in range(warmup + rounds):
        row = {}
        for name, call in contestants.items():
            finish()
            start = perf_counter()
            call()
            finish()
            row[name] = perf_counter() - start
        rows.append(row)
    return pd.DataFrame(rows[warmup:])


def report(times: pd.DataFrame, base: str) -> pd.DataFrame:
    """Median milliseconds, and the median and quartiles of each round's ratio to `base`."""
    ratio = times.div(times[base], axis=0)
    return pd.DataFrame(
        {
            "ms": times.median() * 1e3,
            f"ratio to {base}": ratio.median(),
            "quartiles": [f"{a:.3f}–{b:.3f}" for a, b in np.quantile(ratio, [0.25, 0.75], axis=0).T],
        }
    ).round(3)
