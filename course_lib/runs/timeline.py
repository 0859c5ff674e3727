"""Snapshots of a run in bounded memory, to rewind it."""

import mmap
import os
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from course_lib import checks
from course_lib.distributed.sharding import copies, local
from course_lib.runs.run import Run
from course_lib.runs.snapshot import Snapshot

BUDGET = 64 * 2**20
"""Default limit of a timeline's memory, in bytes."""
EVERY = 10
"""Steps between two moments of a run without probes. Other runs keep one at every probe."""

ALIGNMENT = 64
"""Bytes, as torch aligns its own tensors."""
PRIVATE = {} if os.name == "nt" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
"""Private memory is allocated in three quarters of the time."""


class _Moment(NamedTuple):
    snapshot: Snapshot
    """Without records: the run still has them."""
    records: int
    """How many records the run had."""
    size: int
    """Bytes."""


class Timeline:
    """Snapshots of one run while it trains, thinned so that they stay within a budget.

    If there is no room, the moment is dropped whose neighbours lie closest together, relative to its distance
    from the nearer end. The first and the last moment stay. The rest is dense near both ends: in the first
    steps, where runs without warmup crash, and just before the present.

    Args:
        run: its records are not copied, so it must not be restored to an earlier step.
        budget: bytes that weights and optimizer state of all moments may take together.

    Raises:
        ValueError: the budget is no positive number of bytes.
    """

    def __init__(self, run: Run, budget: int = BUDGET) -> None:
        self.run = run
        self.every = run.config.probe_every or EVERY
        self._moments: dict[int, _Moment] = {}
        self.budget = budget

    @property
    def budget(self) -> int:
        """Bytes that the moments may take. A smaller budget takes effect at once."""
        return self._budget

    @budget.setter
    def budget(self, value: int) -> None:
        self._budget = checks.count("budget", value, hint=" of bytes; try 64 * 2**20")
        self._thin()

    @property
    def steps(self) -> tuple[int, ...]:
        """The kept moments: how many updates the run had made, in order."""
        return tuple(self._moments)

    @property
    def size(self) -> int:
        """Bytes that the kept moments take."""
        return sum(moment.size for moment in self._moments.values())

    def keep_if_due(self) -> None:
        """Keep the run as it is now if the next moment is due. Call this before each step."""
        if self.run.updates % self.every == 0:
            self.keep()

    def keep(self) -> None:
        """Keep the run as it is now, unless it is kept already or larger than the whole budget."""
        step = self.run.updates
        kept = self._moments.get(step)
        if kept is not None and kept.snapshot.settings is self.run.settings:
            self._moments[step] = kept._replace(records=len(self.run.records))
            return
        weights = sum(t.numel() * t.element_size() for t in self.run.model.parameters())
        if 3 * weights > self.budget:  # with AdamW's two moments
            return
        snapshot = replace(self.run.snapshot(_apart), records=())
        size = sum(t.numel() * t.element_size() for t in snapshot.tensors.values())
        self._moments[step] = _Moment(snapshot, len(self.run.records), size)
        self._thin()

    def at(self, step: int) -> Snapshot:
        """The last moment kept at or before `step`, records included.

        Raises:
            ValueError: there is none.
        """
        checks.count("step", step, least=0)
        before = [s for s in self._moments if s <= step]
        if not before:
            hint = "a later step" if self._moments else "it again after some steps of training"
            raise ValueError(
                f"step is {step!r}: expected a kept moment at or before it; {self.holds()}; try {hint}"
            )
        moment = self._moments[max(before)]
        return replace(moment.snapshot, records=tuple(self.run.records[: moment.records]))

    def holds(self) -> str:
        """Say what is kept, and how much room it takes."""
        room = f"{self.budget / 2**20:.3g} MB"
        if not self._moments:
            return f"nothing is kept yet, of {room}"
        first, last = self.steps[0], self.steps[-1]
        used = f"{self.size / 2**20:.1f} of {room}"
        if first == last:
            return f"one moment is kept, step {first} ({used})"
        return f"{len(self.steps)} moments are kept, from step {first} to {last} ({used})"

    def _thin(self) -> None:
        while self._moments and self.size > self.budget:
            steps = self.steps
            if len(steps) < 3:
                del self._moments[steps[0]]  # room for one or two alone: the newest
                continue
            least = min(range(1, len(steps) - 1), key=lambda i: _missed(steps, i))
            del self._moments[steps[least]]


def _missed(steps: tuple[int, ...], i: int) -> float:
    """The gap that a moment would leave, relative to its distance from the nearer end."""
    hole = steps[i + 1] - steps[i - 1]
    return hole / min(steps[i] - steps[0], steps[-1] - steps[i])


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to separate memory, which returns to the system when the copies are dropped.

    Thousands of copies on the heap would fragment it. Tensors on accelerators and sharded ones are copied as
    for any snapshot.
    """
    if any(tensor.device.type != "cpu" or local(tensor) is not tensor for tensor in tensors.values()):
        return copies(tensors)
    sizes = [-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors.values()]
    memory = torch.frombuffer(mmap.mmap(-1, sum(sizes), **PRIVATE), dtype=torch.uint8)
    return {
        name: block[: tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())
        for (name, tensor), block in zip(tensors.items(), memory.split(sizes), strict=True)
    }
