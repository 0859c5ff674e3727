"""Weights sharded by FSDP2: each process holds some rows of every parameter, which is then a DTensor.

Elementwise code needs nothing from here. Code that needs a whole matrix gathers it, and all processes must do
so at the same time.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

# Importing torch.distributed.tensor and torch.distributed.fsdp takes most of a second, and a single process
# needs neither, so functions import them.


def shard(model: nn.Module, blocks: Iterable[str]) -> None:
    """Shard a model in place: this process keeps its own rows of every parameter, 1/size of the model.

    Forward and backward gather one block's parameters at a time and release them again. Gradients are
    averaged over the processes. All processes must call forward at the same time, also without gradients. If
    rows cannot be divided evenly, the last processes hold fewer rows, or none.

    Args:
        model: on its device, the same in all processes; no optimizer may hold its parameters yet.
        blocks: names of the modules whose parameters are gathered together. Other parameters stay gathered
            from the start of a forward to the end of its backward.
    """
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    group = dist.group.WORLD
    assert group is not None, "there are no other processes: join them first"
    # Use the existing group: to make a new one the processes would wait for each other.
    mesh = DeviceMesh.from_group(group, next(model.parameters()).device.type)
    for name in blocks:
        fully_shard(model.get_submodule(name), mesh=mesh)
    fully_shard(model, mesh=mesh)

    def let_go(module: nn.Module, *_: object) -> None:
        # FSDP2 keeps parameters outside the blocks gathered until backward. Without a backward, the next
        # forward would use these old values even if others were restored in between.
        if not torch.is_grad_enabled():
            cast(FSDPModule, module).reshard()

    model.register_forward_hook(let_go)


def local(tensor: Tensor) -> Tensor:
    """This process's rows of a sharded tensor, as a view; any other tensor is returned as it is."""
    return cast(Any, tensor).to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor; all processes must call it. Any other tensor is returned as it is."""
    return cast(Any, tensor).full_tensor() if hasattr(tensor, "full_tensor") else tensor


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors, whole. Sharded ones are gathered one by one into host memory.

    All processes must call it for sharded tensors.
    """
    return {name: _copy(tensor.detach()) for name, tensor in tensors.items()}


def _copy(tensor: Tensor) -> Tensor:
    gathered = whole(tensor)
    return tensor.clone() if gathered is tensor else gathered.to("cpu", copy=True)


def sharded_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Shard a whole tensor as `like` is sharded, the reverse of `whole`, without communication.

    `tensor` has the whole shape of `like`. If `like` is not sharded, `tensor` is returned as it is.
    """
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor

    place = cast(DTensor, like)
    # From replicated to sharded, each process takes its own rows.
    replicated = DTensor.from_local(tensor.to(place.device), place.device_mesh, run_check=False)
    return replicated.redistribute(placements=place.placements)
