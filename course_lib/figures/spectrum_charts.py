"""Pictures of notebook 03: spectra while they train, the Jacobian's, the circle's links, entropy's floor."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from course_lib.figures.palette import ARM_COLORS, LAYER_COLORS, REFERENCE_COLOR
from course_lib.figures.picture import Picture, finish, label, listed, panels
from course_lib.probes import effective_rank, spectral_energy_concentration, stable_rank
from course_lib.studies.arms import LABELS
from course_lib.studies.circle import LINKS, Followed

Values = npt.NDArray[np.float32]


def _measures(sigma: Tensor, s: int) -> tuple[float, float, float]:
    """SEC(s), stable and effective rank of singular values (…, n), means over the leading dimensions."""
    found = (spectral_energy_concentration(sigma, s), stable_rank(sigma), effective_rank(sigma))
    sec, stable, effective = (value.mean().item() for value in found)
    return sec, stable, effective


def _style(arm: str, i: int) -> dict[str, Any]:
    return {"color": ARM_COLORS.get(arm, LAYER_COLORS[i]), "label": LABELS.get(arm, arm)}


def _energy_bars(axis: Axes, sigma: Tensor, s: int, color: str) -> None:
    energy = sigma.square()
    share = (energy / energy.sum(-1, keepdim=True)).reshape(-1, sigma.shape[-1]).mean(0).numpy()
    places = np.arange(1, len(share) + 1)
    axis.bar(places, share, color=[color if i <= s else "#bbbbbb" for i in places])
    axis.set_xlim(0.3, len(share) + 0.7)
    axis.set_ylim(0, 1)
    label(axis, "direction, strongest first", "share of the energy Σσ²")


def spectrum_bars(sigma: Tensor, s: int) -> Picture:
    """How one spectrum's energy is shared out, the first s directions in colour.

    Args:
        sigma: singular values (n,), in descending order.
        s: of SEC(s).
    """
    sec, stable, effective = _measures(sigma, s)
    figure, ((axis,),) = panels(6.4, 2.9)
    _energy_bars(axis, sigma, s, LAYER_COLORS[0])
    title = f"SEC({s}) = {sec:.2f}, stable rank {stable:.1f}, effective rank {effective:.1f}"
    alt = f"Bars of σᵢ²/Σσ² over {len(sigma)} directions, the first {s} in colour. {title}."
    return finish(figure, title, alt)


def spectra_at(runs: Mapping[str, Followed], layer: int, step: int, s: int) -> Picture:
    """How the energy of W_qᵀW_k is shared out at one step, runs side by side, means over heads.

    Args:
        runs: arm → what `follow` returned.
        layer: counted from 0.
        step: the last one looked at that is not after it is shown.
        s: of SEC(s).
    """
    figure, axes = panels(9.2, 3.2, 1, len(runs), sharey=True)
    facts, shown = [], []
    for i, (arm, run) in enumerate(runs.items()):
        at = int(np.searchsorted(run.steps, step, side="right")) - 1
        sigma = torch.as_tensor(run.spectra[at, layer])
        style = _style(arm, i)
        _energy_bars(axes[0, i], sigma, s, style["color"])
        sec, stable, effective = _measures(sigma, s)
        measured = f"stable rank {stable:.1f}, effective {effective:.1f}, σ₁ {sigma[:, 0].mean():.2g}"
        axes[0, i].set_title(f"{style['label']}\n{measured}", fontsize=10, color=style["color"])
        facts.append(f"{sec:.2f} ({style['label']})")
        shown.append(int(run.steps[at]))
    title = f"Layer {layer + 1} at step {max(shown)}: SEC({s}) is {listed(facts)}"
    return finish(figure, title, f"Bars of σᵢ²/Σσ² of W_qᵀW_k, mean over heads. {title}.")


def spectrum_history(runs: Mapping[str, Followed], layer: int, s: int) -> Picture:
    """σ₁, SEC(s), stable and effective rank of W_qᵀW_k against the step, means over heads."""
    figure, axes = panels(9.2, 5.2, 2, 2, sharex=True)
    top, sec, stable, effective = axes.flat
    starts, ends = [], []
    for i, (arm, run) in enumerate(runs.items()):
        style = _style(arm, i) | {"linewidth": 2}
        sigma = torch.as_tensor(run.spectra[:, layer])
        top.semilogy(run.steps, sigma[..., 0].mean(-1), **style)
        shares = spectral_energy_concentration(sigma, s).mean(-1)
        sec.plot(run.steps, shares, **style)
        stable.plot(run.steps, stable_rank(sigma).mean(-1), **style)
        effective.plot(run.steps, effective_rank(sigma).mean(-1), **style)
        starts.append(float(shares[0]))
        ends.append(f"{shares[-1]:.2f} ({style['label']})")
    top.legend(frameon=False, fontsize=9)
    sec.set_ylim(0, 1.03)
    for axis in (stable, effective):
        axis.set_ylim(bottom=0)
    names = ("σ₁(W_qᵀW_k)", f"SEC({s})", "stable rank", "effective rank")
    for axis, name in zip(axes.flat, names, strict=True):
        label(axis, "step", f"{name}, layer {layer + 1}")
    title = f"Layer {layer + 1}: SEC({s}) goes from {np.mean(starts):.2f} to {listed(ends)}"
    return finish(figure, title, f"Four measures of the spectrum of W_qᵀW_k against step. {title}.")


def jacobian_spectrum(factors: Mapping[str, Tensor]) -> Picture:
    """Singular values of Xᵀ⊗Xᵀ, beside all products of two singular values of X.

    Args:
        factors: name → X (d_model, tokens).
    """
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
        axis.set_title(name, fontsize=10)
        axis.legend(frameon=False, fontsize=9, loc="lower left")
        label(axis, "singular value, largest first", "size")
        ranks = [effective_rank(values).item() for values in (sigma, measured)]
        facts.append(f"{name}: {ranks[0]:.1f} of X, {ranks[1]:.1f} of Xᵀ⊗Xᵀ")
    agree = "are" if off < 1e-6 else "are not"
    title = f"The Jacobian's singular values {agree} the products of X's. Effective ranks, {'; '.join(facts)}"
    return finish(figure, title, f"Singular values of Xᵀ⊗Xᵀ beside the products. {title}.")


def circle_history(runs: Mapping[str, Followed], layer: int, until: int) -> Picture:
    """The links of the circle against the step, one panel for each, every run from its start to `until`."""
    figure, axes = panels(9.6, 4.9, 2, 3, sharex=True)
    facts = []
    for i, (arm, run) in enumerate(runs.items()):
        style = _style(arm, i) | {"linewidth": 2}
        table = run.of(layer).loc[:until]
        for axis, name in zip(axes.flat, LINKS, strict=False):
            axis.plot(table.index, table[name], **style)
        end = table.iloc[-1]
        facts.append(
            f"{style['label']}: X at {end['tokens']:.1f}, W_qᵀW_k at {end['product']:.1f}, "
            f"entropy {end['entropy']:.2f}"
        )
    for axis, text in zip(axes.flat, LINKS.values(), strict=False):
        axis.set_title(text, fontsize=10)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("step")
        axis.xaxis.set_tick_params(labelbottom=True)
    for row, name in enumerate(("effective rank", "rank, or entropy")):
        axes[row, 0].set_ylabel(name)
    last = axes.flat[-1]
    last.axis("off")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    last.legend(handles, labels, frameon=False, fontsize=10, loc="center")
    title = f"Layer {layer + 1}, step {until}. " + "; ".join(facts)
    return finish(figure, title, f"Five links against step. {title}.")


def gradient_beside_update(followed: Followed, until: int) -> Picture:
    """Effective rank of W_q's gradient and of what Adam makes of it, by layer, mean over heads."""
    layers = followed.table.index.get_level_values("layer").unique()
    figure, axes = panels(9.2, 3.2, 1, len(layers), sharey=True)
    facts = []
    for layer, axis in zip(layers, axes[0], strict=True):
        table = followed.of(layer).loc[:until]
        axis.plot(table.index, table["gradient_q"], color=LAYER_COLORS[0], label="gradient of W_q")
        axis.plot(table.index, table["update"], color=LAYER_COLORS[1], label="Adam's update ΔW")
        axis.set_title(f"layer {layer + 1}", fontsize=10)
        axis.set_ylim(bottom=0)
        label(axis, "step", "effective rank, per head")
        end = table[["gradient_q", "update"]].median()
        facts.append(f"{end['gradient_q']:.1f} and {end['update']:.1f} in layer {layer + 1}")
    axes[0, 0].legend(frameon=False, fontsize=9)
    title = f"Median effective rank of gradient and update: {', '.join(facts)}"
    return finish(figure, title, f"Effective rank against step, gradient below update or not. {title}.")


