"""Curves against the step: losses, probes, steps beside their matrices, and what a bound lets through."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import ScalarFormatter
from seaborn import color_palette

from course_lib.figures.palette import ARM_COLORS, LAYER_COLORS, REFERENCE_COLOR, arm_style, spoken, styled
from course_lib.figures.picture import (
    Picture,
    Values,
    finish,
    label,
    legend,
    legend_below,
    listed,
    panels,
    reference_line,
    smooth,
)
from course_lib.runs import Run, losses, mean_over_heads, probed
from course_lib.runs.verdict import LOW_ENTROPY, LOW_RANK
from course_lib.studies.arms import LABELS
from course_lib.studies.experiment import LAST, end_loss
from course_lib.studies.map_measures import ranks_apart
from course_lib.studies.replay import settled_step


def loss_curves(runs: Mapping[str, Run]) -> Picture:
    """Training losses of finished runs (arm → run) of one task, with the lines that they have to pass."""
    task = next(iter(runs.values())).task
    figure, ((axis,),) = panels(8, 4)
    for run, style in styled(runs):
        curve = losses(run.records)
        axis.plot(curve, color=style["color"], alpha=0.2, linewidth=0.8)
        axis.plot(smooth(curve), linewidth=2, **style)
    steps = max(len(run.records) for run in runs.values())
    for line in task.references:
        reference_line(axis, line.loss, line.name)
    legend(axis)
    label(axis, "step", "training loss (nats)", xlim=(0, steps))
    verdicts = {arm: run.verdict() for arm, run in runs.items()}
    title = _loss_finding({arm: v.learnt for arm, v in verdicts.items()}, task.reference.name)
    facts = [f"{LABELS.get(a, a)} ends at {v.loss:.2f} ({v.name})" for a, v in verdicts.items()]
    return finish(figure, title, "Loss against step. " + "; ".join(facts) + ".")


def _loss_finding(learnt: Mapping[str, bool], line: str) -> str:
    above = [spoken(arm) for arm, ok in learnt.items() if not ok]
    below = [spoken(arm) for arm, ok in learnt.items() if ok]
    if not above:
        return f"All runs end below “{line}”"
    if not below:
        return f"No run ends below “{line}”"
    does = "does" if len(above) == 1 else "do"
    return f"{listed(below)} end{'s' * (len(below) == 1)} below “{line}”, {listed(above)} {does} not"


def probe_history(runs: Mapping[str, Run], layer: int = 0) -> Picture:
    """Loss, entropy, rank and largest score of a layer, counted from 0, against the step, for each arm's run.

    Entropy and rank are means over the heads.
    """
    figure, axes = panels(9.2, 5.4, 2, 2, sharex=True)
    (loss, h), (rank, logit) = axes
    ends: dict[str, tuple[float, float]] = {}
    for run, style in styled(runs, linewidth=2):
        steps, entropies = probed(run.records, "entropy")
        ranks = mean_over_heads(probed(run.records, "attention_rank")[1][:, layer])
        ranks = ranks / run.reference_ranks[layer]
        entropies = mean_over_heads(entropies[:, layer])
        scores = np.fmax.reduce(probed(run.records, "max_logit")[1][:, layer], axis=-1)
        loss.plot(smooth(losses(run.records)), **style)
        h.plot(steps, entropies, **style)
        rank.plot(steps, ranks, **style)
        logit.semilogy(steps, scores.clip(1e-2), **style)
        ends[style["label"]] = (float(entropies[-1]), float(ranks[-1]))
    reference_line(h, LOW_ENTROPY, dash=":")
    reference_line(rank, LOW_RANK)
    legend(loss)
    label(loss, "step", "training loss (nats)")
    label(h, "step", f"entropy H, layer {layer + 1}", ylim=(0, 1.03))
    unit = next(iter(runs.values())).rank_unit
    label(rank, "step", f"rank (× {unit}), layer {layer + 1}", ylim=(0, None))
    label(logit, "step", f"largest score, layer {layer + 1}")
    facts = [f"{name}: entropy {e:.2f}, rank {r:.2f} × {unit}" for name, (e, r) in ends.items()]
    alt = f"Four panels against step. Ends: {'; '.join(facts)}."
    return finish(figure, _history_finding(ends, layer, unit), alt)


def _history_finding(ends: Mapping[str, tuple[float, float]], layer: int, unit: str = "uniform") -> str:
    if ranks_apart(list(ends.values())):
        who = "Both" if len(ends) == 2 else f"All {len(ends)}"
        ranks = [f"{r:.2f} ({name})" for name, (_, r) in ends.items()]
        return (
            f"{who} end equally sharp in layer {layer + 1}, yet their ranks lie far apart: "
            f"{listed(ranks)} × {unit}'s"
        )
    facts = [f"{name} at entropy {e:.2f}, rank {r:.2f}" for name, (e, r) in ends.items()]
    return f"Layer {layer + 1} ends: " + "; ".join(facts)


def _loop_colors(histories: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Name of a loop → colour: AdamW's and AdamW²'s as everywhere, the others in order."""
    arms = {"AdamW": ARM_COLORS["adamw"], "AdamW²": ARM_COLORS["adamw2"]}
    others = iter(LAYER_COLORS)
    return {name: arms.get(name) or next(others) for name in histories}


