"""The picture of a comparison: loss, entropy, rank, spectrum and step size of every arm."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.figures.palette import ARM_COLORS, REFERENCE_COLOR
from course_lib.runs.records import accuracies, losses, mean_over_heads, probed
from course_lib.runs.verdict import LOW_ENTROPY, LOW_RANK
from course_lib.studies.arms import LABELS
from course_lib.studies.compare import ArmResult

SMOOTHING = 10
"""Steps over which a drawn loss is averaged."""


def finding(results: Sequence[ArmResult]) -> str:
    """One line that says what became of the arms, from their verdicts."""
    parts = []
    for result in results:
        verdict = result.run.verdict()
        outcome = "learns" if verdict.learnt else "does not learn"
        parts.append(f"{LABELS[result.arm]}: {outcome} ({verdict.name})")
    return " · ".join(parts)


def compare_figure(results: Sequence[ArmResult]) -> Figure:
    """Four panels over the steps, one colour per arm.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not results:
        raise ValueError("results is empty: expected at least one trained arm")
    figure = Figure(figsize=(12, 8), layout="constrained")
    loss, entropy, rank, ratio = figure.subplots(2, 2).flatten()
    images = results[0].run.task.reference.accuracy is not None
    (_draw_accuracy if images else _draw_loss)(loss, results)
    _draw_sharpest_layer(entropy, results, "entropy")
    entropy.axhline(LOW_ENTROPY, color=REFERENCE_COLOR, linestyle=":", linewidth=1)
    entropy.set(title="Attention entropy, lowest layer", ylabel="entropy (1 = uniform)", ylim=(-0.02, 1.05))
    _draw_sharpest_layer(rank, results, "attention_rank")
    rank.axhline(LOW_RANK, color=REFERENCE_COLOR, linestyle=":", linewidth=1)
    rank.set(
        title="Rank of that layer's attention map", ylabel=f"effective rank (× {results[0].run.rank_unit})"
    )
    _draw_ratio(ratio, results)
    for axes in (loss, entropy, rank, ratio):
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
    config = results[0].run.config
    figure.suptitle(f"{finding(results)}\n{config.task}, lr {config.lr:g}, seed {config.seed}", fontsize=10)
    handles, labels = loss.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _draw_loss(axes: Axes, results: Sequence[ArmResult]) -> None:
    for result in results:
        curve = losses(result.run.records)
        axes.plot(
            [r.step for r in result.run.records],
            _smooth(curve),
            color=ARM_COLORS[result.arm],
            label=LABELS[result.arm],
        )
    for line in results[0].run.task.references:
        _draw_reference(axes, line.name, line.loss)
    axes.set(title=f"Training loss, mean of {SMOOTHING} steps", ylabel="loss (nats)")


def _draw_accuracy(axes: Axes, results: Sequence[ArmResult]) -> None:
    """Of images: what the verdict rests on, the validation accuracy as a dot at the end."""
    for result in results:
        color, records = ARM_COLORS[result.arm], result.run.records
        steps = [r.step for r in records]
        axes.plot(steps, _smooth(accuracies(records)), color=color, label=LABELS[result.arm])
        if records[-1].val_accuracy is not None:
            axes.plot(steps[-1], records[-1].val_accuracy, "o", color=color, clip_on=False)
    for line in results[0].run.task.references:
        if line.accuracy is not None:
            _draw_reference(axes, line.name, line.accuracy)
    title = f"Training accuracy, mean of {SMOOTHING} steps; dot: validation"
    axes.set(title=title, ylabel="accuracy", ylim=(0, 1))


def _draw_reference(axes: Axes, name: str, height: float) -> None:
    axes.axhline(height, color=REFERENCE_COLOR, linestyle="--", linewidth=0.8)
    axes.annotate(
        name,
        (1.0, height),
        xycoords=("axes fraction", "data"),
        xytext=(-2, -2),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        color=REFERENCE_COLOR,
    )


def _draw_sharpest_layer(axes: Axes, results: Sequence[ArmResult], quantity: str) -> None:
    """Mean over the heads, of the layer whose entropy is lowest at the last probe."""
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
        axes.plot(steps, curve, color=ARM_COLORS[result.arm])


def _draw_ratio(axes: Axes, results: Sequence[ArmResult]) -> None:
    for result in results:
        steps, values = probed(result.run.records, "sigma_ratio")
        if len(steps) == 0:
            continue
        inside = ["blocks." in name for name in result.run.matrices]
        axes.plot(steps, values[:, inside].max(-1), color=ARM_COLORS[result.arm])
        if result.run.tau is not None:
            axes.axhline(result.run.tau, color=ARM_COLORS[result.arm], linestyle=":", linewidth=1)
            axes.annotate(
                f"τ = {result.run.tau:g}",
                (0.0, result.run.tau),
                xycoords=("axes fraction", "data"),
                xytext=(2, -3),
                textcoords="offset points",
                va="top",
                fontsize=8,
            )
    axes.set(title="Largest step of a block matrix", ylabel="σ₁ ratio ρ = α σ₁(ΔW)/σ₁(W)", yscale="log")


def _smooth(curve: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over the last `SMOOTHING` values, over fewer at the start."""
    total = np.concatenate([[0.0], np.cumsum(curve)])
    first = np.maximum(np.arange(1, len(curve) + 1) - SMOOTHING, 0)
    return (total[1:] - total[first]) / (np.arange(1, len(curve) + 1) - first)
