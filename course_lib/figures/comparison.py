"""The picture of a comparison: loss, entropy, rank, spectrum and step size of every arm."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.figures.palette import arm_style
from course_lib.figures.picture import SMOOTHING, label, legend_below, panels, reference_line, smooth
from course_lib.runs.records import accuracies, losses, mean_over_heads, probed
from course_lib.runs.verdict import LOW_ENTROPY, LOW_RANK
from course_lib.studies.arms import LABELS
from course_lib.studies.compare_arms import ArmResult


def finding(results: Sequence[ArmResult]) -> str:
    """One line that says what became of the arms, from their verdicts."""
    verdicts = {LABELS[result.arm]: result.run.verdict() for result in results}
    outcomes = {True: "learns", False: "does not learn"}
    return " · ".join(f"{name}: {outcomes[v.learnt]} ({v.name})" for name, v in verdicts.items())


def compare_figure(results: Sequence[ArmResult]) -> Figure:
    """Four panels over the steps, one colour per arm.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not results:
        raise ValueError("results is empty: expected at least one trained arm")
    figure, ((loss, entropy), (rank, ratio)) = panels(12, 8, 2, 2)
    images = results[0].run.task.reference.accuracy is not None
    (_draw_accuracy if images else _draw_loss)(loss, results)
    _draw_sharpest_layer(entropy, results, "entropy")
    reference_line(entropy, LOW_ENTROPY, dash=":")
    entropy.set(title="Attention entropy, lowest layer", ylim=(-0.02, 1.05))
    label(entropy, "step", "entropy (1 = uniform)")
    _draw_sharpest_layer(rank, results, "attention_rank")
    reference_line(rank, LOW_RANK, dash=":")
    rank.set_title("Rank of that layer's attention map")
    label(rank, "step", f"effective rank (× {results[0].run.rank_unit})")
    _draw_ratio(ratio, results)
    config = results[0].run.config
    figure.suptitle(f"{finding(results)}\n{config.task}, lr {config.lr:g}, seed {config.seed}", fontsize=10)
    legend_below(figure, len(results))
    return figure


def _draw_loss(axes: Axes, results: Sequence[ArmResult]) -> None:
    for result in results:
        records = result.run.records
        axes.plot([r.step for r in records], smooth(losses(records)), **arm_style(result.arm))
    for line in results[0].run.task.references:
        reference_line(axes, line.loss, line.name, inside=True)
    axes.set_title(f"Training loss, mean of {SMOOTHING} steps")
    label(axes, "step", "loss (nats)")


def _draw_accuracy(axes: Axes, results: Sequence[ArmResult]) -> None:
    """Draw what the verdict on images rests on, the validation accuracy as a dot at the end."""
    for result in results:
        style, records = arm_style(result.arm), result.run.records
        steps = [r.step for r in records]
        axes.plot(steps, smooth(accuracies(records)), **style)
        if records[-1].val_accuracy is not None:
            axes.plot(steps[-1], records[-1].val_accuracy, "o", color=style["color"], clip_on=False)
    for line in results[0].run.task.references:
        if line.accuracy is not None:
            reference_line(axes, line.accuracy, line.name, inside=True)
    axes.set_title(f"Training accuracy, mean of {SMOOTHING} steps; dot: validation")
    label(axes, "step", "accuracy", ylim=(0, 1))


def _draw_sharpest_layer(axes: Axes, results: Sequence[ArmResult], quantity: str) -> None:
    """Draw the mean over the heads of the layer whose entropy is lowest at the last probe."""
    for result in results:
        steps, values = probed(result.run.records, quantity)
        _, entropy = probed(result.run.records, "entropy")
        if len(steps) == 0:
            continue
        last = mean_over_heads(entropy[-1])
        layer = 0 if np.isnan(last).all() else int(np.nanargmin(last))
        curve = mean_over_heads(values[:, layer])
        if quantity == "attention_rank":
            curve = curve / result.run.reference_ranks[layer]
        axes.plot(steps, curve, **arm_style(result.arm))


def _draw_ratio(axes: Axes, results: Sequence[ArmResult]) -> None:
    for result in results:
        steps, values = probed(result.run.records, "rho_applied")
        if len(steps) == 0:
            continue
        inside = ["blocks." in name for name in result.run.matrices]
        style = arm_style(result.arm)
        axes.plot(steps, values[:, inside].max(-1), **style)
        if result.run.tau is not None:
            axes.axhline(result.run.tau, color=style["color"], linestyle=":", linewidth=1)
            beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "top", "fontsize": 8}
            axes.text(0.01, result.run.tau, f"τ = {result.run.tau:g}", **beside)
    axes.set_title("Largest step of a block matrix")
    label(axes, "step", "σ₁ ratio ρ = α σ₁(ΔW)/σ₁(W)", yscale="log")
