"""How far a step may go: matrices before and after it, σ₁ of both, and the share of the step that is kept.

Both `AdamW2` and `SpectralBound` save the matrices W, have a step made by somebody's own kernel, measure what
it moved, D, and keep W + cD with the largest c ≤ 1 for which σ₁(cD) ≤ τ σ₁(W).

Where the host may decide (on the CPU), bounds of σ₁(D) from above excuse a matrix early: ‖D‖_F, which costs
one pass, and then what one product with the last step's vectors leaves of it. σ₁(W) is then known to be at
least its last estimate less what the steps since can have taken (Weyl's inequality). On an accelerator a
decision would have to wait for the device, so every matrix is estimated in every step.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from course_lib.optim.sigma import (
    COLD_ITERATIONS,
    advance,
    images,
    kept,
    ritz,
    start_block,
    upper_bound,
)
from course_lib.sharding import local

SIGMA_FLOOR = 1e-3
"""σ₁(W) counts as at least this much, else a matrix that starts at zero could never leave it."""
STEADY = 0.05
"""On the CPU an estimate of σ₁(D) stands when the last iteration has raised it by less than this share."""
WARM_ITERATIONS = 2
"""On an accelerator, where nobody can look whether that is so."""
KNOWN = ("block_weight", "block_update", "sigma_low")
"""What is kept of a bounded parameter between steps: vectors to go on from for W and for D, (parts, k, n),
and a lower bound of σ₁(W), (parts,)."""

CHUNK = {"cpu": 2**19}
"""Elements of the matrices that are stepped together, by type of device: so many that Python's share of the
time is small, so few that they stay in the CPU's cache between the passes that a step makes over them."""
ACCELERATOR_CHUNK = 2**24

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
        self._before, self._moved = before.unbind(), moved.unbind()
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
        return frobenius_norm(self.moved)

    def rescale(self) -> Tensor:
        """Divide each D by its largest entry, so that no square overflows, and return that, (b,)."""
        largest = largest_entry(self.moved).clamp_(min=torch.finfo(self.dtype).tiny)
        for moved, scale in zip(self._moved, largest, strict=True):
            moved.div_(scale)
        return largest

    def cut(self, factor: Tensor, bound: Tensor) -> None:
        """Keep the share `factor` (b,) of the step where `bound` (b,) says so, and all of it elsewhere."""
        host = bound.device.type == "cpu"
        factors, cuts = (factor.tolist(), bound.tolist()) if host else (factor, bound)
        for now, before, c, cut in zip(self._now(), self._before, factors, cuts, strict=True):
            if host and not cut:
                continue
            wide = now.to(before.dtype)
            new = torch.lerp(before, wide, c)
            # What is not cut stays as it is, bit for bit, even where it is not finite.
            now.copy_(new if host else torch.where(cut, new, wide))