def floor_history(runs: Mapping[str, Followed], layer: int, until: int) -> Picture:
    """Measured entropy, and the least that the scores' range and that σ₁ admit, runs side by side."""
    figure, axes = panels(9.2, 3.5, 1, len(runs), sharey=True)
    gone, held = [], True
    for i, (arm, run) in enumerate(runs.items()):
        axis, style = axes[0, i], _style(arm, i)
        table = run.of(layer).loc[:until]
        color = style["color"]
        axis.plot(table["entropy"], color=color, linewidth=2, label="measured")
        axis.plot(table["floor"], color=color, linestyle="--", label="floor of the scores' range")
        axis.plot(table["sigma_floor"], color=REFERENCE_COLOR, linestyle=":", label="floor of σ₁")
        axis.set_title(str(style["label"]), fontsize=10, color=color)
        axis.legend(frameon=False, fontsize=9)
        axis.set_ylim(-0.02, 1.03)
        label(axis, "step", f"entropy H, layer {layer + 1}")
        held &= bool((table["sigma_floor"] <= table["floor"] + 1e-4).all())
        held &= bool((table["floor"] <= table["entropy"] + 1e-4).all())
        low = table["sigma_floor"] < 0.01
        when = f"at step {low.idxmax()}" if low.any() else "never"
        gone.append(f"{when} ({style['label']})")
    kept = "Entropy stays above both floors" if held else "Entropy falls below a floor"
    title = f"{kept}; the one that σ₁ sets is gone {listed(gone)}"
    return finish(figure, title, f"Entropy and its floors against step. {title}.")
