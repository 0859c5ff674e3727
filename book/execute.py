"""Run notebooks, each from top to bottom in a kernel of its own, and keep what came of it.

What is kept lies in build/notebooks: the executed notebook with the state of its widgets, its seconds and its
peak memory. It is used again while nothing that a notebook can read has changed, so that checks, budget and
site share one execution.
"""

import contextlib
import hashlib
import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
KEPT = ROOT / "build" / "notebooks"
CELL_SECONDS = 300
"""After which a cell counts as hanging."""
READ = ("course_lib/**/*.py", "data/manifest.json", "experiments/records/*", "requirements.lock")
"""Beside the notebook itself, what its outputs depend on."""


@dataclass(frozen=True)
class Execution:
    """What became of one notebook."""

    seconds: float
    """From before the kernel starts to after it has ended."""
    megabytes: float
    """Peak of the kernel's resident set, sampled every 50 ms; while it has processes of its own, of all of
    them, with pages that they share counted once."""
    problem: str
    """The line that says what went wrong; empty if every cell ran."""
    file: str
    """The executed notebook, complete up to the cell that failed."""

    def notebook(self) -> nbformat.NotebookNode:
        """The executed notebook."""
        return nbformat.read(self.file, as_version=4)


def course() -> list[Path]:
    """The notebooks, in reading order."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def executed(path: Path, *, again: bool = False) -> Execution:
    """The notebook's execution: the one that was kept, if it still holds, else a new one, kept in turn."""
    folder = KEPT / path.stem
    record = folder / f"{_digest(path)}.json"
    if not again and record.exists():
        return Execution(**json.loads(record.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    execution = _execute(path, folder / "executed.ipynb")
    for old in folder.glob("*.json"):
        old.unlink()
    if not execution.problem:  # what failed is tried again
        part = record.with_suffix(".part")
        part.write_text(json.dumps(asdict(execution)), encoding="utf-8")
        part.replace(record)
    return execution


def _execute(path: Path, out: Path) -> Execution:
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", resources=resources)
    problem = ""
    peak = _Peak()
    peak.start()
    start = time.perf_counter()
    try:
        # No reader has solved anything here.
        client.execute(env=os.environ | {"COURSE_LIB_PROGRESS": "off"})
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        lines = [line for line in str(error).splitlines() if "Error" in line]
        problem = lines[-1] if lines else type(error).__name__
    seconds = time.perf_counter() - start
    peak.over.set()
    peak.join()
    nbformat.write(notebook, out)
    return Execution(seconds, peak.bytes / 1e6, problem, str(out))


class _Peak(threading.Thread):
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
                    total += _held(child, shared=len(children) > 1)
            self.bytes = max(self.bytes, total)


def _held(process: psutil.Process, *, shared: bool) -> int:
    """Resident bytes; of pages that are shared (such as torch's) its part, where the system tells it."""
    if shared:
        proportional = getattr(process.memory_full_info(), "pss", 0)
        if proportional:
            return int(proportional)
    return int(process.memory_info().rss)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes() + _library().encode()).hexdigest()[:16]


@cache
def _library() -> str:
    files = sorted(file for pattern in READ for file in ROOT.glob(pattern))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()
