"""Keep torch's idle threads out of the way of the thread that trains.

GNU OpenMP keeps a pool of threads for every thread that has computed something in parallel. If all pools
together have more threads than there are cores, threads that wait go to sleep. Waking them for every
operation halves the speed of a small model. A single cell that trained before is enough for that.
"""

import ctypes
from functools import cache
from typing import Any

SOFT = 1
"""`omp_pause_soft` of OpenMP 5.0: release resources without losing data."""


@cache
def _openmp() -> Any:
    """GNU OpenMP as torch has loaded it, None if torch uses another one."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    # LLVM's OpenMP has GNU's entry points too, but no such pools.
    gnu = hasattr(library, "omp_pause_resource_all") and not hasattr(library, "__kmpc_fork_call")
    return library if gnu else None


def release_threads() -> None:
    """Give back the calling thread's pool; its next parallel operation makes a new one."""
    library = _openmp()
    if library is not None:
        library.omp_pause_resource_all(SOFT)


@cache
def release_threads_after_cells() -> None:
    """In a notebook, give back the pool of the thread that runs the cells after each of them."""
    try:
        from IPython import get_ipython
    except ImportError:
        return
    shell = get_ipython()
    if shell is not None:
        shell.events.register("post_run_cell", lambda _: release_threads())
