"""A branch's records as the curves that charts draw. Only new records are read."""

from bisect import bisect_left

import numpy as np

from course_lib.lab.session.branches import Branch
from course_lib.lab.view.bqplot_marks import Array
from course_lib.runs import Verdict, mean_over_heads
from course_lib.runs.records import layer_of

QUANTITIES = ("entropy", "qk_sec", "qk_sigma", "rho_applied")
"""Quantities drawn by layer: the first two as means over the heads, the others as largest values."""
MAX_POINTS = 400
"""Largest number of points of a curve; more would not be visible."""


def thinned(n: int) -> Array:
    """Indices of at most `MAX_POINTS` of n points, the last one among them."""
    every = -(-n // MAX_POINTS)
    return np.arange(n)[::-1][::every][::-1] if n else np.arange(0)


class Curves:
    """The curves of one branch."""

    def __init__(self, branch: Branch) -> None:
        self.branch = branch
        self.losses: list[float] = []
        self.verdict: Verdict | None = None
        """At the last probe, or at the end."""
        self._seen = 0
        self._steps: dict[str, list[int]] = {q: [] for q in QUANTITIES}
        self._values: dict[str, list[Array]] = {q: [] for q in QUANTITIES}
        layers = [layer_of(name) for name in branch.run.matrices]
        blocks = sorted({layer for layer in layers if layer is not None})
        self._members = [np.flatnonzero([layer == block for layer in layers]) for block in blocks]

    def read_losses(self) -> bool:
        """Read the losses of new records; True if there are any."""
        new = self.branch.run.records[len(self.losses) :]
        self.losses += [record.loss for record in new]
        return bool(new)

    def read_probes(self) -> bool:
        """Read the probes of the records whose losses are read; True if there is anything new."""
        records = self.branch.run.records[self._seen : len(self.losses)]
        self._seen += len(records)
        probed = [record for record in records if record.probes]
        for record in probed:
            for quantity in QUANTITIES:
                if quantity in record.probes:  # there is no step to measure after the last update
                    self._steps[quantity].append(record.step)
                    self._values[quantity].append(self._by_layer(quantity, record.probes[quantity]))
        if probed or (records and self.branch.run.finished):
            self.verdict = self.branch.run.verdict()
            return True
        return False

    def _by_layer(self, quantity: str, values: Array) -> Array:
        if quantity == "rho_applied":
            return np.array([values[members].max() for members in self._members])
        if quantity == "qk_sigma":
            return np.fmax.reduce(values, axis=-1)
        return mean_over_heads(values)

    def loss(self) -> tuple[Array, Array]:
        """Steps (n,) and losses (n,) of the branch's own steps, thinned."""
        at = thinned(len(self.losses) - self.branch.first_step) + self.branch.first_step
        return at.astype(np.float64), np.array([self.losses[i] for i in at])

    def layers(self, quantity: str, *, whole: bool = True) -> tuple[Array, Array]:
        """Steps (n,) and values (layers, n), thinned; unless `whole`, of the branch's own steps only."""
        steps, values = self._steps[quantity], self._values[quantity]
        begin = 0 if whole else bisect_left(steps, self.branch.first_step)
        at = thinned(len(steps) - begin) + begin
        if not len(at):
            return np.empty(0), np.empty((0, 0))
        return np.array([steps[i] for i in at], dtype=np.float64), np.stack([values[i] for i in at], axis=1)

    def extreme(self, quantity: str) -> tuple[Array, Array]:
        """Steps (n,) and values (n,) of the worst layer: least entropy, largest σ₁ and ratio."""
        steps, values = self.layers(quantity, whole=False)
        if not len(steps):
            return steps, steps
        worst = np.fmin if quantity == "entropy" else np.fmax
        return steps, worst.reduce(values, axis=0)


def side_by_side(lines: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Turn lines of different lengths into two arrays (lines, n) by repeating the last points of short lines.

    A line without points repeats the first point of another line. Browsers log errors for NaN.
    """
    there = [line for line in lines if len(line[0])]
    if not there:
        return np.empty((len(lines), 0)), np.empty((len(lines), 0))
    n = max(len(x) for x, _ in there)
    padded = [line if len(line[0]) else (there[0][0][:1], there[0][1][:1]) for line in lines]
    x, y = (
        np.stack([np.pad(line[i], (0, n - len(line[i])), mode="edge") for line in padded]) for i in (0, 1)
    )
    return x, y
