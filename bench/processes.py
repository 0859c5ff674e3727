"""How far are the losses of two processes from those of one, and how long do they take?

python bench/processes.py [--presets live,study] [--steps 50]

AdamW with warmup (a run that crashes would magnify any rounding) and AdamW² without, no probes. Two processes
share every batch (DDP), or the weights too (FSDP2). One thread for each process, also for the one
that is alone, so that times say what sharing costs, not what it gains.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

WAYS = {"one": (1, []), "DDP": (2, []), "FSDP2": (2, ["--fsdp"])}


def train(processes: int, words: list[str], out: Path) -> tuple[np.ndarray, float]:
    """Losses, and seconds a step."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [*start, "-m", "course_lib", "train", *words, "--out", str(out)]
    environment = {**os.environ, "CPU_LIMIT": str(processes)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(ended.stderr)
    table = pd.read_csv(out / "records.csv")
    losses = table[table.quantity == "loss"].value.to_numpy()
    return losses, json.loads((out / "result.json").read_text())["seconds"] / len(losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", default="live,study")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    rows = []
    for preset in options.presets.split(","):
        for optimizer, warmup in (("adamw", options.steps), ("adamw2", 0)):
            words = [f"--preset={preset}", f"--optimizer={optimizer}", f"--warmup={warmup}"]
            words += [f"--steps={options.steps}", "--probe-every=0", "--device=cpu", "--json"]
            found = {}
            with tempfile.TemporaryDirectory() as folder:
                for way, (processes, more) in WAYS.items():
                    found[way] = train(processes, words + more, Path(folder, way))
            one, _ = found["one"]
            for way, (losses, seconds) in found.items():
                difference = np.abs(losses - one).max()
                rows.append(
                    (preset, optimizer, way, one[0], losses[-1], f"{difference:.1e}", f"{1e3 * seconds:.0f}")
                )
    columns = ["preset", "optimizer", "processes", "first loss", "last loss", "difference", "ms a step"]
    print(pd.DataFrame(rows, columns=columns).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
