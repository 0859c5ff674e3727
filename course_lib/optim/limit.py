"""The limit of a step: estimates σ₁ of matrices W and of their step D, and the share c of D that is kept.

c ≤ 1 is the largest share for which σ₁(cD) ≤ τ σ₁(W). `AdamW2` lets torch's AdamW kernel write D into memory
of its own and adds cD. `SpectralBound` saves W, lets another optimizer make its step, and cuts that step.

On the CPU a cheap upper bound of σ₁(D) often shows that a matrix needs no cut: first ‖D‖_F, then a tighter
one from products with the last step's vectors. The lower bound of σ₁(W) that it is compared with is the last
estimate minus what the steps since can have taken from it (Weyl's inequality). On an accelerator such a
decision would wait for the device, so every matrix is estimated in every step.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from course_lib.distributed.sharding import local
from course_lib.optim.sigma import (
    COLD_ITERATIONS,
    iterate,
    kept,
    largest_eigenvalue,
    start_block,
    trace,
    upper_bound,
)
from course_lib.optim.stack import Member, Stack, is_sharded, sent

SIGMA_FLOOR = 1e-3
"""σ₁(W) counts as at least this much: a matrix of zeros could otherwise never leave zero."""
STEADY = 0.002
"""On the CPU an estimate counts as converged if the next one exceeds it by less than this share."""
UNSEEN_LOOKS = 2
"""Extra iterations on D on accelerators, which cannot test convergence without a sync. With one, a matrix
exceeded τ by 4.8 % of τ (second step of *copy*, seed 1); with two, none exceeded it by more than 0.3 %
(`bench/sigma.py --as-accelerator --seeds 0,1,2,3`). W changes slowly and needs none."""
KNOWN = ("block_weight", "block_update", "sigma_low")
"""State kept for a bounded parameter between steps: vectors for W and for D, (parts, k, n) each, and a lower
bound of σ₁(W), (parts,)."""

CHUNK = {"cpu": 2**19}
"""Most elements of the matrices that are stepped together, by type of device. This many keep Python's share
of the time small and still fit the CPU's cache between a step's passes over them."""
ACCELERATOR_CHUNK = 2**25


class Chunk:
    """Stacks with the same shorter side n that are bounded together, and what is known of their σ₁."""

    def __init__(self, stacks: list[Stack], known: Mapping[Tensor, dict[str, Any]]) -> None:
        """`known` has a dict for each parameter: its vectors are read from it and then kept in it."""
        self.stacks = stacks
        self.parameters = [parameter for stack in stacks for parameter in stack.parameters]
        self.device, self.dtype = self.parameters[0].device, stacks[0].dtype
        self.size = 2 * sum(stack.shape.numel() for stack in stacks)
        self._counts = [stack.shape[0] for stack in stacks]
        # The order is that of each stack's `both`: vectors for its W, then for its D.
        shape = (stacks[0].short,) * 2
        start = start_block(torch.empty(shape, dtype=self.dtype, device=self.device))
        self._block = start.expand(2 * sum(self._counts), -1, -1).clone()
        self._low = torch.zeros(sum(self._counts), dtype=self.dtype, device=self.device)
        self._views = self._collect(known)
        self._versions = [p._version for p in self.parameters]
        self._taus: list[float] = []
        self.rho_requested = self.factor = self.is_cut = torch.empty(0)

    @property
    def _host(self) -> bool:
        """Whether Python may read results: on an accelerator it would have to wait for them."""
        return self.device.type == "cpu"

    def _collect(self, known: Mapping[Tensor, dict[str, Any]]) -> list[tuple[dict[str, Any], Tensor]]:
        """Copy what is known of each parameter, and put views of this chunk's memory in its place."""
        views, self._cold, self._old = [], False, False
        blocks, lows = self._block.split([2 * c for c in self._counts]), self._low.split(self._counts)
        for stack, block, low in zip(self.stacks, blocks, lows, strict=True):
            each = (vectors.split(stack.split[1]) for vectors in (*block.chunk(2), low))
            for parameter, *own in zip(stack.parameters, *each, strict=True):
                state = known[parameter]
                found = [state[name] for name in KNOWN if name in state]
                if [f.shape for f in found] == [view.shape for view in own]:
                    for f, view in zip(found, own, strict=True):
                        view.copy_(f)
                    self._old = True
                else:
                    self._cold = True
                state.update(zip(KNOWN, own, strict=True))
                views.append((state, own[-1]))
        return views

    def holds(self, known: Mapping[Tensor, dict[str, Any]]) -> bool:
        """True if the state was not replaced (`load_state_dict`, `deepcopy`)."""
        pairs = zip(self.parameters, self._views, strict=True)
        return all(known[p] is state and state.get(KNOWN[-1]) is low for p, (state, low) in pairs)

    def lend(self, memory: Tensor, saved: Tensor | None) -> None:
        """Take workspace, flat tensors of type `dtype`: `size` elements, and half as many to save W in."""
        for stack in self.stacks:
            stack.lend(memory, saved)
            size = stack.shape.numel()
            memory, saved = memory[2 * size :], None if saved is None else saved[size:]

    # --- the step of another optimizer (SpectralBound) --------------------------------------------

    def save(self) -> None:
        """Save the matrices before a step."""
        self._look_for_changes()
        for stack in self.stacks:
            stack.save()

    def cut(self) -> None:
        """Cut the step made since `save` to the τ of each parameter's group."""
        for stack in self.stacks:
            stack.measure()
        norm = torch.cat([stack.norm() for stack in self.stacks])
        scale = torch.ones_like(norm)
        if not self._host or not norm.square().isfinite().all():
            scale = torch.cat([stack.rescale() for stack in self.stacks])
            norm = torch.cat([stack.norm() for stack in self.stacks]) * scale
        self._limit(norm, scale)
        if not self._host or self.is_cut.any():
            factors, cuts = self.factor.split(self._counts), self.is_cut.split(self._counts)
            for stack, factor, cut in zip(self.stacks, factors, cuts, strict=True):
                stack.cut(factor, cut, host=self._host)
        self._after(0.0, norm)

    # --- a step of our own (AdamW2) ---------------------------------------------------------------

    def blank(self) -> list[Tensor]:
        """Zeros for each of the `parameters`, for a kernel to write the step D into."""
        self._blank = [stack.blank() for stack in self.stacks]
        return [blank for blanks in self._blank for blank in blanks]

    def add(self) -> None:
        """Add the step D that was written into `blank`, with decay, both cut to τ."""
        self._look_for_changes()
        for stack, blank in zip(self.stacks, self._blank, strict=True):
            stack.take(blank)
        norm = torch.cat([stack.norm() for stack in self.stacks])
        self._limit(norm, None)
        most = 0.0
        for stack, factor in zip(self.stacks, self.factor.split(self._counts), strict=True):
            stack.add(factor, stack.decays, host=self._host)
            most = max(most, *stack.decays)
        self._after(most, norm)

    # --- σ₁ -----------------------------------------------------------------------------------------

    def _look_for_changes(self) -> None:
        if self._versions != [p._version for p in self.parameters]:
            self._low.zero_()  # changed from outside: σ₁(W) is unknown

    def _limit(self, norm: Tensor, scale: Tensor | None) -> None:
        """Compute `rho_requested`, `factor` and `is_cut` from `norm`, ‖D‖_F (matrices,).

        `scale`, (matrices,), is what `rescale` has divided D by.
        """
        taus = [tau for stack in self.stacks for tau in stack.taus]
        if taus != self._taus:
            self._taus, self._tau = taus, sent(taus, self._low)
        if self._old and self._host:
            self._recheck()
        # A lower bound of 0 says nothing about W: ‖D‖_F is then compared with `SIGMA_FLOOR`.
        if self._host and (norm <= self._tau * self._low.clamp(min=SIGMA_FLOOR)).all():
            self._weight, moved = self._low, norm
        else:
            for stack in self.stacks:
                stack.fill()
            scale = torch.ones_like(norm) if scale is None else scale
            self._weight, moved = self._sigmas(norm, scale)
        self.rho_requested = moved / self._weight.clamp(min=SIGMA_FLOOR)
        # False for NaN, which passes as without a bound.
        self.is_cut = self.rho_requested > self._tau
        self.factor = torch.where(self.is_cut, self._tau / self.rho_requested, 1.0)

    def _recheck(self) -> None:
        """Lower the copied bounds of σ₁(W) where needed: they may belong to older weights."""
        for stack in self.stacks:
            stack.fill()
        seen = look(self._block, [stack.both for stack in self.stacks])
        self._low.copy_(torch.minimum(self._low, self._apart(seen.sigma)[0]))
        self._old = False

    def _sigmas(self, norm: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """σ₁(W) and σ₁(D), (matrices,) each; for σ₁(D) an upper bound, if that is at most τ σ₁(W)."""
        both = [stack.both for stack in self.stacks]
        weights = [matrices[:count] for matrices, count in zip(both, self._counts, strict=True)]
        steps = [matrices[count:] for matrices, count in zip(both, self._counts, strict=True)]
        block = self._block
        for _ in range(COLD_ITERATIONS - 1 if self._cold else 0):
            block = iterate(block, both)[1].block
        w, d = (Look(*each) for each in zip(*map(self._apart, look(block, both)), strict=True))
        if not self._host:
            for _ in range(UNSEEN_LOOKS):
                d = look(d.block, steps)
            self._keep(w, d)
            return w.sigma, d.sigma * scale
        for _ in range(COLD_ITERATIONS):
            most = upper_bound(d.sigma, d.energy, norm / scale) * scale
            undecided = ~(most <= self._tau * w.sigma.clamp(min=SIGMA_FLOOR))
            if not (undecided & (w.rising | d.rising)).any():
                break
            w = look_again(w, weights, undecided & w.rising)
            d = look_again(d, steps, undecided & d.rising)
        self._keep(w, d)
        return w.sigma, torch.where(undecided, d.sigma * scale, most)

    def _keep(self, w: "Look", d: "Look") -> None:
        """Keep these vectors for the next step."""
        parts = zip(*(side.block.split(self._counts) for side in (w, d)), strict=True)
        sigma = zip(*(side.sigma.split(self._counts) for side in (w, d)), strict=True)
        block = torch.cat([part for pair in parts for part in pair])
        self._block.copy_(kept(block, self._block, torch.cat([part for pair in sigma for part in pair])))

    def _apart(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Separate the values of every W from those of every D."""
        if len(self._counts) == 1:
            w, d = both.chunk(2)
            return w, d
        parts = [part.chunk(2) for part in both.split([2 * count for count in self._counts])]
        return torch.cat([w for w, _ in parts]), torch.cat([d for _, d in parts])

    def _after(self, decay: float, norm: Tensor) -> None:
        """Update the lower bound of σ₁(W): the step takes at most decay's share and ‖cD‖_F (Weyl)."""
        low = self._weight - self.factor * (self._weight * decay + norm)
        self._low.copy_(torch.where(low > 0, low, 0.0))  # 0 for NaN: σ₁(W) is unknown
        self._versions = [p._version for p in self.parameters]
        self._cold = False

    def reports(self) -> Iterator[tuple[Member, tuple[Tensor, Tensor, Tensor]]]:
        """Yield each member's `rho_requested`, `factor` and `is_cut` of the last step, if there was one."""
        row = 0
        for stack in self.stacks if len(self.rho_requested) else ():
            parts = stack.split[1]
            for member in stack.members:
                each = slice(row, row + parts) if parts > 1 else row
                yield member, (self.rho_requested[each], self.factor[each], self.is_cut[each])
                row += parts


class Look(NamedTuple):
    """Estimates of σ₁ from products with vectors, one per matrix."""

    block: Tensor
    """The next vectors, (matrices, k, n)."""
    sigma: Tensor
    energy: Tensor
    """Sum of the Ritz values."""
    rising: Tensor
    """bool: whether the estimate still rose by more than `STEADY`."""


def look(block: Tensor, stacks: list[Tensor]) -> Look:
    """Make one iteration from the vectors `block`, (matrices, k, n)."""
    first, after = iterate(block, stacks)
    last, latest = largest_eigenvalue(torch.cat([first.gram, after.gram])).sqrt().chunk(2)
    return Look(after.block, latest, trace(after.gram), latest > last * (1 + STEADY))


def look_again(before: Look, stacks: list[Tensor], where: Tensor) -> Look:
    """Make one more iteration, and use it only for the matrices that `where` (matrices,) marks.

    A matrix's estimate then does not depend on the matrices beside it.
    """
    if not where.any():
        return before
    now = look(before.block, stacks)
    chosen = (where.view(-1, *[1] * (new.ndim - 1)) for new in now)
    return Look(*map(torch.where, chosen, now, before))


class Plan:
    """Bounded parameters in chunks with workspace; rebuilt when the parameters change."""

    def __init__(self, *, together: bool) -> None:
        """With `together`, the chunks have memory to save all matrices at once."""
        self._together = together
        self._made_for: list[Any] = []
        self.chunks: list[Chunk] = []

    def of(self, members: list[Member], known: Mapping[Tensor, dict[str, Any]]) -> list[Chunk]:
        """The members in chunks; `known` is as for `Chunk`."""
        # An id is safe here: the chunks keep groups and parameters alive, so no id is reused.
        wanted = [(id(group), split, id(parameter)) for group, split, _, parameter in members]
        if wanted != self._made_for or not all(chunk.holds(known) for chunk in self.chunks):
            self.chunks = [Chunk(stacks, known) for stacks in _chunked(members)]
            self._made_for = wanted
            for device, dtype in {(chunk.device, chunk.dtype) for chunk in self.chunks}:
                self._lend([c for c in self.chunks if (c.device, c.dtype) == (device, dtype)])
        return self.chunks

    def _lend(self, chunks: list[Chunk]) -> None:
        """Give workspace to chunks of one device and dtype."""
        empty = partial(torch.empty, dtype=chunks[0].dtype, device=chunks[0].device)
        memory = empty(max(chunk.size for chunk in chunks))
        saved = empty(sum(chunk.size for chunk in chunks) // 2) if self._together else None
        for chunk in chunks:
            chunk.lend(memory, saved)
            saved = None if saved is None else saved[chunk.size // 2 :]


def _chunked(members: Iterable[Member]) -> Iterator[list[Stack]]:
    """Yield chunks: stacks of one shape, joined with others of the same n as far as `CHUNK` allows."""
    alike: dict[Any, list[Member]] = {}
    for member in members:
        p = member.parameter
        alone = is_sharded(p) and id(p)
        key = (member.split, p.shape, p.stride(), p.dtype, p.device, alone)
        alike.setdefault(key, []).append(member)
    chunks: dict[Any, list[Stack]] = {}
    for found in alike.values():
        p = found[0].parameter
        limit = CHUNK.get(p.device.type, ACCELERATOR_CHUNK)
        fit = max(1, limit // max(1, local(p).numel()))
        for start in range(0, len(found), fit):
            stack = Stack(found[start : start + fit])
            like = (stack.short, stack.dtype, p.device, is_sharded(p) and id(p))
            chunk = chunks.setdefault(like, [])
            if chunk and sum(s.shape.numel() for s in (*chunk, stack)) > limit:
                yield chunks.pop(like)
                chunk = chunks[like] = []
            chunk.append(stack)
    yield from chunks.values()
