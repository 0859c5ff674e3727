"""How close the optimizer's σ₁ come to an SVD's, at every step of real training.

One vector or a block of them, warm from the step before, against an SVD: the share of σ₁ that the estimate
reaches, for W (falling short is the safe side) and for ΔW (falling short lets ρ exceed τ).

    python bench/sigma.py
"""

import numpy as np
import pandas as pd
import torch

import course_lib.optim.adamw2 as adamw2
import course_lib.optim.sigma as sigma
from course_lib import Run, preset

STEPS = 150


def shares(name: str, block: int, iterations: int) -> pd.DataFrame:
    """Estimate over σ₁ at every step and matrix, for W and ΔW."""
    seen: dict[str, list[float]] = {"W": [], "ΔW": []}

    def measured(matrix, vectors, n):
        n = sigma.COLD_ITERATIONS if n == sigma.COLD_ITERATIONS else iterations
        estimate, vectors = sigma.power_iteration(matrix, vectors, n)
        kind = "W" if len(seen["W"]) == len(seen["ΔW"]) else "ΔW"
        seen[kind].append((estimate / torch.linalg.matrix_norm(matrix, 2)).item())
        return estimate, vectors

    kept = adamw2.power_iteration, sigma.BLOCK
    adamw2.power_iteration, sigma.BLOCK = measured, block
    try:
        for _ in Run(preset(name, optimizer="adamw2", steps=STEPS, probe_every=0)):
            pass
    finally:
        adamw2.power_iteration, sigma.BLOCK = kept
    return pd.DataFrame(seen)


def main():
    rows = []
    for name in ("copy", "live"):
        for block, iterations in ((1, 2), (1, 8), (4, 2), (8, 1), (8, 2)):
            share = shares(name, block, iterations)
            row = {"preset": name, "vectors": block, "iterations": iterations}
            for kind, values in share.items():
                row[f"{kind} median"] = values.median()
                row[f"{kind} 1 %"] = np.quantile(values, 0.01)
                row[f"{kind} worst"] = values.min()
            rows.append(row)
    print(f"estimate / σ₁ over {STEPS} steps, seed 0")
    print(pd.DataFrame(rows).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
