"""How close AdamW² comes to an AdamW² with exact σ₁, at every step and matrix of real training.

Looked at from outside: W before and after a step, and AdamW's moments, of which ΔW is made anew, in double
precision; σ₁ by SVD. The learning rate that was used is compared with the exact one where that is cut, and
σ₁ of what the step has done to W, but for decay, with τ σ₁(W).

    python bench/sigma.py [--steps 500] [--presets copy,live] [--seeds 0]
    python bench/sigma.py --as-accelerator    # on the CPU, by the way of one that may not decide on the host

Exit status 1: not as close as demanded.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from course_lib import AdamW2, Run, preset
from course_lib.optim import SIGMA_FLOOR
from course_lib.optim.limit import Chunk

STEPS, OFF, EXCESS = 500, 0.01, 0.02
"""What is demanded: over so many steps, α off by no more in the median, ρ above τ by no more of τ ever."""


def sigma(matrix: Tensor) -> float:
    return torch.linalg.svdvals(matrix.flatten(1))[0].item()


def update(state: dict[str, Tensor], group: dict) -> Tensor:
    """ΔW = m̂/(√v̂ + ε), of the moments after a step."""
    m, v, t = state["exp_avg"].double(), state["exp_avg_sq"].double(), state["step"].item()
    beta1, beta2 = group["betas"]
    return m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + group["eps"])


def step(optimizer: AdamW2) -> Iterator[tuple[float, float, bool]]:
    """Make a step. Of each bounded matrix: how far α is off, by how much ρ exceeds τ, whether α is cut."""
    places = [
        (group, name, p)
        for group in optimizer.param_groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
    ]
    before = [p.detach().double() for _, _, p in places]
    type(optimizer).step(optimizer)
    reports = optimizer.last_step
    for (group, name, p), w in zip(places, before, strict=True):
        if name in reports:
            lr, tau, used = group["lr"], group["tau"], reports[name].lr.item()
            size = max(sigma(w), SIGMA_FLOOR)
            exact = tau * size / sigma(update(optimizer.state[p], group))
            moved = p.detach().double() - w * (1 - used * group["weight_decay"])
            yield abs(used / min(lr, exact) - 1), max(sigma(moved) / size / tau - 1, 0.0), exact < lr


def measured(name: str, seed: int, steps: int, device: str) -> dict[str, float]:
    config = preset(name, optimizer="adamw2", seed=seed, steps=steps, probe_every=0, device=device)
    run, rows = Run(config), []
    run.optimizer.step = lambda: rows.extend(step(run.optimizer))
    for _ in run:
        pass
    off, excess, cut = (np.array(column) for column in zip(*rows, strict=True))
    return {
        "matrices × steps": len(off),
        "cut": cut.mean(),
        "α off where cut, median": np.median(off[cut]),
        "99 %": np.quantile(off[cut], 0.99),
        "worst": off[cut].max(),
        "α off elsewhere, worst": off[~cut].max(initial=0.0),
        "ρ above τ, 99.9 %": np.quantile(excess, 0.999),
        "at its worst": excess.max(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--presets", default="copy,live")
    parser.add_argument("--seeds", default="0", help="such as 0,1,2,3")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--as-accelerator", action="store_true", help="look as often as one would")
    options = parser.parse_args()
    if options.as_accelerator:
        Chunk._host = property(lambda _: False)
    rows = {
        f"{name}, seed {seed}": measured(name, int(seed), options.steps, options.device)
        for name in options.presets.split(",")
        for seed in options.seeds.split(",")
    }
    print(f"{options.steps} steps; shares of α and of τ")
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