def own_history(histories: Mapping[str, pd.DataFrame], line: tuple[str, float]) -> Picture:
    """Loss, entropy, rank and largest ρ against the step, for each training loop.

    Args:
        histories: name → one row per step, with the columns `loss`, and where it was probed `entropy`,
            `rank` (a multiple of uniform attention's) and `rho_applied` (the largest of any matrix).
        line: a reference line's name and loss in nats.
    """
    figure, axes = panels(9.2, 5.6, 2, 2, sharex=True)
    for name, color in _loop_colors(histories).items():
        table = histories[name]
        style = {"color": color, "linewidth": 2, "label": name}
        axes[0, 0].plot(smooth(table["loss"].to_numpy()), **style)
        for axis, column in zip(axes.flat[1:], ("entropy", "rank", "rho_applied"), strict=True):
            axis.plot(table[column].dropna(), **style)
    axes[1, 1].set_yscale("log")
    for axis, height in zip(axes.flat, (line[1], LOW_ENTROPY, LOW_RANK, 1.0), strict=True):
        reference_line(axis, height)
    label(axes[0, 0], "step", "training loss (nats)")
    label(axes[0, 1], "step", "entropy H, layer 1", ylim=(0, 1.03))
    label(axes[1, 0], "step", "rank (× uniform), layer 1", ylim=(0, None))
    label(axes[1, 1], "step", "largest ρ of a step")
    legend_below(figure, len(histories))
    ends = {name: end_loss(table) for name, table in histories.items()}
    below = [name for name, loss in ends.items() if loss < line[1]]
    first = {name: table["rho_applied"].dropna().iloc[0] for name, table in histories.items()}
    steepest = max(first, key=lambda name: first[name])
    title = (
        f"{listed(below) or 'No loop'} end{'s' * (len(below) < 2)} below “{line[0]}”; "
        f"the first step of {steepest} moves a matrix by {first[steepest]:.2g} times its own size"
    )
    facts = "; ".join(
        f"{name}: loss {ends[name]:.2f}, entropy {table['entropy'].dropna().iloc[-1]:.2f}, rank "
        f"{table['rank'].dropna().iloc[-1]:.2f}, first ρ {first[name]:.2g}"
        for name, table in histories.items()
    )
    return finish(figure, title, f"Four panels against step, dashed: {line[0]}, thresholds, ρ = 1. {facts}.")


