"""One run on many processes: each trains on its share of every batch, and all have the same weights.

`torchrun --nproc_per_node=2 -m course_lib train …` starts the processes and tells each its place in
environment variables, which `init_process_group` reads. DistributedDataParallel averages the gradients. With
`--fsdp` each process holds a part of the weights, and FSDP2 averages the gradients. The mean over processes
is the mean over the batch: all processes have equally many sequences, with equally many scored positions.

All processes see the same folder: on several machines it has to be on a file system that they share.
"""

import inspect
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from course_lib.devices import resolve_device

T = TypeVar("T")

_LET_GO = 0.1
"""Seconds until gloo's threads have surely let go of the last collective's tensors."""

# Since torch 2.13 `broadcast_buffers` is called `forward_sync_buffers`; the old name warns there.
_SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)

_ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train a run together, and this one's place among them; by default it is alone.

    The fields have torch.distributed's names. torch's own default process group does the communication.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Place among the processes of this machine, and number of its accelerator."""
    local_world_size: int = 1
    fsdp: bool = False
    """Whether each process holds a part of weights and optimizer state (FSDP2), and not all of them (DDP)."""

    @classmethod
    def from_environment(cls) -> "ProcessGroup":
        """This process's place, from torchrun's environment variables; `SINGLE_PROCESS` without them."""
        if not all(name in os.environ for name in _ENVIRONMENT):
            return SINGLE_PROCESS
        rank, world_size, local_rank, local_world_size = (int(os.environ[name]) for name in _ENVIRONMENT[:4])
        return cls(rank, world_size, local_rank, local_world_size)

    @property
    def sharded(self) -> bool:
        """Whether weights are spread over the processes; one alone holds them all anyway."""
        return self.fsdp and self.world_size > 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device of that name for this process: "cuda" and "auto" mean a card of its own.

        Raises:
            ValueError: there is no such device, or the processes cannot compute on it together.
        """
        device = resolve_device(name)
        if self.world_size == 1 or device.type == "cpu":
            return device
        if device.type == "cuda" and device.index is None:
            return resolve_device(f"cuda:{self.local_rank}")
        raise ValueError(
            f"device is {name!r}: expected 'cpu', or 'cuda' to give each of the {self.world_size} processes "
            "a card of its own; try device='cpu'"
        )

    def local_batch_size(self, batch: int) -> int:
        """Sequences of a batch that each process trains on.

        Raises:
            ValueError: the batch cannot be divided evenly.
        """
        if batch % self.world_size:
            raise ValueError(
                f"batch is {batch}: expected a multiple of {self.world_size}, the number of processes; "
                f"try {batch + -batch % self.world_size}"
            )
        return batch // self.world_size

    def local_batch(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """This process's rows of a batch's inputs and targets, (batch, …) → (batch / world_size, …)."""
        n = self.local_batch_size(len(batch[0]))
        mine = slice(self.rank * n, (self.rank + 1) * n)
        return batch[0][mine], batch[1][mine]

    def replicate(self, model: nn.Module, *, unused: bool = False) -> nn.Module:
        """Wrap a model on its device so that backward averages gradients. All processes have to call this.

        `unused` says that some parameters get no gradient at all. A sharded model averages them by itself.
        """
        if self.world_size == 1 or self.sharded:
            return model
        # Buffers hold what never changes: where windows end, which offset is which.
        buffers: dict[str, Any] = {_SYNC_BUFFERS: False}
        return DistributedDataParallel(model, find_unused_parameters=unused, **buffers)

    def all_reduce_mean(self, loss: Tensor) -> Tensor:
        """The mean of all processes' losses. All have to call it; the host waits for no accelerator."""
        if self.world_size == 1:
            return loss
        total = loss.clone()
        dist.all_reduce(total)
        return total / self.world_size

    def any_rank(self, flag: bool) -> bool:
        """Whether `flag` is set in some process. All have to call it, and all wait for each other."""
        if self.world_size == 1:
            return flag
        votes = torch.tensor(int(flag))  # on the CPU, so that no accelerator is waited for
        dist.all_reduce(votes)
        return bool(votes.item())

    def on_every_rank(self, build: Callable[[], T]) -> T:
        """Return the result of `build`, once it has returned in every process.

        Raises:
            ValueError: in all processes the same, the first one's, if `build` raised one in any.
        """
        if self.world_size == 1:
            return build()
        result, problem = None, None
        try:
            result = build()
        except ValueError as error:
            problem = str(error)
        problems: list[str | None] = [None] * self.world_size
        dist.all_gather_object(problems, problem)
        for text in problems:
            if text is not None:
                raise ValueError(text)
        assert result is not None
        return result


SINGLE_PROCESS = ProcessGroup()


def init_process_group() -> ProcessGroup:
    """Meet the other processes that torchrun has started; `destroy_process_group` when done."""
    process_group = ProcessGroup.from_environment()
    if process_group.world_size > 1:
        # gloo also beside nccl: it carries what the host decides, without waiting for the accelerators.
        cuda = torch.cuda.is_available() and dist.is_nccl_available()
        if cuda:
            torch.cuda.set_device(process_group.local_rank % torch.cuda.device_count())
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    return process_group


def destroy_process_group() -> None:
    """End what `init_process_group` began, if it began anything."""
    if dist.is_initialized():
        dist.destroy_process_group()
        # DDP and FSDP2 keep gloo's threads alive. One that lets go of the last tensors only while Python ends
        # aborts the process: on a busy machine jobs failed so, their work done.
        time.sleep(_LET_GO)
