"""Spectra: how energy is distributed over directions, while a model trains and in a Jacobian."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from course_lib.figures.palette import LAYER_COLORS, REFERENCE_COLOR, styled
from course_lib.figures.picture import Picture, Values, finish, label, legend, listed, panels
from course_lib.probes import effective_rank, spectral_energy_concentration, stable_rank
from course_lib.studies.circle import Followed


def _measures(sigma: Tensor, s: int) -> tuple[float, float, float]:
    """SEC(s), stable and effective rank of singular values (…, n), means over the leading dimensions."""
    found = (spectral_energy_concentration(sigma, s), stable_rank(sigma), effective_rank(sigma))
    sec, stable, effective = (value.mean().item() for value in found)
    return sec, stable, effective


def _energy_bars(axis: Axes, sigma: Tensor, s: int, color: str) -> None:
    energy = sigma.square()
    share = (energy / energy.sum(-1, keepdim=True)).reshape(-1, sigma.shape[-1]).mean(0).numpy()
    places = np.arange(1, len(share) + 1)
    axis.bar(places, share, color=[color if i <= s else "#bbbbbb" for i in places])
    limits: dict[str, Any] = {"xlim": (0.3, len(share) + 0.7), "ylim": (0, 1)}
    label(axis, "direction, strongest first", "share of the energy Σσ²", **limits)


def spectrum_bars(sigma: Tensor, s: int) -> Picture:
    """Shares of the energy of singular values (n,), largest first. The first s are in colour."""
    sec, stable, effective = _measures(sigma, s)
    figure, ((axis,),) = panels(6.4, 2.9)
    _energy_bars(axis, sigma, s, LAYER_COLORS[0])
    title = f"SEC({s}) = {sec:.2f}, stable rank {stable:.1f}, effective rank {effective:.1f}"
    alt = f"Bars of σᵢ²/Σσ² over {len(sigma)} directions, the first {s} in colour. {title}."
    return finish(figure, title, alt)


def spectra_at(runs: Mapping[str, Followed], layer: int, step: int, s: int) -> Picture:
    """Shares of the energy of W_qᵀW_k at one step, mean over heads, for each arm's run.

    It shows the last step at or before `step` that `follow` looked at. Layers count from 0.
    """
    figure, axes = panels(9.2, 3.2, 1, len(runs), sharey=True)
    facts, shown = [], []
    for axis, (run, style) in zip(axes[0], styled(runs), strict=True):
        at = int(np.searchsorted(run.steps, step, side="right")) - 1
        sigma = torch.as_tensor(run.spectra[at, layer])
        _energy_bars(axis, sigma, s, style["color"])
        sec, stable, effective = _measures(sigma, s)
        measured = f"stable rank {stable:.1f}, effective {effective:.1f}, σ₁ {sigma[:, 0].mean():.2g}"
        axis.set_title(f"{style['label']}\n{measured}", fontsize=10, color=style["color"])
        facts.append(f"{sec:.2f} ({style['label']})")
        shown.append(int(run.steps[at]))
    title = f"Layer {layer + 1} at step {max(shown)}: SEC({s}) is {listed(facts)}"
    return finish(figure, title, f"Bars of σᵢ²/Σσ² of W_qᵀW_k, mean over heads. {title}.")


def spectrum_history(runs: Mapping[str, Followed], layer: int, s: int) -> Picture:
    """σ₁, SEC(s), stable and effective rank of W_qᵀW_k against the step, means over heads."""
    figure, axes = panels(9.2, 5.2, 2, 2, sharex=True)
    top, sec, stable, effective = axes.flat
    starts, ends = [], []
    for run, style in styled(runs, linewidth=2):
        sigma = torch.as_tensor(run.spectra[:, layer])
        top.semilogy(run.steps, sigma[..., 0].mean(-1), **style)
        shares = spectral_energy_concentration(sigma, s).mean(-1)
        sec.plot(run.steps, shares, **style)
        stable.plot(run.steps, stable_rank(sigma).mean(-1), **style)
        effective.plot(run.steps, effective_rank(sigma).mean(-1), **style)
        starts.append(float(shares[0]))
        ends.append(f"{shares[-1]:.2f} ({style['label']})")
    legend(top)
    label(top, "step", f"σ₁(W_qᵀW_k), layer {layer + 1}")
    label(sec, "step", f"SEC({s}), layer {layer + 1}", ylim=(0, 1.03))
    label(stable, "step", f"stable rank, layer {layer + 1}", ylim=(0, None))
    label(effective, "step", f"effective rank, layer {layer + 1}", ylim=(0, None))
    title = f"Layer {layer + 1}: SEC({s}) goes from {np.mean(starts):.2f} to {listed(ends)}"
    return finish(figure, title, f"Four measures of the spectrum of W_qᵀW_k against step. {title}.")


def jacobian_spectrum(factors: Mapping[str, Tensor]) -> Picture:
    """Singular values of Xᵀ⊗Xᵀ beside all products of two of X's, for each named X (d_model, tokens)."""
    figure, axes = panels(9.2, 3.4, 1, len(factors), sharey=True)
    facts, off = [], 0.0
    for i, (name, x) in enumerate(factors.items()):
        x = x.double()
        sigma = torch.linalg.svdvals(x)
        measured = torch.linalg.svdvals(torch.kron(x.T, x.T))
        products = torch.outer(sigma, sigma).flatten().sort(descending=True).values
        off = max(off, float((measured - products).abs().max() / measured[0]))
        axis = axes[0, i]
        places = np.arange(1, len(measured) + 1)
        axis.loglog(places, measured, color=LAYER_COLORS[i], linewidth=4, alpha=0.4, label="Xᵀ⊗Xᵀ")
        axis.loglog(places, products, ":", color="black", label="products σᵢ(X)σⱼ(X)")
        legend(axis, "lower left")
        label(axis, "singular value, largest first", "size", name)
        ranks = [effective_rank(values).item() for values in (sigma, measured)]
        facts.append(f"{name}: {ranks[0]:.1f} of X, {ranks[1]:.1f} of Xᵀ⊗Xᵀ")
    agree = "are" if off < 1e-6 else "are not"
    title = f"The Jacobian's singular values {agree} the products of X's. Effective ranks, {'; '.join(facts)}"
    return finish(figure, title, f"Singular values of Xᵀ⊗Xᵀ beside the products. {title}.")