def tau_choice(histories: Mapping[float, pd.DataFrame], line: tuple[str, float]) -> Picture:
    """Loss, and share of the matrices that is cut, for several τ.

    `histories` has for each τ a table with a row per step and the columns `loss` (nats) and `cut`, the share.
    """
    figure, ((loss, cut),) = panels(9.6, 4, 1, 2, sharex=True)
    colors = color_palette("viridis", len(histories)).as_hex()
    for color, (tau, table) in zip(colors, sorted(histories.items()), strict=True):
        style = {"color": color, "linewidth": 2, "label": f"τ = {tau:g}"}
        loss.plot(smooth(table["loss"].to_numpy()), **style)
        cut.plot(smooth(table["cut"].to_numpy()), **style)
    reference_line(loss, line[1])
    label(loss, "step", "training loss (nats)")
    label(cut, "step", "share of the matrices that is cut", ylim=(-0.03, 1.03))
    legend_below(figure, len(histories))
    ends = {tau: end_loss(table) for tau, table in sorted(histories.items())}
    best = min(ends, key=lambda tau: ends[tau])
    below = [f"{tau:g}" for tau, end in ends.items() if end < line[1]]
    title = (
        f"With τ = {best:g} the loss ends lowest, at {ends[best]:.2f}; below “{line[0]}” "
        f"{'end those with τ = ' + listed(below) if below else 'ends none'}"
    )
    facts = "; ".join(
        f"τ {tau:g}: loss {ends[tau]:.2f}, cut {table['cut'].head(LAST).mean():.0%} at first, "
        f"{table['cut'].tail(LAST).mean():.0%} at the end"
        for tau, table in sorted(histories.items())
    )
    return finish(figure, title, f"Loss, and share of the matrices that is cut, against step. {facts}.")


def rho_history(runs: Mapping[str, Run], tau: float) -> Picture:
    """The largest exact ρ of any W_q or W_k against the step, for each arm's run, and a line at τ."""
    figure, ((axis,),) = panels(8, 3.8)
    facts = []
    for run, style in styled(runs, linewidth=2):
        steps, ratios = probed(run.records, "rho_applied")
        qk = [j for j, name in enumerate(run.matrices) if "w_q" in name or "w_k" in name]
        largest = ratios[:, qk].max(1)
        axis.semilogy(steps, largest, **style)
        facts.append(f"{largest.max():.2g} ({style['label']})")
    reference_line(axis, tau, f"τ = {tau:g}")
    legend(axis)
    label(axis, "step", "largest ρ of W_q, W_k")
    title = f"The largest step of a W_q or W_k beside its matrix: ρ up to {listed(facts)}"
    return finish(figure, title, f"ρ against step, on a logarithmic axis. {title}.")


def shortfall(estimates: Mapping[str, Values]) -> Picture:
    """How far estimates of σ₁(ΔW) fall short: the worst matrix of each step of a run.

    `estimates` has (steps, matrices) for each method, as shares of the exact σ₁.
    """
    figure, ((axis,),) = panels(8, 3.4)
    facts = []
    for i, (name, values) in enumerate(estimates.items()):
        worst = values.min(1)
        axis.plot(worst, color=LAYER_COLORS[i], linewidth=1.5, label=name)
        facts.append(f"{1 - worst.min():.1%} ({name})")
    reference_line(axis, 1)
    legend(axis, "lower right")
    label(axis, "step", "lowest estimate / σ₁(ΔW)", ylim=(0, 1.05))
    title = f"At the worst, σ₁ of an update is underestimated by {listed(facts)}"
    return finish(figure, title, f"The lowest estimate of each step as a share of σ₁. {title}.")


