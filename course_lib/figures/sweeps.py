"""Charts against a setting: learning rate, τ, step of a cure, factor, number of tokens."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from course_lib.data import Baseline
from course_lib.figures.palette import ARM_COLORS, LAYER_COLORS, REFERENCE_COLOR, arm_style, spoken
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
)
from course_lib.probes import uniform_rank
from course_lib.runs.verdict import LOW_ENTROPY, LOW_RANK
from course_lib.studies.arms import LABELS
from course_lib.studies.map_measures import FAR_RANKS
from course_lib.studies.rescue import CURES, last_in_time
from course_lib.studies.sensitivity import best_mean, good_taus, mean_by_lr, sensitivity_table

SLACK = 0.1
"""Nats above the best mean loss within which a τ counts as good."""


def sensitivity_chart(frame: pd.DataFrame, initial: float, line: tuple[str, float]) -> Picture:
    """Final loss against learning rate, and beside it each arm's best loss against its sensitivity.

    Args:
        frame: columns `arm`, `lr`, `seed`, `final_val_loss`; one or more seeds.
        initial: loss of the untrained model, nats.
        line: a reference line's name and loss in nats.
    """
    mean, table = mean_by_lr(frame), sensitivity_table(frame, initial)
    figure, ((curve, scatter),) = panels(10.4, 4.6, 1, 2, width_ratios=(1.5, 1))
    for arm, row in mean.iterrows():
        runs = frame[frame["arm"] == arm].groupby("lr")["final_val_loss"]
        style = arm_style(str(arm))
        row = row.dropna()  # not every arm has every learning rate
        curve.plot(row, marker="o", markersize=4, linewidth=2, **style)
        curve.fill_between(row.index, runs.min(), runs.max(), color=style["color"], alpha=0.15, linewidth=0)
        place = table.loc[arm]
        filled = style["color"] if style["linestyle"] == "-" else "white"
        dot = {"color": style["color"], "markerfacecolor": filled, "markersize": 9, "markeredgewidth": 2}
        scatter.plot(place["best loss"], place["sensitivity"], "o", **dot)
        if style["linestyle"] == ":":
            near = {"textcoords": "offset points", "fontsize": 9, "ha": "right"}
            scatter.annotate("τ = 0.02", (place["best loss"], place["sensitivity"]), (-3, 8), **near)
    curve.set_xscale("log")
    reference_line(curve, line[1], line[0], inside=True)
    label(curve, "learning rate", "validation loss at the last step (nats)")
    lowest = -0.05 * table["sensitivity"].max()
    label(scatter, "best loss over learning rates (nats)", "sensitivity (nats)", ylim=(lowest, None))
    scatter.margins(x=0.15)
    legend_below(figure, 3, handlelength=3.5)
    top = mean.columns[-1]
    below = [LABELS[str(arm)] for arm, loss in mean[top].items() if loss < line[1]]
    best = LABELS[str(table["best loss"].idxmin())]
    who = f"only “{listed(below)}” ends" if len(below) == 1 else f"{len(below)} of {len(mean)} arms end"
    who = who if below else "no arm ends"
    lowest_of_all = f"the lowest loss of all is that of “{best}”"
    title = f"At a learning rate of {top:g}, {who} below “{line[0]}”; {lowest_of_all}"
    facts = "; ".join(
        f"{LABELS[str(arm)]}: {', '.join(f'{loss:.2f}' for loss in row)}, "
        f"sensitivity {table.loc[arm, 'sensitivity']:.2f}"
        for arm, row in mean.iterrows()
    )
    rates = ", ".join(f"{lr:g}" for lr in mean.columns)
    return finish(figure, title, f"Mean final loss at learning rates {rates}. {facts}.")


def tau_chart(frame: pd.DataFrame, lines: Mapping[str, float]) -> Picture:
    """Final loss against τ, and lines at the mean losses of some arms.

    `frame` has the columns `tau`, `seed` and `final_val_loss`.
    """
    mean = frame.groupby("tau")["final_val_loss"].mean()
    figure, ((axis,),) = panels(8, 3.8)
    axis.plot(mean, color=ARM_COLORS["adamw2"], linewidth=2, label="AdamW², no warmup: mean; a dot is a seed")
    axis.plot(frame["tau"], frame["final_val_loss"], "o", color=ARM_COLORS["adamw2"], alpha=0.6)
    _settings_axis(axis, mean.index)
    for arm, loss in lines.items():
        axis.axhline(loss, linewidth=1.5, **arm_style(arm) | {"linestyle": "--"})
    legend_below(figure, 3)
    label(axis, "τ", "validation loss at the last step (nats)")
    good, worst = good_taus(frame, SLACK), mean.idxmax()
    title = (
        f"With τ = {listed([f'{tau:g}' for tau in good])} the loss is within {SLACK:g} nats of the best "
        f"({mean.min():.2f}); with τ = {worst:g} it is {mean[worst] - mean.min():.2f} worse"
    )
    facts = "; ".join(f"τ {tau:g}: {loss:.2f}" for tau, loss in mean.items())
    return finish(figure, title, f"Mean final loss against τ. {facts}.")


def accuracy_by_lr(runs: pd.DataFrame, lines: Sequence[Baseline]) -> Picture:
    """Final accuracies of arms against the learning rate: a dot for a seed, a line through the means.

    `runs` has the columns `arm`, `lr`, `seed` and `final_val_accuracy`.
    """
    figure, ((axis,),) = panels(8, 4.2)
    means_of = mean_by_lr(runs, "final_val_accuracy")
    arms = list(means_of.index)
    for i, (arm, row) in enumerate(means_of.iterrows()):
        own, style, means = runs[runs["arm"] == arm], arm_style(str(arm)), row.dropna()
        shift = 1.025 ** (i - (len(arms) - 1) / 2)  # else the dots of two arms lie on each other
        axis.plot(own["lr"] * shift, own["final_val_accuracy"], "o", color=style["color"], alpha=0.6)
        axis.plot(means.index * shift, means, linewidth=2, **style)
    _settings_axis(axis, sorted(set(runs["lr"])))
    axis.set_xticks([], minor=True)
    for line in lines:
        if line.accuracy is not None:
            reference_line(axis, line.accuracy, line.name)
    legend_below(figure, len(arms))
    label(axis, "learning rate", "test accuracy at the last step", ylim=(0, 1))
    best = {arm: best_mean(runs, arm) for arm in arms}
    facts = [f"{spoken(arm)} {mean:.2f} (at {lr:g})" for arm, (lr, mean) in best.items()]
    title = f"Each at the best of its learning rates: {listed(facts)}"
    every = "; ".join(
        f"{LABELS[str(arm)]} at {lr:g}: {own.mean():.2f}"
        for (arm, lr), own in runs.groupby(["arm", "lr"])["final_val_accuracy"]
    )
    return finish(figure, title, f"Accuracy against learning rate, mean over seeds. {every}.")


def _settings_axis(axis: Axes, values: Iterable[float]) -> None:
    """A logarithmic scale whose ticks are the settings that were run."""
    axis.set_xscale("log")
    axis.set_xticks(list(values), [f"{value:g}" for value in values])
    axis.xaxis.set_minor_formatter(NullFormatter())


def rescue_chart(trials: pd.DataFrame, reference: Baseline, lines: Mapping[str, float] = {}) -> Picture:
    """Where runs end against the step at which they were cured, one colour per cure.

    Args:
        trials: columns cure (of `CURES`), seed, step, saved, loss.
        reference: the line below which a run has learnt.
        lines: name → loss of further lines to draw.
    """
    figure, ((axis,),) = panels(9.2, 4.2)
    places, found = list(CURES), last_in_time(trials)
    for i, cure in enumerate(found.index):
        color = LAYER_COLORS[places.index(cure)]
        own = trials[trials["cure"] == cure]
        # Cures side by side, by some hundredths of a decade.
        own = own.assign(step=own["step"] * 1.06**i + (own["step"] == 0) * 0.04 * i)
        for _, run in own.sort_values("step").groupby("seed"):
            axis.plot(run["step"], run["loss"], color=color, linewidth=0.8, alpha=0.4)
        for saved, face in ((True, color), (False, "white")):
            part = own[own["saved"] == saved]
            name = CURES[cure].label if saved or own["saved"].sum() == 0 else None
            dots = {"color": color, "markerfacecolor": face, "markersize": 7, "label": name}
            axis.plot(part["step"], part["loss"], "o", **dots)
    for name, value in {reference.name: reference.loss, **lines}.items():
        reference_line(axis, value, name)
    step_scale(axis, float(trials["step"].max()))
    legend_below(figure, 4)
    label(axis, "step at which the cure begins", "validation loss at the end (nats)")
    facts = "; ".join(f"{CURES[cure].label}: {_border(row)}" for cure, row in found.iterrows())
    alt = f"Final loss against the step of the cure; filled dots have learnt. {facts}."
    return finish(figure, f"Last step in time. {facts}", alt)


def _border(found: pd.Series) -> str:
    """Put a row of `last_in_time` in words: "step 2 to 5 (5 seeds)"."""
    seeds, never, mixed = map(int, found[["seeds", "never", "mixed"]])
    notes = [f"{seeds} seed{'s' * (seeds != 1)}"]
    if never == seeds:
        return f"none ({notes[0]})"
    least, most = int(found["least"]), int(found["most"])
    notes += [f"{never} never saved"] if never else []
    notes += [f"{mixed} out of order"] if mixed else []
    return f"step {least if least == most else f'{least} to {most}'} ({', '.join(notes)})"


def step_scale(axis: Axes, last: float) -> None:
    """Draw steps from 0 on a scale that spreads the first ones."""
    axis.set_xscale("symlog", linthresh=1, linscale=0.4)
    ticks = [t for t in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500) if t <= last]
    axis.set_xticks(ticks, [str(t) for t in ticks])
    axis.minorticks_off()
    axis.set_xlim(-0.2, last * 1.15)


def uniform_rank_curve(tokens: Sequence[int], marked: int) -> Picture:
    """Effective rank of uniform attention against the number of tokens, causal and not."""
    causal = [uniform_rank(t) for t in tokens]
    figure, ((axis,),) = panels(6.4, 3.2)
    axis.plot(tokens, tokens, color=REFERENCE_COLOR, linestyle="--", label="identity map (full rank)")
    axis.plot(tokens, causal, color=LAYER_COLORS[0], label="uniform, causal")
    axis.plot(tokens, [1.0] * len(tokens), color=LAYER_COLORS[1], label="uniform, everybody sees all")
    rank = uniform_rank(marked)
    axis.plot(marked, rank, "o", color=LAYER_COLORS[0])
    axis.annotate(f"{rank:.1f}", (marked, rank), xytext=(6, -12), textcoords="offset points", fontsize=10)
    legend(axis)
    label(axis, "tokens in the sequence", "effective rank of the map")
    title = f"Uniform causal attention over {marked} tokens has effective rank {rank:.1f}"
    title += ", not 1" if f"{rank:.1f}" != "1.0" else ""
    slower = f"uniform causal more slowly ({rank:.1f} at {marked})"
    alt = f"identity rises as the tokens, {slower}, uniform without a mask stays at 1."
    return finish(figure, title, f"Effective rank against tokens: {alt}")


def scale_is_inverse_temperature(
    factors: Sequence[float], by_factor: Sequence[float], by_temperature: Sequence[float]
) -> Picture:
    """Entropy against the factor c of W_qᵀW_k, and against the temperature 1/c: one curve."""
    apart = float(np.abs(np.array(by_factor) - np.array(by_temperature)).max())
    figure, ((axis,),) = panels(6.4, 3.2)
    axis.semilogx(factors, by_factor, color=LAYER_COLORS[0], label="W_qᵀW_k multiplied by c")
    axis.semilogx(factors, by_temperature, "o", color=LAYER_COLORS[1], label="temperature 1/c", markersize=5)
    legend(axis)
    label(axis, "factor c", "entropy H (1 = uniform)", ylim=(0, 1.03))
    same, place = ("is", "on") if apart < 1e-4 else ("is not", "off")
    change = by_factor[-1] - by_factor[0]
    moves = "falls" if change < -0.005 else "rises" if change > 0.005 else "goes"
    course = f"{moves} from {by_factor[0]:.2f} to {by_factor[-1]:.2f}"
    title = f"Multiplying W_qᵀW_k by c {same} the same as temperature 1/c: entropy {course}"
    alt = f"it {course}; the dots of temperature 1/c lie {place} the line of factor c."
    return finish(figure, title, f"Entropy against c: {alt}")


def concentration(
    factors: Sequence[float], entropies: Mapping[str, Values], ranks: Mapping[str, Values]
) -> Picture:
    """Entropy and rank of maps against the factor of W_qᵀW_k, for named spectra.

    Entropies and ranks are (draws, factors); ranks are multiples of uniform attention's.
    """
    figure, ((left, right),) = panels(9.2, 3.6, 1, 2)
    for i, name in enumerate(entropies):
        for axis, values in ((left, entropies[name]), (right, ranks[name])):
            axis.semilogx(factors, values.T, color=LAYER_COLORS[i], alpha=0.25, linewidth=0.8)
            axis.semilogx(factors, values.mean(0), color=LAYER_COLORS[i], linewidth=2, label=name)
    reference_line(right, LOW_RANK)
    legend(left)
    label(left, "factor c of W_qᵀW_k", "entropy H (1 = uniform)", ylim=(0, 1.03))
    label(right, "factor c of W_qᵀW_k", "rank (× uniform attention's)", ylim=(0, None))
    ends = {name: (entropies[name][:, -1].mean(), ranks[name][:, -1].mean()) for name in entropies}
    facts = [f"{name}: entropy {h:.2f}, rank {r:.2f}" for name, (h, r) in ends.items()]
    ending = "; ".join(facts)
    title = f"At the largest factor: {ending}"
    if max(h for h, _ in ends.values()) < LOW_ENTROPY and _apart([r[:, -1] for r in ranks.values()]):
        title = f"All end sharp; the rank depends on the spectrum ({ending})"
    return finish(figure, title, f"Entropy and rank against the factor c. At its largest, {ending}.")


def _apart(draws: Sequence[Values]) -> bool:
    """True if the lowest and the highest sample do not overlap and their means lie far apart."""
    low, *_, high = sorted(draws, key=np.mean) if len(draws) > 1 else (draws[0], draws[0])
    return bool(low.max() < high.min() and high.mean() >= FAR_RANKS * low.mean())
