"""The device and the threads of a run."""

import os

import torch

from course_lib import checks

DEVICES = ("auto", "cpu", "cuda", "mps", "meta")


def resolve_device(name: str) -> torch.device:
    """Return the device with this name; "auto" is CUDA, else MPS, else the CPU.

    Raises:
        ValueError: the name is unknown, or this machine has no such device.
    """
    kind = checks.choice("device", str(name).partition(":")[0], DEVICES)
    name = str(name)
    if kind == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device is {name!r}: expected a name such as 'cpu' or 'cuda:0'") from None
    available = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind in available and (device.index or 0) >= available[kind]:
        raise ValueError(
            f"device is {name!r}: expected one of this machine, which has {available[kind]} of that kind; "
            "try device='auto'"
        )
    return device


def available_cores() -> int:
    """Number of cores this process may use; CPU_LIMIT lowers it, as `os.cpu_count()` ignores containers."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        limit = max(1, int(float(os.environ["CPU_LIMIT"])))
    except (KeyError, ValueError):
        return allowed or 1
    return min(limit, allowed or 1)


def use_available_cores(processes: int = 1) -> int:
    """Let torch use one thread per available core, and return the number of threads.

    Args:
        processes: number of processes that share this machine's cores evenly.
    """
    cores = max(1, available_cores() // processes)
    # torchrun gives each of several processes a single thread, even if there are more cores.
    if processes > 1 or torch.get_num_threads() > cores:
        torch.set_num_threads(cores)
    return torch.get_num_threads()