def growth_envelope(sigma: Mapping[str, Values], tau: float) -> Picture:
    """σ₁ of each matrix at each step of a bounded run, beside the fastest growth that the bound admits."""
    figure, ((axis,),) = panels(8, 3.6)
    growth = {name: values / values[0] for name, values in sigma.items()}
    steps = np.arange(max(len(values) for values in growth.values()))
    for i, (name, values) in enumerate(growth.items()):
        axis.semilogy(values, color=LAYER_COLORS[i], linewidth=2, label=name)
    axis.semilogy(steps, (1 + tau) ** steps, color=REFERENCE_COLOR, linestyle="--", label=f"(1 + {tau:g})ᵗ")
    top = max(values.max() for values in growth.values())
    legend(axis, "lower right")
    label(axis, "step t", "σ₁(W) / σ₁(W) at the start", ylim=(0.5, 3 * top))
    over = max(float((v / (1 + tau) ** steps[: len(v)]).max()) for v in growth.values())
    kept = "No σ₁ outruns (1 + τ)ᵗ" if over <= 1.01 else f"A σ₁ outruns (1 + τ)ᵗ by {over - 1:.0%}"
    title = f"{kept}; in the end they have grown up to {top:.0f}-fold"
    return finish(figure, title, f"σ₁ against step on a logarithmic axis. {title}.")


def two_paths(losses: Mapping[str, Sequence[float]], difference: Sequence[float]) -> Picture:
    """Losses of one model under two optimizers, and the difference of their weights."""
    figure, ((left, right),) = panels(9.2, 3.2, 1, 2)
    for i, (name, values) in enumerate(losses.items()):
        left.plot(values, color=LAYER_COLORS[i], linestyle="-" if i else "--", linewidth=2.5 - i, label=name)
    legend(left)
    right.semilogy(np.clip(difference, 1e-9, None), color=LAYER_COLORS[2])
    label(left, "step", "training loss (nats)")
    label(right, "step", "largest difference of a weight (relative)")
    apart = max(abs(a - b) for a, b in zip(*losses.values(), strict=True))
    title = f"{len(difference)} steps: losses differ by {apart:.1g} nats, weights by {max(difference):.1g}"
    return finish(figure, title, f"Two loss curves, and the difference of the weights. {title}.")


def alpha_over_time(
    alphas: pd.DataFrame, asked: Sequence[float], schedules: Mapping[str, Sequence[float]]
) -> Picture:
    """The learning rates that the bound lets through, beside schedules, as shares of the base learning rate.

    Args:
        alphas: α, one row per step, one column per bounded matrix.
        asked: α without any cut, per step.
        schedules: arm → the schedule's factor, per step.
    """
    figure, ((axis,),) = panels(8.4, 4)
    axis.plot(alphas, color=ARM_COLORS["adamw2"], alpha=0.3, linewidth=0.7)
    axis.lines[0].set_label("AdamW², each matrix")
    axis.semilogy(asked, color=REFERENCE_COLOR, linestyle="--", linewidth=1.2, label="asked for")
    drawn = {"adamw2": alphas.mean(axis=1), **{arm: pd.Series(f) for arm, f in schedules.items()}}
    for arm, factors in drawn.items():
        name = "AdamW², mean over matrices" if arm == "adamw2" else LABELS[arm]
        axis.semilogy(factors, linewidth=2.2, **arm_style(arm) | {"label": name})
    axis.yaxis.set_major_formatter(ScalarFormatter())
    legend(axis, "lower right")
    label(axis, "step", "α / base learning rate")
    shares = {arm: factors / np.asarray(asked) for arm, factors in drawn.items()}
    half = {arm: settled_step(share) for arm, share in shares.items()}
    title = (
        f"The bound lets through {shares['adamw2'].iloc[0]:.1%} of the learning rate at first, "
        f"and half of it {_when(half['adamw2'])}"
    )
    others = "".join(f" {LABELS[arm]}: half {_when(half[arm])}." for arm in schedules)
    ends = f"In the last step the mean is {shares['adamw2'].iloc[-1]:.0%} of what is asked for."
    return finish(figure, title, f"α against step, logarithmic. {title}. {ends}{others}")


def _when(step: int | None) -> str:
    return "at no step" if step is None else f"from step {step} on"
