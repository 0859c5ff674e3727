"""Memory of the bounded optimizers on top of fused AdamW, on the shapes of GPT-2 small or of a preset.

    python bench/optimizer_memory.py [--models gpt2,live]

Each optimizer makes three steps in a process of its own, whose resident memory Linux is asked for: between
steps, and the most during one. No step computes a gradient, so that nothing else comes and goes.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch
from adamw2 import LAYERS, SHAPES, WIDTH

from course_lib import AdamW2, Run, SpectralBound, bounded_parameters, preset

OPTIMIZERS = ("AdamW", "AdamW2", "SpectralBound(AdamW)")
MB = 1e6


def resident(field: str) -> int:
    """Bytes of this process: `VmRSS`, now, or `VmHWM`, the most since it was reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {field}: expected Linux")


class Gpt2(torch.nn.Module):
    """The parameters of GPT-2 small, in blocks, without a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(50257 + 1024, WIDTH)
        self.blocks = torch.nn.ModuleList(
            torch.nn.ModuleList(torch.nn.Linear(n, m) for m, n in SHAPES) for _ in range(LAYERS)
        )


def measured(name: str, kind: str) -> dict[str, float]:
    model = Gpt2() if name == "gpt2" else Run(preset(name, probe_every=0)).model
    names = None
    if name == "gpt2":
        names = [n for n, p in model.named_parameters() if n.startswith("blocks") and p.ndim == 2]
    matrices = bounded_parameters(model, names)
    bounded = sum(m.parameter.numel() for m in matrices.values())
    adamw = {"lr": 1e-3, "weight_decay": 0.1}
    if kind == "AdamW2":
        inside = [(n, p) for n, p in model.named_parameters() if n in matrices]
        rest = [(n, p) for n, p in model.named_parameters() if n not in matrices]
        optimizer = AdamW2([{"params": inside}, {"params": rest, "tau": None}], **adamw)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), **adamw, fused=True)
        if kind != "AdamW":
            optimizer = SpectralBound(optimizer, model=model, names=names)
    for p in model.parameters():
        p.grad = 0.01 * torch.randn_like(p)
    for _ in range(3):
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        optimizer.step()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "bounded": bounded,
        "kept": resident("VmRSS"),
        "most": resident("VmHWM"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="gpt2,live")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(*options.one)))
        return
    for name in options.models.split(","):
        found = {}
        for kind in OPTIMIZERS:
            command = [sys.executable, __file__, "--one", name, kind]
            found[kind] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        table = pd.DataFrame(found).T
        print(
            f"{name}: {table['parameters'].iloc[0]:,.0f} parameters, "
            f"{table['bounded'].iloc[0]:,.0f} bounded, {table['bounded'].iloc[0] * 4 / MB:,.1f} MB"
        )
        beyond = table[["kept", "most"]] - table[["kept", "most"]].loc["AdamW"]
        rows = pd.DataFrame(
            {
                "between steps, MB": table["kept"] / MB,
                "beyond AdamW, MB": beyond["kept"] / MB,
                "most in a step, MB": table["most"] / MB,
                "then beyond AdamW, MB": beyond["most"] / MB,
                "of the bounded matrices": beyond["most"] / (4 * table["bounded"]),
            }
        )
        print(rows.round(2).to_string(), end="\n\n")


if __name__ == "__main__":
    main()
