"""What probing every 10 steps costs a run: probes on and off, ten steps of each in turn.

python bench/probe_cost.py
"""

import torch
from timing import alternate, report

from course_lib import Run, preset

ROUNDS = 30


def main():
    for name in ("live", "study"):
        runs = {every: Run(preset(name, probe_every=every, steps=10_000)) for every in (0, 10)}
        calls = {
            "probes off": lambda r=runs[0]: [r.step().loss for _ in range(10)],
            "every 10 steps": lambda r=runs[10]: [r.step().loss for _ in range(10)],
        }
        times = alternate(calls, ROUNDS if name == "live" else ROUNDS // 3, warmup=2)
        print(f"{name}: ten steps, {torch.get_num_threads()} threads")
        print(report(times, "probes off").to_string(), end="\n\n")


if __name__ == "__main__":
    main()
