"""AdamW² beside torch's fused AdamW: a whole training step, the optimizer alone at GPT-2's size, and memory.

    python bench/adamw2.py

Steps of the two alternate in one process; ratios are of neighbouring steps. How much AdamW² costs depends on
how many matrices the bound cuts: where none is near it, one norm each is enough on the CPU. So a run is
reported in thirds, and the optimizer alone at a learning rate that cuts nothing and at one that cuts all.

How fast AdamW² could be at best with this way to estimate σ₁, on this machine and with torch's products: the
row "at best" counts AdamW's step, and the products with vectors that the estimates are made of, one look at
W and two at D (an accelerator takes three), as if nothing else took time. Where a norm is enough the products
are left out, and a step can be faster than that. The rest is hundreds of calls on small matrices, and the
passes over W and D.
"""

import argparse

import numpy as np
import pandas as pd
import torch
from timing import alternate, report

from course_lib import AdamW2, Run, preset
from course_lib.optim.sigma import start_block

LAYERS, WIDTH = 12, 768
SHAPES = [(WIDTH, WIDTH)] * 4 + [(4 * WIDTH, WIDTH), (WIDTH, 4 * WIDTH)]
"""Of a block of GPT-2 small; its embeddings (50,257 and 1,024 rows) are not bounded."""


def products(optimizer: AdamW2) -> None:
    """The products alone of a step in which every matrix is looked at."""
    for stack in (stack for chunk in optimizer._plan.chunks for stack in chunk.stacks):
        both = stack.both
        steps = both[len(both) // 2 :]
        for matrices in (both, steps):
            block = start_block(matrices)
            block @ matrices.mT @ matrices


def with_best(times: pd.DataFrame) -> pd.DataFrame:
    """The `report`, with AdamW's step and the products alone in a row of their own."""
    return report(times.assign(products=times["adamw"] + times["products"]), "adamw").rename(
        index={"products": "at best"}
    )


def whole_steps(name: str, most: int, device: str) -> pd.DataFrame:
    runs = {o: Run(preset(name, optimizer=o, probe_every=0, device=device)) for o in ("adamw", "adamw2")}
    steps = min(most, runs["adamw"].config.steps)
    contestants = {o: lambda r=r: r.step().loss for o, r in runs.items()}
    contestants["products"] = lambda: products(runs["adamw2"].optimizer)
    times = alternate(contestants, steps - 5)
    thirds = np.array_split(np.arange(len(times)), 3)
    rows = [report(times.iloc[part], "adamw").loc["adamw2"] for part in [np.arange(len(times)), *thirds]]
    rows.append(with_best(times).loc["at best"])
    return pd.DataFrame(rows, index=["whole run", "first third", "second third", "last third", "at best"])


def gpt2_shapes(lr: float, rounds: int, device: str) -> tuple[pd.DataFrame, float]:
    """The optimizers alone on GPT-2 small's shapes, and the share of matrices that the bound cuts."""
    generator = torch.Generator().manual_seed(0)
    shapes = [("block", shape) for _ in range(LAYERS) for shape in SHAPES]
    shapes += [("free", (50257, WIDTH)), ("free", (1024, WIDTH))]
    optimizers = {}
    gradients = [torch.randn(shape, generator=generator).to(device) for _, shape in shapes]
    for name in ("adamw", "adamw2"):
        weights = [0.02 * torch.randn(s, generator=generator) for _, s in shapes]
        parameters = [torch.nn.Parameter(weight.to(device)) for weight in weights]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        if name == "adamw":
            optimizers[name] = torch.optim.AdamW(parameters, lr=lr, fused=True)
        else:
            groups = [
                {
                    "params": [p for p, (kind, _) in zip(parameters, shapes, strict=True) if kind == wanted],
                    "tau": tau,
                }
                for wanted, tau in (("block", 0.05), ("free", None))
            ]
            optimizers[name] = AdamW2(groups, lr=lr)
    contestants = {name: o.step for name, o in optimizers.items()}
    contestants["products"] = lambda: products(optimizers["adamw2"])
    times = alternate(contestants, rounds, warmup=3)
    cut = [bool(r.cut) for r in optimizers["adamw2"].last_step.values()]
    return with_best(times), sum(cut) / len(cut)


def memory(name: str) -> str:
    """What AdamW² keeps beyond AdamW's own state, and what it takes for a moment."""
    run = Run(preset(name, optimizer="adamw2", steps=2, warmup=0, probe_every=0))
    run.step()
    bounded = sum(p.numel() for n, p in run.matrices.items() if n in run.optimizer.last_step)
    kept = sum(
        state[key].numel()
        for state in run.optimizer.state.values()
        for key in state
        if key.startswith("block_")
    )
    every = sum(p.numel() for p in run.model.parameters())
    share = f"kept beside AdamW's state: {kept / every:.1%}"
    return f"{name}: {every:,} parameters, {bounded:,} of them bounded; {share}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", default="live,study")
    parser.add_argument("--steps", type=int, default=600, help="of each preset, at most")
    parser.add_argument("--rounds", type=int, default=10, help="of the optimizer alone; 0: leave it out")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    device = options.device
    print(f"{torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name(device))
    for name in filter(None, options.presets.split(",")):
        print(f"{name}: a whole training step")
        print(whole_steps(name, options.steps, device).to_string(), end="\n\n")
        print(memory(name), end="\n\n")
    for lr, regime in ((1e-5, "nothing"), (1e-2, "everything")) if options.rounds else ():
        table, cut = gpt2_shapes(lr, options.rounds, device)
        print(f"optimizer alone, GPT-2 small's shapes, a learning rate that cuts {regime} ({cut:.0%} cut)")
        print(table.to_string(), end="\n\n")


if __name__ == "__main__":
    main()
