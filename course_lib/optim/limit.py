"""How far a step may go: σ₁ of matrices and of what a step does to them, and the share of it that is kept.

Of a step D of the matrices W, cD is kept with the largest c ≤ 1 for which σ₁(cD) ≤ τ σ₁(W). `AdamW2` has D
made by torch's own AdamW kernel in memory of its own, and adds what is kept; `SpectralBound` saves W, lets
another optimizer make its step, and cuts that afterwards.

Where the host may decide (on the CPU), bounds of σ₁(D) from above excuse a matrix early: ‖D‖_F, which costs
one pass, and then what products with the last step's vectors leave of it. σ₁(W) is then known to be at
least its last estimate less what the steps since can have taken (Weyl's inequality). On an accelerator a
decision would have to wait for the device, so every matrix is estimated in every step.
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
"""σ₁(W) counts as at least this much, else a matrix that starts at zero could never leave it."""
STEADY = 0.002
"""On the CPU an estimate stands when that from the other side exceeds it by less than this share. On an
accelerator nobody can look whether that is so."""
UNSEEN_LOOKS = 2
"""So often D is looked at again there, whether it needs that or not. On the CPU once is enough in nearly all
steps; but with once, a matrix came to exceed τ by 4.8 % of τ (second step of *copy*, seed 1), with twice none
by more than 0.3 % (`bench/sigma.py --as-accelerator --seeds 0,1,2,3`). W turns slowly: one look is enough."""
KNOWN = ("block_weight", "block_update", "sigma_low")
"""What is kept of a bounded parameter between steps: vectors to go on from for W and for D, (parts, k, n),
and a lower bound of σ₁(W), (parts,)."""

CHUNK = {"cpu": 2**19}
"""Elements of the matrices that are stepped together, by type of device: so many that Python's share of the
time is small, so few that they stay in the CPU's cache between the passes that a step makes over them."""
ACCELERATOR_CHUNK = 2**25