class Chunk:
    """Stacks of one n (the shorter side) that are bounded together, and what is known of their σ₁."""

    def __init__(self, stacks: list[Stack], known: Mapping[Tensor, dict[str, Any]]) -> None:
        """`known` has a dict for each parameter, in which its vectors are looked for and from now on kept."""
        self.stacks = stacks
        self.device, self.dtype = stacks[0].parameters[0].device, stacks[0].dtype
        self.sizes = [stack.shape.numel() for stack in stacks]
        self._counts = [stack.shape[0] for stack in stacks]
        count = sum(self._counts)
        shape = (stacks[0].short,) * 2
        start = start_block(torch.empty(shape, dtype=self.dtype, device=self.device))
        # Vectors for W of all matrices, then for D of all.
        self._block = start.expand(2 * count, -1, -1).clone()
        self._low = torch.zeros(count, dtype=self.dtype, device=self.device)
        self._views = self._collect(known)
        self._versions = [p._version for p in self.parameters]
        self._taus: tuple[float, ...] = ()
        self.rho = self.factor = self.bound = torch.empty(0)

    @property
    def parameters(self) -> list[Tensor]:
        return [parameter for stack in self.stacks for parameter in stack.parameters]

    def _collect(self, known: Mapping[Tensor, dict[str, Any]]) -> list[tuple[dict[str, Any], Tensor]]:
        """Take over what is known of each parameter, and put views of what will be known in its place."""
        views, row, count, self._cold = [], 0, len(self._low), False
        for stack in self.stacks:
            for parameter in stack.parameters:
                end = row + stack.split[1]
                own = (self._block[row:end], self._block[count + row : count + end], self._low[row:end])
                state = known[parameter]
                found = [state[name] for name in KNOWN if name in state]
                if [f.shape for f in found] == [view.shape for view in own]:
                    for f, view in zip(found, own, strict=True):
                        view.copy_(f)
                else:
                    self._cold = True
                state.update(zip(KNOWN, own, strict=True))
                views.append((state, own[-1]))
                row = end
        return views

    def holds(self, known: Mapping[Tensor, dict[str, Any]]) -> bool:
        """Whether what is kept under the parameters is still what this chunk has put there."""
        pairs = zip(self.parameters, self._views, strict=True)
        return all(known[p] is state and state.get(KNOWN[-1]) is low for p, (state, low) in pairs)

    def lend(self, before: Tensor, moved: Tensor) -> None:
        """Flat tensors of type `dtype` with room for `sum(sizes)` elements each, to work in during a step."""
        start = 0
        for stack, size in zip(self.stacks, self.sizes, strict=True):
            stack.lend(before[start:], moved[start:])
            start += size

    def save(self) -> None:
        """Note the matrices as they are before a step."""
        if self._versions != [p._version for p in self.parameters]:
            self._low.zero_()  # somebody else has changed them
        for stack in self.stacks:
            stack.save()

    def cut(self, decays: Sequence[float]) -> None:
        """Cut the step made since `save` to the τ of each stack's group.

        Args:
            decays: the share of each stack's W that the step took off as decay: not measured, but cut alike.
        """
        tau = self._each(tuple(stack.group["tau"] for stack in self.stacks))
        norm = torch.cat([stack.measure(decay) for stack, decay in zip(self.stacks, decays, strict=True)])
        weight, moved = self._sigmas(norm, tau)
        self.rho = moved / weight.clamp(min=SIGMA_FLOOR)
        self.bound = self.rho > tau  # NaN is no reason to cut: it shows, as it does without a bound
        self.factor = torch.where(self.bound, tau / self.rho, 1.0)
        if self.device.type != "cpu" or self.bound.any():
            factors, bounds = self.factor.split(self._counts), self.bound.split(self._counts)
            for stack, factor, bound in zip(self.stacks, factors, bounds, strict=True):
                stack.cut(factor, bound)
        # Weyl: σ₁(W) has lost its share to decay, and to the step no more than ‖cD‖_F.
        low = weight - self.factor * (weight * max(decays) + norm)
        self._low.copy_(torch.where(low > 0, low, 0.0))  # of a NaN nothing is known
        self._versions = [p._version for p in self.parameters]
        self._cold = False

    def reports(self) -> Iterator[tuple[str, dict[str, Any], tuple[Tensor, Tensor, Tensor]]]:
        """Name and group of each parameter, and its ρ, share kept and whether it was cut in the last step."""
        row = 0
        for stack in self.stacks:
            parts = stack.split[1]
            for name in stack.names:
                each = slice(row, row + parts) if parts > 1 else row
                yield name, stack.group, (self.rho[each], self.factor[each], self.bound[each])
                row += parts

    def _each(self, taus: tuple[float, ...]) -> Tensor:
        if taus != self._taus:
            full = [
                torch.full((count,), tau, dtype=self.dtype, device=self.device)
                for count, tau in zip(self._counts, taus, strict=True)
            ]
            self._taus, self._tau = taus, torch.cat(full)
        return self._tau

    def _sigmas(self, norm: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """σ₁(W) and σ₁(D), (matrices,) each; in place of σ₁(D) a bound of it where that is enough."""
        host = self.device.type == "cpu"
        if host and (norm <= tau * self._low.clamp(min=SIGMA_FLOOR)).all():
            return self._low, norm
        scale = torch.ones_like(norm)
        if not host or not norm.isfinite().all():
            scale = torch.cat([stack.rescale() for stack in self.stacks])
        moved = [stack.moved for stack in self.stacks]
        both = [stack.before for stack in self.stacks] + moved
        image = images(self._block, both)
        if self._cold:
            for _ in range(COLD_ITERATIONS - 1):
                image = images(advance(image, both), both)
        sigma, energy = ritz(image)
        count = len(norm)
        weight, latest = sigma[:count], sigma[count:]
        undecided = torch.ones_like(norm, dtype=torch.bool)
        if host and not self._cold:
            most = upper_bound(latest, energy[count:], norm / scale) * scale
            undecided = ~(most <= tau * weight.clamp(min=SIGMA_FLOOR))
            if not undecided.any():
                return weight, most
        block = advance(image, both)
        image = images(block, both)
        last, (sigma, _) = latest, ritz(image)
        weight, latest = sigma[:count], sigma[count:]
        # σ₁(W) is settled by now: it has moved by no more than τ since the last step. D may turn further.
        ahead, image = block[count:], image[len(moved) :]
        for iteration in range(2, COLD_ITERATIONS):
            if iteration > WARM_ITERATIONS if not host else not rises(last, latest, undecided):
                break
            ahead = advance(image, moved)
            image = images(ahead, moved)
            last, (latest, _) = latest, ritz(image)
        sigma = torch.cat([weight, latest])
        self._block.copy_(kept(torch.cat([block[:count], ahead]), self._block, sigma))
        return weight, latest * scale


def rises(last: Tensor, latest: Tensor, where: Tensor) -> bool:
    """Whether an estimate among those asked about has still grown by more than `STEADY`; waits for it."""
    return bool((where & (latest > last * (1 + STEADY))).any())


Member = tuple[dict[str, Any], Split, str, Tensor]
"""Param group, split, name and parameter."""


class Plan:
    """Parameters in chunks with memory to work in, made anew when others are to be bounded than before."""

    def __init__(self, *, together: bool) -> None:
        """With `together`, all matrices are saved before a step at once, else a chunk at a time."""
        self._together = together
        self._made_for: list[Any] = []
        self.chunks: list[Chunk] = []

    def of(self, members: list[Member], known: Mapping[Tensor, dict[str, Any]]) -> list[Chunk]:
        """The members in chunks; `known` is as for `Chunk`."""
        # By id: the chunks keep groups and parameters alive, so that no other can have theirs.
        wanted = [(id(group), split, id(parameter)) for group, split, _, parameter in members]
        if wanted != self._made_for or not all(chunk.holds(known) for chunk in self.chunks):
            self.chunks = [Chunk(stacks, known) for stacks in _chunked(members)]
            self._made_for = wanted
            for device, dtype in {(chunk.device, chunk.dtype) for chunk in self.chunks}:
                self._lend([c for c in self.chunks if (c.device, c.dtype) == (device, dtype)])
        return self.chunks

    def _lend(self, chunks: list[Chunk]) -> None:
        """Memory to chunks of one device and dtype."""
        sizes = [sum(chunk.sizes) for chunk in chunks]
        empty = partial(torch.empty, dtype=chunks[0].dtype, device=chunks[0].device)
        moved, before = empty(max(sizes)), empty(sum(sizes) if self._together else max(sizes))
        for chunk, size in zip(chunks, sizes, strict=True):
            chunk.lend(before, moved)
            before = before[size:] if self._together else before


def _chunked(members: Iterable[Member]) -> Iterator[list[Stack]]:
    """Stacks of one shape and group, together with others of one n as far as `CHUNK` allows."""
    alike: dict[Any, list[Member]] = {}
    for member in members:
        group, split, _, p = member
        alone = is_sharded(p) and id(p)
        key = (id(group), split, p.shape, p.stride(), p.dtype, p.device, alone)
        alike.setdefault(key, []).append(member)
    chunks: dict[Any, list[Stack]] = {}
    for found in alike.values():
        group, split, _, p = found[0]
        limit = CHUNK.get(p.device.type, ACCELERATOR_CHUNK)
        fit = max(1, limit // max(1, local(p).numel()))
        for start in range(0, len(found), fit):
            stack = Stack(group, split, [(name, p) for _, _, name, p in found[start : start + fit]])
            like = (stack.short, stack.dtype, p.device, is_sharded(p) and id(p))
            chunk = chunks.setdefault(like, [])
            if chunk and sum(s.shape.numel() for s in (*chunk, stack)) > limit:
                yield chunks.pop(like)
                chunk = chunks[like] = []
            chunk.append(stack)
    yield from chunks.values()


def frobenius_norm(stack: Tensor) -> Tensor:
    """‖·‖_F of a stack (b, m, n), (b,)."""
    if not isinstance(stack, Tensor):
        return stack.norm()
    # By rows first: over all elements at once torch uses one thread.
    return torch.linalg.vector_norm(torch.linalg.vector_norm(stack, dim=-1), dim=-1)


def largest_entry(stack: Tensor) -> Tensor:
    """The largest absolute entry of each matrix of a stack (b, m, n), (b,)."""
    return (
        torch.linalg.vector_norm(stack, torch.inf, dim=(-2, -1))
        if isinstance(stack, Tensor)
        else stack.largest()
    )
