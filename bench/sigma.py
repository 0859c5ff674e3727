"""How close AdamW² comes to an AdamW² with exact σ₁, at every step and matrix of real training.

Every σ₁ that the optimizer uses is held against an SVD's of the same matrix, in double precision. Where the
step has to be cut, α is compared with the exact one; ρ after the cut, by the SVD, with τ.

    python bench/sigma.py [--steps 500] [--presets copy,live]    # exit status 1: not as close as demanded
"""

import argparse
import sys

import numpy as np
import pandas as pd
import torch

from course_lib import Run, preset
from course_lib.optim.limit import SIGMA_FLOOR, Chunk

STEPS, OFF, EXCESS = 500, 0.01, 0.02
"""What is demanded: over so many steps, α off by no more in the median, ρ above τ by no more of τ ever."""


class Watched:
    """Compares every share of a step that is kept with the one that an SVD allows."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, bool]] = []
        self.plain = Chunk._sigmas

    def __enter__(self) -> "Watched":
        def sigmas(chunk: Chunk, norm: torch.Tensor, scale: torch.Tensor):
            exact = torch.cat([torch.linalg.matrix_norm(s.both.double(), 2) for s in chunk.stacks])
            weight, moved = self.plain(chunk, norm, scale)
            self.compare(weight, moved, *chunk._apart(exact), chunk._tau)
            return weight, moved

        Chunk._sigmas = sigmas
        return self

    def __exit__(self, *error: object) -> None:
        Chunk._sigmas = self.plain

    def compare(self, weight, moved, weight_exact, moved_exact, tau) -> None:
        rho = moved / weight.clamp(min=SIGMA_FLOOR)
        share = torch.where(rho > tau, tau / rho, 1.0).double()
        rho_exact = moved_exact / weight_exact.clamp(min=SIGMA_FLOOR)
        exact = torch.where(rho_exact > tau, tau / rho_exact, 1.0)
        off, excess = (share / exact - 1).abs(), (share * rho_exact / tau - 1).clamp(min=0)
        self.rows += zip(off.tolist(), excess.tolist(), (rho_exact > tau).tolist(), strict=True)


def measured(name: str, steps: int, device: str) -> dict[str, float]:
    with Watched() as watched:
        for _ in Run(preset(name, optimizer="adamw2", steps=steps, probe_every=0, device=device)):
            pass
    off, excess, cut = (np.array(column) for column in zip(*watched.rows, strict=True))
    return {
        "matrices × steps": len(off),
        "cut": cut.mean(),
        "α off where cut, median": np.median(off[cut]),
        "99 %": np.quantile(off[cut], 0.99),
        "worst": off[cut].max(),
        "ρ above τ, 99.9 %": np.quantile(excess, 0.999),
        "at its worst": excess.max(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--presets", default="copy,live")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    rows = {name: measured(name, options.steps, options.device) for name in options.presets.split(",")}
    print(f"{options.steps} steps, seed 0; shares of α and of τ")
    print(pd.DataFrame(rows).T.to_string(float_format=lambda x: f"{x:.5g}"))
    failed = [
        name
        for name, row in rows.items()
        if row["α off where cut, median"] > OFF or row["at its worst"] > EXCESS
    ]
    print(f"demanded: α off by at most {OFF:.0%} in the median, ρ above τ by at most {EXCESS:.0%} of τ ever")
    print(f"missed by {', '.join(failed)}" if failed else "met")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