class Chunk:
    """Stacks of one n (the shorter side) that are bounded together, and what is known of their σ₁."""

    def __init__(self, stacks: list[Stack], known: Mapping[Tensor, dict[str, Any]]) -> None:
        """`known` has a dict for each parameter, in which its vectors are looked for and from now on kept."""
        self.stacks = stacks
        self.parameters = [parameter for stack in stacks for parameter in stack.parameters]
        self.device, self.dtype = self.parameters[0].device, stacks[0].dtype
        self.size = 2 * sum(stack.shape.numel() for stack in stacks)
        self._counts = [stack.shape[0] for stack in stacks]
        # As in each stack's `both`: vectors for its W, then for its D.
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
        """Whether the host may decide: on a device of its own it would have to wait for what it looks at."""
        return self.device.type == "cpu"

    def _collect(self, known: Mapping[Tensor, dict[str, Any]]) -> list[tuple[dict[str, Any], Tensor]]:
        """Take over what is known of each parameter, and put views of what will be known in its place."""
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
        """Whether what is kept under the parameters is still what this chunk has put there."""
        pairs = zip(self.parameters, self._views, strict=True)
        return all(known[p] is state and state.get(KNOWN[-1]) is low for p, (state, low) in pairs)

    def lend(self, memory: Tensor, saved: Tensor | None) -> None:
        """Flat tensors of type `dtype`: `size` elements to work in, and half as many to save matrices in."""
        for stack in self.stacks:
            stack.lend(memory, saved)
            size = stack.shape.numel()
            memory, saved = memory[2 * size :], None if saved is None else saved[size:]

    # --- a step that somebody else makes ----------------------------------------------------------

    def save(self) -> None:
        """Note the matrices as they are before a step."""
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

    # --- a step that is added ---------------------------------------------------------------------

    def blank(self) -> list[Tensor]:
        """Zeros in the place of each of the `parameters`, for a kernel to leave a step D in."""
        self._blank = [stack.blank() for stack in self.stacks]
        return [blank for blanks in self._blank for blank in blanks]

    def add(self) -> None:
        """Add the step that was left in what `blank` gave, with decay, both cut to τ."""
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
            self._low.zero_()  # somebody else has changed them

    def _limit(self, norm: Tensor, scale: Tensor | None) -> None:
        """Find ρ, the share of the step that is kept, and whether it is cut, from ‖D‖_F, (matrices,).

        With `scale`, D is divided by it.
        """
        taus = [tau for stack in self.stacks for tau in stack.taus]
        if taus != self._taus:
            self._taus, self._tau = taus, sent(taus, self._low)
        if self._old and self._host:
            self._recheck()
        # While nothing is known of W, ‖D‖_F is compared with `SIGMA_FLOOR`.
        if self._host and (norm <= self._tau * self._low.clamp(min=SIGMA_FLOOR)).all():
            self._weight, moved = self._low, norm
        else:
            for stack in self.stacks:
                stack.fill()
            scale = torch.ones_like(norm) if scale is None else scale
            self._weight, moved = self._sigmas(norm, scale)
        self.rho_requested = moved / self._weight.clamp(min=SIGMA_FLOOR)
        # NaN is no reason to cut: it shows, as it does without a bound.
        self.is_cut = self.rho_requested > self._tau
        self.factor = torch.where(self.is_cut, self._tau / self.rho_requested, 1.0)

    def _recheck(self) -> None:
        """What was taken over may be of other weights: a restored state's, or those of steps long ago."""
        for stack in self.stacks:
            stack.fill()
        seen = look(self._block, [stack.both for stack in self.stacks])
        self._low.copy_(torch.minimum(self._low, self._apart(seen.sigma)[0]))
        self._old = False

    def _sigmas(self, norm: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """σ₁(W) and σ₁(D), (matrices,) each; in place of σ₁(D) a bound of it where that is enough."""
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
        """Go on from these vectors in the next step."""
        parts = zip(*(side.block.split(self._counts) for side in (w, d)), strict=True)
        sigma = zip(*(side.sigma.split(self._counts) for side in (w, d)), strict=True)
        block = torch.cat([part for pair in parts for part in pair])
        self._block.copy_(kept(block, self._block, torch.cat([part for pair in sigma for part in pair])))

    def _apart(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Of values for each stack's W and D, those for W and those for D."""
        if len(self._counts) == 1:
            w, d = both.chunk(2)
            return w, d
        parts = [part.chunk(2) for part in both.split([2 * count for count in self._counts])]
        return torch.cat([w for w, _ in parts]), torch.cat([d for _, d in parts])

    def _after(self, decay: float, norm: Tensor) -> None:
        """Weyl: σ₁(W) has lost its share to decay, and to the step no more than ‖cD‖_F."""
        low = self._weight - self.factor * (self._weight * decay + norm)
        self._low.copy_(torch.where(low > 0, low, 0.0))  # of a NaN nothing is known
        self._versions = [p._version for p in self.parameters]
        self._cold = False

    def reports(self) -> Iterator[tuple[Member, tuple[Tensor, Tensor, Tensor]]]:
        """Each parameter's ρ, share kept and whether it was cut in the last step, if that came to its end."""
        row = 0
        for stack in self.stacks if len(self.rho_requested) else ():
            parts = stack.split[1]
            for member in stack.members:
                each = slice(row, row + parts) if parts > 1 else row
                yield member, (self.rho_requested[each], self.factor[each], self.is_cut[each])
                row += parts


class Look(NamedTuple):
    """What products with vectors have shown of σ₁, matrix by matrix."""

    block: Tensor
    """The next vectors."""
    sigma: Tensor
    energy: Tensor
    """The sum of all σ² that the vectors see."""
    rising: Tensor
    """bool: whether σ₁ is higher as seen from the other side."""


def look(block: Tensor, stacks: list[Tensor]) -> Look:
    """Go on from vectors (matrices, k, n)."""
    first, after = iterate(block, stacks)
    last, latest = largest_eigenvalue(torch.cat([first.gram, after.gram])).sqrt().chunk(2)
    return Look(after.block, latest, trace(after.gram), latest > last * (1 + STEADY))


def look_again(before: Look, stacks: list[Tensor], where: Tensor) -> Look:
    """Go on from the vectors of `before`, and use that for the matrices of `where` (matrices,) alone.

    So what a matrix comes to does not depend on those beside it.
    """
    if not where.any():
        return before
    now = look(before.block, stacks)
    chosen = (where.view(-1, *[1] * (new.ndim - 1)) for new in now)
    return Look(*map(torch.where, chosen, now, before))


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
        empty = partial(torch.empty, dtype=chunks[0].dtype, device=chunks[0].device)
        memory = empty(max(chunk.size for chunk in chunks))
        saved = empty(sum(chunk.size for chunk in chunks) // 2) if self._together else None
        for chunk in chunks:
            chunk.lend(memory, saved)
            saved = None if saved is None else saved[chunk.size // 2 :]


def _chunked(members: Iterable[Member]) -> Iterator[list[Stack]]:
    """Stacks of one shape, together with others of one n as far as `CHUNK` allows."""
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
