"""Matrices of one shape that are stepped together, and the memory of their step."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from course_lib.distributed.sharding import local

Split = tuple[int, int]
"""(dim, parts): a parameter holds several matrices side by side along `dim`, such as fused q, k and v."""


class Member(NamedTuple):
    """A bounded parameter."""

    group: dict[str, Any]
    """Its param group."""
    split: Split
    name: str
    parameter: Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor's rows are sharded over processes (a DTensor)."""
    return hasattr(tensor, "placements")


class Stack:
    """Matrices of one shape and one split, (b, out, …), b = members × parts.

    Its workspace holds the matrices W before a step, then the step D. `both` shows them as (2b, m, n), m ≥ n,
    in at least fp32; a convolution's kernel counts as (out, in·h·w).
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        _, self.split, _, parameter = members[0]
        self.dtype = torch.promote_types(parameter.dtype, torch.float32)
        part = self._parts(parameter)[0].shape
        self.shape = torch.Size((len(members) * self.split[1], *part))
        rows = parameter.shape[0] if is_sharded(parameter) else part[0]
        self.short = min(rows, part[1:].numel())
        self._turned = rows < part[1:].numel()
        plain = parameter.is_contiguous() and parameter.dtype == self.dtype
        self._alike = plain and (self.split[1] == 1 or self.split[0] == 0)
        """Whether a parameter has the memory layout of its matrices here."""

    @property
    def parameters(self) -> list[Tensor]:
        return [member.parameter for member in self.members]

    @property
    def taus(self) -> list[float]:
        """τ of each matrix."""
        return [member.group["tau"] for member in self.members for _ in range(self.split[1])]

    @property
    def decays(self) -> list[float]:
        """lr · λ of each matrix."""
        pairs = [(m.group["lr"], m.group["weight_decay"]) for m in self.members for _ in range(self.split[1])]
        return [lr * weight_decay for lr, weight_decay in pairs]

    def _parts(self, parameter: Tensor) -> Sequence[Tensor]:
        held = local(parameter)
        return [held] if self.split[1] == 1 else held.chunk(self.split[1], self.split[0])

    def _now(self) -> list[Tensor]:
        """The parameters' matrices as views of their own shape."""
        return [part for member in self.members for part in self._parts(member.parameter)]

    def _column(self, values: Tensor) -> Tensor:
        """One number per matrix, (b,), in a shape that multiplies `_steps`."""
        return values.view(-1, *[1] * (len(self.shape) - 1))

    def lend(self, memory: Tensor, saved: Tensor | None) -> None:
        """Work in the first 2b · out · … elements of flat `memory`; save W in half as many of `saved`."""
        self._saved = None if saved is None else saved[: self.shape.numel()].view(self.shape)
        both = memory[: 2 * self.shape.numel()].view(2, *self.shape)
        self._weights, self._steps = both
        flat = both.flatten(0, 1).flatten(2)
        if is_sharded(self.members[0].parameter):
            from course_lib.optim.sharded import sharded_matrix  # slow to import

            self.both = sharded_matrix(flat, cast(Any, self.members[0].parameter))
        else:
            self.both = flat.mT if self._turned else flat

    def fill(self) -> None:
        """Put W into `both`: as saved, or as it is now if nothing is saved."""
        if self._saved is None:
            torch._foreach_copy_(self._weights.unbind(), self._now())
        else:
            self._weights.copy_(self._saved)

    def norm(self) -> Tensor:
        """‖D‖_F, (b,)."""
        if not isinstance(self.both, Tensor):
            return self.both.norm()[self.shape[0] :]
        # Row by row: a norm over all elements at once runs on one thread.
        rows = torch.linalg.vector_norm(self._steps.flatten(2), dim=-1)
        return torch.linalg.vector_norm(rows, dim=-1)

    # --- the step of another optimizer, between `save` and `measure` ------------------------------

    def save(self) -> None:
        """Save the matrices as they are now."""
        assert self._saved is not None
        torch._foreach_copy_(self._saved.unbind(), self._now())

    def measure(self) -> None:
        """Compute D, the step made since `save`."""
        assert self._saved is not None
        for moved, saved, now in zip(self._steps, self._saved, self._now(), strict=True):
            torch.sub(now, saved, out=moved)

    def rescale(self) -> Tensor:
        """Divide each D by its largest entry so that no square overflows; return these entries, (b,)."""
        both = self.both
        largest = both.abs().amax((-2, -1)) if isinstance(both, Tensor) else both.largest()
        largest = largest[self.shape[0] :].clamp(min=torch.finfo(self.dtype).tiny)
        self._steps.div_(self._column(largest))
        return largest

    def cut(self, factor: Tensor, bound: Tensor, *, host: bool) -> None:
        """Keep only the share `factor` (b,) of the steps that `bound` (b,) marks.

        `host` allows Python to read both.
        """
        assert self._saved is not None
        # A step that is not cut stays bit for bit as it is, even if it is not finite.
        if not host:
            torch._foreach_copy_(self._steps.unbind(), self._now())
            new = torch.lerp(self._saved, self._steps, self._column(factor))
            new = torch.where(self._column(bound), new, self._steps)
            torch._foreach_copy_(self._now(), new.unbind())
            return
        for now, saved, c, cut in zip(self._now(), self._saved, factor.tolist(), bound.tolist(), strict=True):
            if cut:
                now.copy_(torch.lerp(saved, now.to(saved.dtype), c))

    # --- a step of our own, between `blank` and `add` ---------------------------------------------

    def blank(self) -> list[Tensor]:
        """Zeros for each parameter, for a kernel to write D into."""
        if not self._alike:
            return [torch.zeros_like(local(parameter)) for parameter in self.parameters]
        self._steps.zero_()
        shape = local(self.members[0].parameter).shape
        return list(self._steps.view(len(self.members), *shape).unbind())

    def take(self, steps: Sequence[Tensor]) -> None:
        """Take D from the tensors that `blank` returned."""
        if not self._alike:
            parts = [part for step in steps for part in self._parts(step)]
            torch._foreach_copy_(self._steps.unbind(), parts)

    def add(self, factor: Tensor, decays: Sequence[float], *, host: bool) -> None:
        """W ← (1 − c·decay) W + cD, with c from `factor` (b,).

        `host` allows Python to read the factors.
        """
        if not host:  # `fill` has then put W beside D
            shrunk = 1 - factor * sent(decays, factor)
            self._steps.mul_(self._column(factor)).addcmul_(self._weights, self._column(shrunk))
            torch._foreach_copy_(self._now(), self._steps.unbind())
            return
        for now, moved, c, d in zip(self._now(), self._steps, factor.tolist(), decays, strict=True):
            if now.dtype != moved.dtype:
                now.copy_(torch.add(moved * c, now, alpha=1 - c * d))
            elif c == 1:
                torch.add(moved, now, alpha=1 - d, out=now)  # one pass
            else:
                now.mul_(1 - c * d).add_(moved, alpha=c)


def sent(values: Sequence[float], like: Tensor) -> Tensor:
    """Numbers as a tensor with the dtype and device of `like`, without a sync."""
    tensor = torch.tensor(values, dtype=like.dtype, pin_memory=like.is_cuda)
    return tensor.to(like.device, non_blocking=True)
