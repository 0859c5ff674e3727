"""Pictures of notebook 04: ellipses, growth against what Weyl allows, ρ over a run, power iteration."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from course_lib.figures.palette import ARM_COLORS, LAYER_COLORS, REFERENCE_COLOR
from course_lib.figures.picture import Picture, finish, label, listed, panels
from course_lib.runs import Run, probed
from course_lib.studies.arms import LABELS

Values = npt.NDArray[np.float64]


def ellipses(w: Tensor, update: Tensor, lr: float) -> Picture:
    """What W and W − αΔW, (2, 2) each, make of the unit circle, and how far Weyl lets the second reach."""
    angle = torch.linspace(0, 2 * torch.pi, 200, dtype=w.dtype)
    circle = torch.stack([angle.cos(), angle.sin()])
    before, after, step = (torch.linalg.svdvals(m)[0].item() for m in (w, w - lr * update, lr * update))
    allowed = before + step
    figure, ((axis,),) = panels(5.2, 5.2)
    for i, (name, matrix) in enumerate({"W": w, "W − αΔW": w - lr * update}.items()):
        axis.plot(*(matrix @ circle).numpy(), color=LAYER_COLORS[i], linewidth=2, label=name)
    limit = {"color": REFERENCE_COLOR, "linestyle": "--", "label": "σ₁(W) + ασ₁(ΔW)"}
    axis.plot(*(allowed * circle).numpy(), **limit)
    edge = 4.2
    axis.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
    axis.legend(frameon=False, fontsize=9, loc="upper right", ncols=3)
    label(axis, "first coordinate", "second coordinate")
    title = f"The reach σ₁ goes from {before:.2f} to {after:.2f}; Weyl allows {allowed:.2f}"
    return finish(figure, title, f"Two ellipses inside a dashed circle of radius {allowed:.2f}. {title}.")


def growth_shares(shares: Mapping[str, Values]) -> Picture:
    """How much of the growth that Weyl allows was used: one row of dots per kind of update.

    Args:
        shares: name → (σ₁(W − αΔW) − σ₁(W)) / (ασ₁(ΔW)), any number of draws. An arm has its colour.
    """
    figure, ((axis,),) = panels(8.4, 0.55 * len(shares) + 1.7)
    names = [LABELS.get(arm, arm) for arm in shares]
    for row, (arm, values) in enumerate(shares.items()):
        color = ARM_COLORS.get(arm, REFERENCE_COLOR)
        axis.plot(values, np.full(len(values), row), "o", color=color, alpha=0.25, markersize=6)
        axis.plot(np.median(values), row, "|", color=color, markersize=22, markeredgewidth=3)
    for edge in (-1, 1):
        axis.axvline(edge, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlim=(-1.08, 1.08), ylim=(len(names) - 0.5, -0.5))
    label(axis, "growth of σ₁, as a share of what Weyl allows (bar: median)", "update")
    facts = [f"{np.median(v):.2f} ({name})" for name, v in zip(names, shares.values(), strict=True)]
    most = max(float(np.abs(values).max()) for values in shares.values())
    kept = "None exceeds what Weyl allows" if most <= 1 + 1e-4 else "Some exceed what Weyl allows"
    title = f"{kept}; median share used {listed(facts)}"
    return finish(figure, title, f"Dots between −1 and 1, one row per kind of update. {title}.")


def rho_history(runs: Mapping[str, Run], tau: float) -> Picture:
    """The largest exact ρ of any W_q or W_k against the step, beside τ.

    Args:
        runs: arm → run with probes.
        tau: where to draw the line.
    """
    figure, ((axis,),) = panels(8, 3.8)
    facts = []
    for i, (arm, run) in enumerate(runs.items()):
        steps, ratios = probed(run.records, "sigma_ratio")
        qk = [j for j, name in enumerate(run.matrices) if "w_q" in name or "w_k" in name]
        largest = ratios[:, qk].max(1)
        name = LABELS.get(arm, arm)
        axis.semilogy(steps, largest, color=ARM_COLORS.get(arm, LAYER_COLORS[i]), linewidth=2, label=name)
        facts.append(f"{largest.max():.2g} ({name})")
    axis.axhline(tau, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
    note = {"color": REFERENCE_COLOR, "va": "bottom", "ha": "right"}
    axis.annotate(f"τ = {tau:g}", (1, tau), xycoords=axis.get_yaxis_transform(), **note)
    axis.legend(frameon=False, fontsize=9)
    label(axis, "step", "largest ρ of W_q, W_k")
    title = f"The largest step of a W_q or W_k beside its matrix: ρ up to {listed(facts)}"
    return finish(figure, title, f"ρ against step, on a logarithmic axis. {title}.")


def power_curves(estimates: Values, gap: float) -> Picture:
    """Estimates of σ₁ by power iteration, as shares of it, one line per random start.

    Args:
        estimates: (starts, iterations + 1), from 0 iterations on.
        gap: σ₂/σ₁ of the matrix.
    """
    figure, ((axis,),) = panels(7.2, 3.4)
    places = np.arange(estimates.shape[1])
    axis.plot(places, estimates.T, color=LAYER_COLORS[0], alpha=0.3, linewidth=1)
    axis.plot(places, np.median(estimates, 0), color=LAYER_COLORS[1], linewidth=2.5, label="median")
    axis.axhline(1, color=REFERENCE_COLOR, linestyle="--", linewidth=1, label="σ₁")
    axis.set_ylim(0, 1.08)
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    label(axis, "iterations", "estimate / σ₁")
    side = "never above" if estimates.max() <= 1 + 1e-6 else "sometimes above"
    short, last = 1 - np.median(estimates[:, -1]), places[-1]
    after = f"after {last} iterations short by {short:.2%} in the median"
    title = f"At σ₂/σ₁ = {gap:.2f} estimates are {side} σ₁, and {after}"
    return finish(figure, title, f"Estimates rising towards σ₁, one line per start. {title}.")


def shortfall(estimates: Mapping[str, Values]) -> Picture:
    """How far estimates of σ₁(ΔW) fall short over a run: the worst matrix of each step.

    Args:
        estimates: method → (steps, matrices), as shares of the exact σ₁.
    """
    figure, ((axis,),) = panels(8, 3.4)
    facts = []
    for i, (name, values) in enumerate(estimates.items()):
        worst = values.min(1)
        axis.plot(worst, color=LAYER_COLORS[i], linewidth=1.5, label=name)
        facts.append(f"{1 - worst.min():.1%} ({name})")
    axis.axhline(1, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
    axis.set_ylim(0, 1.05)
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    label(axis, "step", "lowest estimate / σ₁(ΔW)")
    title = f"At the worst, σ₁ of an update is underestimated by {listed(facts)}"
    return finish(figure, title, f"The lowest estimate of each step as a share of σ₁. {title}.")


def growth_envelope(sigma: Mapping[str, Values], tau: float) -> Picture:
    """σ₁ of matrices over a bounded run, beside the fastest growth that the bound admits.

    Args:
        sigma: matrix → σ₁ at each step from the first on.
        tau: of the bound.
    """
    figure, ((axis,),) = panels(8, 3.6)
    growth = {name: values / values[0] for name, values in sigma.items()}
    steps = np.arange(max(len(values) for values in growth.values()))
    for i, (name, values) in enumerate(growth.items()):
        axis.semilogy(values, color=LAYER_COLORS[i], linewidth=2, label=name)
    axis.semilogy(steps, (1 + tau) ** steps, color=REFERENCE_COLOR, linestyle="--", label=f"(1 + {tau:g})ᵗ")
    top = max(values.max() for values in growth.values())
    axis.set_ylim(0.5, 3 * top)
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    label(axis, "step t", "σ₁(W) / σ₁(W) at the start")
    over = max(float((v / (1 + tau) ** steps[: len(v)]).max()) for v in growth.values())
    kept = "No σ₁ outruns (1 + τ)ᵗ" if over <= 1.01 else f"A σ₁ outruns (1 + τ)ᵗ by {over - 1:.0%}"
    title = f"{kept}; in the end they have grown up to {top:.0f}-fold"
    return finish(figure, title, f"σ₁ against step on a logarithmic axis. {title}.")


def two_paths(losses: Mapping[str, Sequence[float]], difference: Sequence[float]) -> Picture:
    """Losses of one model trained by two optimizers, and how far their weights come apart."""
    figure, ((left, right),) = panels(9.2, 3.2, 1, 2)
    for i, (name, values) in enumerate(losses.items()):
        left.plot(values, color=LAYER_COLORS[i], linestyle="-" if i else "--", linewidth=2.5 - i, label=name)
    left.legend(frameon=False, fontsize=9)
    right.semilogy(np.clip(difference, 1e-9, None), color=LAYER_COLORS[2])
    label(left, "step", "training loss (nats)")
    label(right, "step", "largest difference of a weight (relative)")
    apart = max(abs(a - b) for a, b in zip(*losses.values(), strict=True))
    title = f"{len(difference)} steps: losses differ by {apart:.1g} nats, weights by {max(difference):.1g}"
    return finish(figure, title, f"Two loss curves, and the difference of the weights. {title}.")
