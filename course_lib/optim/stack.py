"""Matrices of one shape that are stepped together: as they are before a step, and what it does to them."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from course_lib.sharding import local

Split = tuple[int, int]
"""(dim, parts): a parameter holds several matrices side by side along `dim`, such as fused q, k and v."""


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor's rows lie on several processes (a DTensor)."""
    return hasattr(tensor, "placements")


class Stack:
    """Matrices of one shape, one param group and one way to split, (b, out, …), b = members × parts."""

    def __init__(self, group: dict[str, Any], split: Split, members: Sequence[tuple[str, Tensor]]) -> None:
        self.group, self.split = group, split
        self.names = [name for name, _ in members]
        self.parameters = [parameter for _, parameter in members]
        parameter = self.parameters[0]
        self.dtype = torch.promote_types(parameter.dtype, torch.float32)
        part = self._parts(parameter)[0]
        self.shape = torch.Size((len(members) * split[1], *part.shape))
        rows = parameter.shape[0] if is_sharded(parameter) else part.shape[0]
        self.short = min(rows, part.shape[1:].numel())
        self._turned = rows < part.shape[1:].numel()

    def _parts(self, parameter: Tensor) -> Sequence[Tensor]:
        held = local(parameter)
        return [held] if self.split[1] == 1 else held.chunk(self.split[1], self.split[0])

    def lend(self, before: Tensor, moved: Tensor) -> None:
        """Keep the matrices before a step, and D, in the start of these flat tensors of type `dtype`."""
        size = self.shape.numel()
        before, moved = before[:size].view(self.shape), moved[:size].view(self.shape)
        self._before, self._moved, self._whole = before.unbind(), moved.unbind(), moved.flatten(2)
        self.before, self.moved = self._matrices(before), self._matrices(moved)

    def _matrices(self, held: Tensor) -> Tensor:
        """(b, m, n), m ≥ n, a view; a convolution's kernel is flattened behind its outputs."""
        flat = held.flatten(2)
        if is_sharded(self.parameters[0]):
            from course_lib.optim.sharded import sharded_matrix  # imports what takes a while to import

            return sharded_matrix(flat, cast(Any, self.parameters[0]))
        return flat.mT if self._turned else flat

    def _now(self) -> Iterator[Tensor]:
        """What the parameters hold now, matrix by matrix, as views of their own shape."""
        return (part for parameter in self.parameters for part in self._parts(parameter))

    def save(self) -> None:
        """Note the matrices as they are before a step."""
        for before, now in zip(self._before, self._now(), strict=True):
            before.copy_(now)

    def measure(self, decay: float) -> Tensor:
        """Note D, the step made since `save` but for its decay of W by a share, and return ‖D‖_F, (b,)."""
        for moved, before, now in zip(self._moved, self._before, self._now(), strict=True):
            torch.sub(now, before, alpha=1 - decay, out=moved)
        if is_sharded(self.parameters[0]):
            return self.moved.norm()
        # Row by row, as they lie in memory: over all elements at once torch uses one thread.
        return torch.linalg.vector_norm(torch.linalg.vector_norm(self._whole, dim=-1), dim=-1)

    def rescale(self) -> Tensor:
        """Divide each D by its largest entry, so that no square overflows, and return that, (b,)."""
        largest = largest_entry(self.moved).clamp_(min=torch.finfo(self.dtype).tiny)
        for moved, scale in zip(self._moved, largest, strict=True):
            moved.div_(scale)
        return largest

    def cut(self, factor: Tensor, bound: Tensor) -> None:
        """Keep the share `factor` (b,) of the step where `bound` (b,) says so, and all of it elsewhere."""
        if bound.device.type != "cpu":
            for now, before, c, cut in zip(self._now(), self._before, factor, bound, strict=True):
                wide = now.to(before.dtype)
                # What is not cut stays as it is, bit for bit, even where it is not finite.
                now.copy_(torch.where(cut, torch.lerp(before, wide, c), wide))
            return
        for now, before, c, cut in zip(
            self._now(), self._before, factor.tolist(), bound.tolist(), strict=True
        ):
            if cut and now.dtype == before.dtype:
                torch.lerp(before, now, c, out=now)
            elif cut:
                now.copy_(torch.lerp(before, now.to(before.dtype), c))


def largest_entry(stack: Tensor) -> Tensor:
    """The largest absolute entry of each matrix of a stack (b, m, n), (b,)."""
    return (
        torch.linalg.vector_norm(stack, torch.inf, dim=(-2, -1))
        if isinstance(stack, Tensor)
        else stack.largest()
    )