def ellipses(w: Tensor, update: Tensor, lr: float) -> Picture:
    """The unit circle after W and after W − αΔW, (2, 2) each, and the reach that Weyl allows the second."""
    angle = torch.linspace(0, 2 * torch.pi, 200, dtype=w.dtype)
    circle = torch.stack([angle.cos(), angle.sin()])
    before, after, step = (torch.linalg.svdvals(m)[0].item() for m in (w, w - lr * update, lr * update))
    allowed = before + step
    figure, ((axis,),) = panels(5.2, 5.2)
    for i, (name, matrix) in enumerate({"W": w, "W − αΔW": w - lr * update}.items()):
        axis.plot(*(matrix @ circle).numpy(), color=LAYER_COLORS[i], linewidth=2, label=name)
    limit = {"color": REFERENCE_COLOR, "linestyle": "--", "label": "σ₁(W) + ασ₁(ΔW)"}
    axis.plot(*(allowed * circle).numpy(), **limit)
    legend(axis, "upper right", ncols=3)
    limits: dict[str, Any] = {"xlim": (-4.2, 4.2), "ylim": (-4.2, 4.2)}
    label(axis, "first coordinate", "second coordinate", aspect="equal", **limits)
    title = f"The reach σ₁ goes from {before:.2f} to {after:.2f}; Weyl allows {allowed:.2f}"
    return finish(figure, title, f"Two ellipses inside a dashed circle of radius {allowed:.2f}. {title}.")


def power_curves(estimates: Values, gap: float) -> Picture:
    """Estimates of σ₁ by power iteration as shares of it, one line per random start.

    Estimates are (starts, iterations + 1), from 0 iterations on; `gap` is σ₂/σ₁ of the matrix.
    """
    figure, ((axis,),) = panels(7.2, 3.4)
    places = np.arange(estimates.shape[1])
    axis.plot(places, estimates.T, color=LAYER_COLORS[0], alpha=0.3, linewidth=1)
    axis.plot(places, np.median(estimates, 0), color=LAYER_COLORS[1], linewidth=2.5, label="median")
    axis.axhline(1, color=REFERENCE_COLOR, linestyle="--", linewidth=1, label="σ₁")
    legend(axis, "lower right")
    label(axis, "iterations", "estimate / σ₁", ylim=(0, 1.08))
    side = "never above" if estimates.max() <= 1 + 1e-6 else "sometimes above"
    short, last = 1 - np.median(estimates[:, -1]), places[-1]
    after = f"after {last} iterations short by {short:.2%} in the median"
    title = f"At σ₂/σ₁ = {gap:.2f} estimates are {side} σ₁, and {after}"
    return finish(figure, title, f"Estimates rising towards σ₁, one line per start. {title}.")
