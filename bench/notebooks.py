"""Time and peak memory of every notebook: each run from top to bottom in a kernel of its own.

    python bench/notebooks.py
    python bench/notebooks.py notebooks/01_attention_and_entropy.ipynb

Machines differ in speed, and so does one machine from minute to minute. So each notebook's time is told in
reference steps as well: a training step of the preset `live` with AdamW, timed before and after the notebook.
Memory is the kernel's resident set (with the processes that it starts, shared pages once), its peak sampled
every 50 ms. Nothing is written, and nothing passes or fails by these figures.
"""

import argparse
import contextlib
import threading
import time
from itertools import islice
from pathlib import Path

import psutil
import torch

from book.outputs import course, execute
from course_lib import Run, preset

STEPS = 40


class Peak(threading.Thread):
    """Watches the memory of the kernels that this process has started, and of what they have started."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self.over = threading.Event()

    def run(self) -> None:
        own = psutil.Process()
        while not self.over.wait(0.05):
            total = 0
            children = own.children(recursive=True)
            for child in children:
                with contextlib.suppress(psutil.Error):  # it has just ended
                    total += held(child, shared=len(children) > 1)
            self.bytes = max(self.bytes, total)


def held(process: psutil.Process, *, shared: bool) -> int:
    """Resident bytes; of pages that are shared (such as torch's) its part, where the system tells it."""
    if shared:
        proportional = getattr(process.memory_full_info(), "pss", 0)
        if proportional:
            return int(proportional)
    return int(process.memory_info().rss)


def reference_step() -> float:
    """Seconds that a step of `live` takes now."""
    run = iter(Run(preset("live", probe_every=0)))
    list(islice(run, 5))
    start = time.perf_counter()
    list(islice(run, STEPS))
    return (time.perf_counter() - start) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of the course")
    options = parser.parse_args()
    cores = len(psutil.Process().cpu_affinity() or []) if hasattr(psutil.Process, "cpu_affinity") else "?"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {cores} cores")
    print(f"{'notebook':28} {'seconds':>8} {'reference steps':>16} {'peak MB':>8}")
    seconds, steps, most, before = 0.0, 0.0, 0.0, reference_step()
    for path in options.notebooks or course():
        peak = Peak()
        peak.start()
        start = time.perf_counter()
        execute(path.resolve())
        spent = time.perf_counter() - start
        peak.over.set()
        peak.join()
        after = reference_step()
        ratio = spent / ((before + after) / 2)
        before = after
        print(f"{path.stem:28} {spent:8.1f} {ratio:16,.0f} {peak.bytes / 1e6:8.0f}", flush=True)
        seconds, steps, most = seconds + spent, steps + ratio, max(most, peak.bytes / 1e6)
    print(f"{'all':28} {seconds:8.1f} {steps:16,.0f} {most:8.0f}")


if __name__ == "__main__":
    main()
