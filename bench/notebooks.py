"""Seconds and peak memory of every notebook: each run from top to bottom in a kernel of its own.

    python bench/notebooks.py
    python bench/notebooks.py notebooks/01_attention_and_entropy.ipynb

Budget: 60 seconds and 1,000 MB each, on two cores. Memory is the kernel's resident set, its peak sampled
every 50 ms; seconds include the kernel's start. Exits with 1 if a notebook fails or is over budget.
"""

import argparse
import contextlib
import sys
import threading
import time
from pathlib import Path

import nbformat
import psutil
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

FOLDER = Path(__file__).parents[1] / "notebooks"
SECONDS = 60
MEGABYTES = 1000


class Peak(threading.Thread):
    """Watches the resident set of the kernels that this process has started."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self.over = threading.Event()

    def run(self) -> None:
        own = psutil.Process()
        while not self.over.wait(0.05):
            total = 0
            for child in own.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += child.memory_info().rss
            self.bytes = max(self.bytes, total)


def measure(path: Path) -> tuple[float, float, str]:
    """Seconds, peak megabytes, and what went wrong, if anything did."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources)
    peak = Peak()
    peak.start()
    start = time.perf_counter()
    problem = ""
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        lines = [line for line in str(error).splitlines() if "Error" in line]
        problem = lines[-1] if lines else type(error).__name__
    seconds = time.perf_counter() - start
    peak.over.set()
    peak.join()
    return seconds, peak.bytes / 1e6, problem


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of the course")
    options = parser.parse_args()
    paths = options.notebooks or sorted(FOLDER.glob("*.ipynb"))
    cores = len(psutil.Process().cpu_affinity() or []) if hasattr(psutil.Process, "cpu_affinity") else "?"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {cores} cores")
    print(f"{'notebook':28} {'seconds':>8} {'peak MB':>8}")
    worst = 0
    for path in paths:
        seconds, megabytes, problem = measure(path)
        over = "" if seconds <= SECONDS and megabytes <= MEGABYTES else "over budget"
        print(f"{path.stem:28} {seconds:8.1f} {megabytes:8.0f}  {problem or over}", flush=True)
        worst |= bool(problem or over)
    return worst


if __name__ == "__main__":
    sys.exit(main())
