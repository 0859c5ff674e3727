"""Weights that are spread over processes by FSDP2: each process holds some rows of every parameter.

Such a parameter is a DTensor. What works on its elements one by one needs nothing from here; what looks at a
matrix as a whole gathers it, and then all processes have to look at the same time.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

# torch.distributed.tensor and torch.distributed.fsdp are imported where they are needed: it takes most of a
# second, and a process that is alone needs neither.


def shard(model: nn.Module, blocks: Iterable[str]) -> None:
    """Leave this process its rows of every parameter, 1/size of the model, which stays the same object.

    Forward and backward gather one block's parameters at a time and let go of them again; gradients are
    averaged over the processes. From here on all processes have to call forward at the same time, also
    without gradients. Where rows cannot be divided evenly, the last processes hold fewer of them, or none.

    Args:
        model: on its device, the same in all processes; no optimizer may hold its parameters yet.
        blocks: names of the modules whose parameters are gathered together; all others stay gathered from the
            start of a forward to the end of its backward.
    """
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    group = dist.group.WORLD
    assert group is not None, "there are no other processes: join them first"
    # Of the group that is there already: for a new one the processes would wait for each other.
    mesh = DeviceMesh.from_group(group, next(model.parameters()).device.type)
    for name in blocks:
        fully_shard(model.get_submodule(name), mesh=mesh)
    fully_shard(model, mesh=mesh)

    def let_go(module: nn.Module, *_: object) -> None:
        # FSDP2 keeps what is outside the blocks gathered for a backward that follows. Where none does, the
        # next forward would take it as it was, whatever has been restored in between.
        if not torch.is_grad_enabled():
            cast(FSDPModule, module).reshard()

    model.register_forward_hook(let_go)


def local(tensor: Tensor) -> Tensor:
    """What of a tensor this process holds: the rows of a sharded one, a view; any other one as it is."""
    return cast(Any, tensor).to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor gathered, in all processes, which all have to call it; any other one as it is."""
    return cast(Any, tensor).full_tensor() if hasattr(tensor, "full_tensor") else tensor


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as they are now, whole. Sharded ones are gathered one by one on the host, which has the room.

    All processes have to call it for sharded tensors.
    """
    return {name: _copy(tensor.detach()) for name, tensor in tensors.items()}


def _copy(tensor: Tensor) -> Tensor:
    gathered = whole(tensor)
    return tensor.clone() if gathered is tensor else gathered.to("cpu", copy=True)


def sharded_like(tensor: Tensor, like: Tensor) -> Tensor:
    """What `whole` undoes: of a whole tensor, the rows that `like` holds here. Nothing is communicated.

    Args:
        tensor: the same in all processes, of the whole shape of `like`.
        like: a sharded tensor; for any other one, `tensor` is returned as it is.
    """
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor

    place = cast(DTensor, like)
    # From replicated to sharded each process cuts out its own.
    replicated = DTensor.from_local(tensor.to(place.device), place.device_mesh, run_check=False)
    return replicated.redistribute(placements=place.placements)
