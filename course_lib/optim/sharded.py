"""σ₁ of a matrix whose rows lie on many processes (FSDP2's `fully_shard`), without ever gathering it.

Power iteration needs a matrix only for its products with vectors. Of the product with its rows each process
computes the entries of the rows it holds, and these are gathered, m for each vector; the product with its
columns is a sum over the processes, n for each vector. So an iteration moves O(m + n) numbers per vector, and
every process ends with the same block.
"""

from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from course_lib.optim.sigma import power_iteration


def sharded_power_iteration(
    shard: Tensor, block: Tensor, iterations: int, like: DTensor
) -> tuple[Tensor, Tensor]:
    """`power_iteration` for a matrix (m, n) that is sharded as the parameter `like` is.

    All processes have to call it, with the same `iterations`.

    Args:
        shard: a parameter or its update: a DTensor, or a plain tensor (…, held, n) with the rows that this
            process holds, which may be none. Leading dimensions as in `power_iteration`.
        block: replicated vectors, as `power_iteration` has them for the whole matrix.
        iterations: as there.
        like: the parameter, (m, …).

    Returns:
        σ₁'s estimate and the next block: plain tensors, the same in all processes.

    Raises:
        ValueError: `like` is not sharded by rows alone, or `shard` holds other rows than `like`.
    """
    return power_iteration(sharded_matrix(shard, like), block, iterations)


def sharded_matrix(shard: Tensor, like: DTensor) -> Tensor:
    """What `as_matrix` is for a whole matrix: no more columns than rows, in at least fp32.

    The result is no tensor, but has all that `power_iteration` and `start_block` use of one: a stack,
    (b, m, n), of one matrix where there are no leading dimensions.
    """
    local = shard.to_local().flatten(1) if isinstance(shard, DTensor) else shard
    local = local.float() if local.element_size() < 4 else local
    local = local if local.ndim == 3 else local[None]
    group = _shard_group(like)
    rows = like.shape[0]
    chunk = -(-rows // dist.get_world_size(group))  # as torch.chunk: the last processes hold less, or nothing
    start = min(chunk * dist.get_rank(group), rows)
    held = min(chunk, rows - start)
    if local.shape[-2] != held:
        raise ValueError(
            f"the shard has {local.shape[-2]} rows: expected {held}, as many as the parameter has here; "
            "pass the local part of the parameter or of its update"
        )
    matrix = ShardedMatrix(local, rows, start, chunk, group)
    # Transposed where as_matrix would: a block then fits the matrix sharded or not.
    return cast(Tensor, matrix.mT if rows < local.shape[-1] else matrix)


@dataclass(frozen=True)
class ShardedMatrix:
    """Matrices (b, m, n), their rows spread over a group, that can be multiplied with plain tensors.

    Products are plain tensors, whole and the same in all processes, which all have to ask for them.
    """

    local: Tensor
    """This process's rows, (b, held, n)."""
    rows: int
    start: int
    """Number of the first row held here."""
    chunk: int
    """Rows that the first process holds; no other holds more."""
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
        """W @ columns: each process computes the rows it holds."""
        product = (self.local @ columns).movedim(-2, 0)
        part = product.new_zeros(self.chunk, *product.shape[1:])
        part[: len(product)] = product
        whole = part.new_empty(dist.get_world_size(self.group), *part.shape)
        dist.all_gather(list(whole.unbind()), part, group=self.group)
        return whole.flatten(0, 1)[: self.rows].movedim(0, -2)

    def _sum(self, columns: Tensor) -> Tensor:
        """Wᵀ @ columns: each process adds what the rows it holds contribute."""
        held = self.local.shape[-2]
        total = self.local.mT @ columns[..., self.start : self.start + held, :]
        total = total.contiguous()  # what is reduced has to lie in one piece
        dist.all_reduce(total, group=self.group)
        return total


def _shard_group(like: DTensor) -> dist.ProcessGroup:
    """The processes that share the rows; along other dimensions of the mesh (HSDP) rows are repeated."""
    dimensions = [i for i, placement in enumerate(like.placements) if not placement.is_replicate()]
    if len(dimensions) != 1 or like.placements[dimensions[0]] != Shard(0):
        raise ValueError(
            f"the parameter is placed as {like.placements}: expected one Shard(dim=0), its rows over the "
            "processes; try fully_shard's own placement"
        )
    return like.device_mesh.get_group(dimensions[0])
