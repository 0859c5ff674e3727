"""σ₁ of a matrix (m, n) whose rows are sharded over processes (FSDP2's `fully_shard`), without gathering it.

Power iteration needs only products of the matrix with vectors. For W @ x each process computes the entries of
its rows, and the m entries are gathered. For Wᵀ @ y the processes' n contributions are summed. An iteration
so moves O(m + n) numbers per vector, and every process ends with the same block.
"""

from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard


def sharded_matrix(shard: Tensor, like: DTensor) -> Tensor:
    """A sharded stack (b, m, n), m ≥ n, in at least fp32, as `as_matrix` makes it of whole matrices.

    The result is not a tensor, but has every attribute that `iterate` and `start_block` use. A shard
    without leading dimensions makes a stack of one matrix.
    """
    local = shard.to_local().flatten(1) if isinstance(shard, DTensor) else shard
    local = local.float() if local.element_size() < 4 else local
    local = local if local.ndim == 3 else local[None]
    group = _shard_group(like)
    rows = like.shape[0]
    chunk = -(-rows // dist.get_world_size(group))  # as torch.chunk: the last processes hold fewer, or none
    start = min(chunk * dist.get_rank(group), rows)
    held = min(chunk, rows - start)
    if local.shape[-2] != held:
        raise ValueError(
            f"the shard has {local.shape[-2]} rows: expected {held}, as many as the parameter has here; "
            "pass the local part of the parameter or of its update"
        )
    matrix = ShardedMatrix(local, rows, start, chunk, group)
    # Transposed as by as_matrix: a block then fits the matrix sharded or whole.
    return cast(Tensor, matrix.mT if rows < local.shape[-1] else matrix)


@dataclass(frozen=True)
class ShardedMatrix:
    """Matrices (b, m, n) with rows sharded over a group, to be multiplied with plain tensors.

    Products are plain whole tensors, the same in all processes. All processes must compute them together.
    """

    local: Tensor
    """This process's rows, (b, held, n)."""
    rows: int
    start: int
    """Number of the first row held here."""
    chunk: int
    """Most rows that any process holds."""
    group: dist.ProcessGroup
    transposed: bool = False

    @property
    def shape(self) -> torch.Size:
        b, _, n = self.local.shape
        return torch.Size((b, n, self.rows) if self.transposed else (b, self.rows, n))

    @property
    def ndim(self) -> int:
        return 3

    @property
    def dtype(self) -> torch.dtype:
        return self.local.dtype

    @property
    def device(self) -> torch.device:
        return self.local.device

    @property
    def mT(self) -> "ShardedMatrix":
        return replace(self, transposed=not self.transposed)

    def __getitem__(self, which: slice) -> "ShardedMatrix":
        """Some of the matrices."""
        return replace(self, local=self.local[which])

    def __matmul__(self, columns: Tensor) -> Tensor:
        """(b, m, n) @ (b, n, k) → (b, m, k)."""
        return self._sum(columns) if self.transposed else self._gather(columns)

    def __rmatmul__(self, rows: Tensor) -> Tensor:
        """(b, k, m) @ (b, m, n) → (b, k, n)."""
        return (self.mT @ rows.mT).mT

    def norm(self) -> Tensor:
        """‖·‖_F of the whole matrices, (b,)."""
        square = self.local.square().sum((-2, -1))
        dist.all_reduce(square, group=self.group)
        return square.sqrt()

    def largest(self) -> Tensor:
        """The largest absolute entry of the whole matrices, (b,)."""
        held = self.local.abs()
        entry = held.amax((-2, -1)) if held.numel() else held.sum((-2, -1))
        dist.all_reduce(entry, dist.ReduceOp.MAX, group=self.group)
        return entry

    def _gather(self, columns: Tensor) -> Tensor:
        """W @ columns: each process computes its own rows."""
        product = (self.local @ columns).movedim(-2, 0)
        part = product.new_zeros(self.chunk, *product.shape[1:])
        part[: len(product)] = product
        whole = part.new_empty(dist.get_world_size(self.group), *part.shape)
        dist.all_gather(list(whole.unbind()), part, group=self.group)
        return whole.flatten(0, 1)[: self.rows].movedim(0, -2)

    def _sum(self, columns: Tensor) -> Tensor:
        """Wᵀ @ columns: each process adds the contribution of its rows."""
        held = self.local.shape[-2]
        total = self.local.mT @ columns[..., self.start : self.start + held, :]
        total = total.contiguous()  # all_reduce needs contiguous memory
        dist.all_reduce(total, group=self.group)
        return total


def _shard_group(like: DTensor) -> dist.ProcessGroup:
    """The processes that share the rows. Other dimensions of the mesh (HSDP) replicate them."""
    dimensions = [i for i, placement in enumerate(like.placements) if not placement.is_replicate()]
    if len(dimensions) != 1 or like.placements[dimensions[0]] != Shard(0):
        raise ValueError(
            f"the parameter is placed as {like.placements}: expected one Shard(dim=0), its rows over the "
            "processes; try fully_shard's own placement"
        )
    return like.device_mesh.get_group(dimensions[0])
