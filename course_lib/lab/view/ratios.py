"""The panel of step sizes: ρ of every matrix inside the blocks, compared with τ."""

import bqplot
import numpy as np

from course_lib.figures.palette import ARM_COLORS
from course_lib.lab.view.bqplot_marks import Array, DotChart, name_ticks, set_decades
from course_lib.models.parameter_groups import group_of
from course_lib.runs import Record, Run
from course_lib.runs.records import layer_of

_PARTS = {"w_q": "q", "w_k": "k", "w_v": "v", "w_o": "o", "w_in": "in", "w_out": "out"}
LABELLED = 16
"""Largest number of matrices with a name each. If there are more, only the layers have names."""


class StepSizes(DotChart):
    """ρ = α σ₁(ΔW)/σ₁(W) of each matrix at the last probed step.

    ρ of a bounded matrix is the size of its step before the cut. A step above τ was cut and has another mark.
    """

    def __init__(self) -> None:
        kinds = (ARM_COLORS["adamw-warmup"], "circle"), (ARM_COLORS["adamw2"], "triangle-down")
        y, style = bqplot.LogScale(min=1e-3, max=10.0), {"default_size": 40, "stroke": "white"}
        title = "ρ beside τ (▼ cut by the bound)"
        super().__init__(title, "matrix, by layer", "σ₁ ratio ρ", y, *kinds, **style)
        self.free, self.cut = self.kinds
        self.y_axis.tick_format = "~g"

    def reset(self, run: Run) -> None:
        """Show another run's matrices."""
        names = list(run.matrices)
        self._at = [i for i, name in enumerate(names) if layer_of(name) is not None]
        self._names = [matrix_name(names[i]) for i in self._at]
        self.x.max = float(len(self._at) + 1)
        layers = [layer_of(names[i]) for i in self._at]
        first = [i == 0 or layer != layers[i - 1] for i, layer in enumerate(layers)]
        ticks: dict[float, str] = {}
        for i, name in enumerate(self._names):
            if len(self._names) <= LABELLED:
                ticks[i + 1] = name if first[i] else name.split()[-1]
            elif first[i]:
                ticks[i + 1] = name.split()[0]
        name_ticks(self.x_axis, ticks)
        set_decades(self.y, self.y_axis, 1e-3, 10.0)

    def draw_step(self, run: Run) -> None:
        """Show the last step of a run that was probed."""
        record = _last_stepped(run)
        if record is None:
            return
        rho, cut = self._measured(run, record)
        x = np.arange(1.0, len(rho) + 1)
        there = np.isfinite(rho) & (rho > 0)
        if there.any():
            low, high = min(rho[there].min(), 1e-2), max(rho[there].max(), 1.0)
            set_decades(self.y, self.y_axis, low, high)
        self.draw(x[there], rho[there], cut[there], run.tau)

    def describe(self, run: Run) -> str:
        """Say in a sentence what the panel shows."""
        record = _last_stepped(run)
        if record is None:
            return "No step is probed yet."
        rho, cut = self._measured(run, record)
        largest = int(np.nanargmax(np.where(np.isfinite(rho), rho, -1)))
        text = f"At step {record.step} the largest ρ is {rho[largest]:.2g} ({self._names[largest]})"
        if run.tau is None and not cut.any():
            return f"{text}; nothing is bounded."
        named = ", ".join(name for name, is_cut in zip(self._names, cut, strict=True) if is_cut)
        return f"{text}; the bound cut {cut.sum()} of {len(cut)} matrices{': ' + named if named else ''}."

    def _measured(self, run: Run, record: Record) -> tuple[Array, Array]:
        applied = record.probes["rho_applied"][self._at].astype(np.float64)
        if "rho_requested" not in record.probes:
            return applied, np.zeros(len(applied), dtype=bool)
        requested = record.probes["rho_requested"][self._at].astype(np.float64)
        names = [list(run.matrices)[i] for i in self._at]
        taus = np.array([run.tau_of(group_of(name)) for name in names], dtype=np.float64)  # None: NaN
        cut = requested > taus
        return np.where(np.isfinite(requested), requested, applied), cut


def _last_stepped(run: Run) -> Record | None:
    """The record of the last probed step. The record after the last update has no step."""
    return next((r for r in reversed(run.records) if "rho_applied" in r.probes), None)


def matrix_name(name: str) -> str:
    """A matrix's name as short as a tick: "blocks.0.attention.w_q.weight" is "1 q"."""
    parts = [part for part in name.split(".") if part != "weight"]
    layer = layer_of(name)
    last = parts[-1]
    return f"{'' if layer is None else layer + 1} {_PARTS.get(last, last)}".strip()
