"""How close AdamW² comes to an AdamW² with exact σ₁, at every step and matrix of real training.

Every σ₁ that the optimizer uses is held against an SVD's of the same matrix. `α off` is |α/α_exact − 1|;
`excess` is how far the ρ of a step, by the SVD, lies above τ (0.01: one per cent of τ).

    python bench/sigma.py [--steps 500] [--presets copy,live]
"""

import argparse
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

import course_lib.optim.adamw2 as adamw2
import course_lib.optim.limit as limit
import course_lib.optim.sigma as sigma
from course_lib import Run, preset
from course_lib.optim.limit import SIGMA_FLOOR, Limit


class Watched(Limit):
    """A limit that is compared with the exact one."""

    rows: ClassVar[list[tuple[float, float, bool]]] = []

    @classmethod
    def of(cls, weights, updates, known, lr, tau):
        found = super().of(weights, updates, known, lr, tau)
        used, bound = found.allowed(lr, tau)
        for w, u, alpha, cut in zip(weights, updates, used.tolist(), bound.tolist(), strict=True):
            share = (
                torch.linalg.matrix_norm(u, 2) / torch.linalg.matrix_norm(w, 2).clamp(min=SIGMA_FLOOR)
            ).item()
            exact = min(lr, tau / share)
            cls.rows.append((abs(alpha / exact - 1), max(0.0, alpha * share / tau - 1), cut))
        return found


def measured(name: str, steps: int, block: int, iterations: int) -> dict[str, float]:
    kept = adamw2.Limit, sigma.BLOCK, limit.WARM_ITERATIONS
    adamw2.Limit, sigma.BLOCK, limit.WARM_ITERATIONS = Watched, block, iterations
    sigma._start_rows.cache_clear()
    Watched.rows.clear()
    try:
        for _ in Run(preset(name, optimizer="adamw2", steps=steps, probe_every=0)):
            pass
    finally:
        adamw2.Limit, sigma.BLOCK, limit.WARM_ITERATIONS = kept
        sigma._start_rows.cache_clear()
    off, excess, cut = (np.array(column) for column in zip(*Watched.rows, strict=True))
    return {
        "cut": cut.mean(),
        "α off, median where cut": np.median(off[cut]),
        "99 %": np.quantile(off[cut], 0.99),
        "excess, 99.9 %": np.quantile(excess, 0.999),
        "worst": excess.max(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--presets", default="copy,live")
    parser.add_argument("--blocks", default="1x1,4x1,8x1,8x2,16x1", help="vectors x iterations")
    options = parser.parse_args()
    rows = []
    for name in options.presets.split(","):
        for pair in options.blocks.split(","):
            block, iterations = map(int, pair.split("x"))
            row = {"preset": name, "vectors": block, "iterations": iterations}
            rows.append(row | measured(name, options.steps, block, iterations))
    print(f"{options.steps} steps, seed 0")
    print(pd.DataFrame(rows).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
