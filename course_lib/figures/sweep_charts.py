"""Pictures of notebook 05: α over time, sensitivity to the learning rate, which matrices, and τ."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import NullFormatter, ScalarFormatter

from course_lib.figures.palette import ARM_COLORS, REFERENCE_COLOR, arm_style
from course_lib.figures.picture import Picture, finish, label, listed, panels
from course_lib.studies.arms import ARMS, LABELS
from course_lib.studies.sensitivity import lr_sensitivity

_PART_NAMES = {"qk": "W_q, W_k", "vo": "W_v, W_o", "mlp": "MLPs", "outside": "embeddings, head"}


def alpha_over_time(
    alphas: pd.DataFrame, asked: Sequence[float], schedules: Mapping[str, Sequence[float]]
) -> Picture:
    """The learning rates that the bound lets through, beside schedules.

    Args:
        alphas: one row per step, one column per bounded matrix: α as a share of the base learning rate.
        asked: the same without any cut, per step.
        schedules: arm → the same of a schedule, per step.
    """
    figure, ((axis,),) = panels(8.4, 4)
    axis.plot(alphas, color=ARM_COLORS["adamw2"], alpha=0.3, linewidth=0.7)
    axis.lines[0].set_label("AdamW², each matrix")
    axis.semilogy(asked, color=REFERENCE_COLOR, linestyle="--", linewidth=1.2, label="asked for")
    drawn = {"adamw2": alphas.mean(axis=1), **{arm: pd.Series(f) for arm, f in schedules.items()}}
    for arm, factors in drawn.items():
        name = "AdamW², mean over matrices" if arm == "adamw2" else LABELS[arm]
        axis.semilogy(factors, color=ARM_COLORS[arm], linewidth=2.2, label=name)
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    label(axis, "step", "α / base learning rate")
    shares = {arm: factors / np.asarray(asked) for arm, factors in drawn.items()}
    half = {arm: _settled(share) for arm, share in shares.items()}
    title = (
        f"The bound lets through {shares['adamw2'].iloc[0]:.1%} of the learning rate at first, "
        f"and half of it {_when(half['adamw2'])}"
    )
    others = "".join(f" {LABELS[arm]}: half {_when(half[arm])}." for arm in schedules)
    ends = f"In the last step the mean is {shares['adamw2'].iloc[-1]:.0%} of what is asked for."
    return finish(figure, title, f"α against step, logarithmic. {title}. {ends}{others}")


def _settled(share: "pd.Series[float]", level: float = 0.5) -> int | None:
    """The first step from which on a share stays at `level` or above."""
    below = np.flatnonzero(share < level)
    step = int(below[-1]) + 1 if len(below) else 0
    return step if step < len(share) else None


def _when(step: int | None) -> str:
    return "at no step" if step is None else f"from step {step} on"


def sensitivity_table(frame: pd.DataFrame, initial: float) -> pd.DataFrame:
    """Per arm: its best mean loss, at which learning rate, and its sensitivity (`lr_sensitivity`).

    Args:
        frame: columns `arm`, `lr`, `seed`, `final_val_loss`.
        initial: loss of the untrained model, nats.
    """
    mean = _by_lr(frame)
    # A learning rate that an arm was not run at is left out; a loss that is NaN is a run that diverged.
    tried = frame.groupby("arm")["lr"].unique()
    return pd.DataFrame(
        {
            "best loss": mean.min(axis=1),
            "at lr": mean.idxmin(axis=1),
            "sensitivity": [
                lr_sensitivity(row[tried[arm]].to_numpy(), initial) for arm, row in mean.iterrows()
            ],
        }
    )


def _by_lr(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds: one row per arm, in the order of the registry, one column per learning rate."""
    mean = frame.pivot_table("final_val_loss", "arm", "lr", aggfunc="mean")
    return mean.loc[[arm for arm in ARMS if arm in mean.index]]


def sensitivity_chart(frame: pd.DataFrame, initial: float, line: tuple[str, float]) -> Picture:
    """Final loss against learning rate, and beside it each arm's best loss against its sensitivity.

    Args:
        frame: columns `arm`, `lr`, `seed`, `final_val_loss`; one or more seeds.
        initial: loss of the untrained model, nats.
        line: a reference line's name and loss.
    """
    mean, table = _by_lr(frame), sensitivity_table(frame, initial)
    figure, ((curve, scatter),) = panels(10.4, 4.6, 1, 2, width_ratios=(1.5, 1))
    for arm, row in mean.iterrows():
        runs = frame[frame["arm"] == arm].groupby("lr")["final_val_loss"]
        style = arm_style(str(arm))
        row = row.dropna()  # not every arm has every learning rate
        curve.plot(row, marker="o", markersize=4, linewidth=2, **style)
        curve.fill_between(row.index, runs.min(), runs.max(), color=style["color"], alpha=0.15, linewidth=0)
        place = table.loc[arm]
        filled = style["color"] if style["linestyle"] == "-" else "white"
        scatter.plot(
            place["best loss"], place["sensitivity"], "o",
            color=style["color"], markerfacecolor=filled, markersize=9, markeredgewidth=2,
        )  # fmt: skip
        if style["linestyle"] == ":":
            scatter.annotate("τ = 0.02", (place["best loss"], place["sensitivity"]), (-3, 8),
                             textcoords="offset points", fontsize=9, ha="right")  # fmt: skip
    curve.set_xscale("log")
    curve.axhline(line[1], color=REFERENCE_COLOR, linestyle="--", linewidth=1)
    curve.annotate(line[0], (mean.columns[0], line[1]), (0, 3), textcoords="offset points",
                   color=REFERENCE_COLOR, fontsize=9)  # fmt: skip
    label(curve, "learning rate", "validation loss at the last step (nats)")
    label(scatter, "best loss over learning rates (nats)", "sensitivity (nats)")
    scatter.margins(x=0.15)
    scatter.set_ylim(bottom=-0.05 * table["sensitivity"].max())
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=3, handlelength=3.5)
    top = mean.columns[-1]
    below = [LABELS[str(arm)] for arm, loss in mean[top].items() if loss < line[1]]
    best = LABELS[str(table["best loss"].idxmin())]
    who = f"only “{listed(below)}” ends" if len(below) == 1 else f"{len(below)} of {len(mean)} arms end"
    who = who if below else "no arm ends"
    title = (
        f"At a learning rate of {top:g}, {who} below “{line[0]}”; the lowest loss of all is that of “{best}”"
    )
    facts = "; ".join(
        f"{LABELS[str(arm)]}: {', '.join(f'{loss:.2f}' for loss in row)}, "
        f"sensitivity {table.loc[arm, 'sensitivity']:.2f}"
        for arm, row in mean.iterrows()
    )
    rates = ", ".join(f"{lr:g}" for lr in mean.columns)
    return finish(figure, title, f"Mean final loss at learning rates {rates}. {facts}.")


def covered_name(arm: str) -> str:
    """What an arm of the table `which` bounds, in words: "qk+mlp" → "W_q, W_k + MLPs"."""
    return "nothing" if arm == "none" else " + ".join(_PART_NAMES[part] for part in arm.split("+"))


def which_matrices(frame: pd.DataFrame, chosen: str, line: tuple[str, float]) -> Picture:
    """Final losses by what is bounded, lowest mean at the top, one choice lifted out.

    Args:
        frame: columns `arm` (parts joined by +, or "none"), `seed`, `final_val_loss`.
        chosen: one of the arms.
        line: a reference line's name and loss.
    """
    runs = {str(arm): rows["final_val_loss"] for arm, rows in frame.groupby("arm")}
    names = sorted(runs, key=lambda arm: runs[arm].mean())
    figure, ((axis,),) = panels(8.6, 0.29 * len(names) + 1.5)
    for row, arm in enumerate(names):
        lifted = arm == chosen
        color = ARM_COLORS["adamw2"] if lifted else "#b0b0b0"
        axis.plot(runs[arm], [row] * len(runs[arm]), "o", color=color, markersize=9 if lifted else 6)
        axis.plot(runs[arm].mean(), row, "|", color=color, markersize=16, markeredgewidth=2)
    axis.axvline(line[1], color=REFERENCE_COLOR, linestyle="--", linewidth=1)
    axis.text(line[1], -0.8, f" {line[0]}", color=REFERENCE_COLOR, fontsize=9, va="bottom")
    axis.set_yticks(range(len(names)), [covered_name(arm) for arm in names], fontsize=9)
    axis.get_yticklabels()[names.index(chosen)].set_fontweight("bold")
    axis.set_ylim(len(names) - 0.5, -0.9)
    axis.grid(axis="y", color="#eeeeee")
    label(axis, "validation loss at the last step (nats); a dot is a seed, a bar the mean", "bounded")
    rank = names.index(chosen) + 1
    title = (
        f"Bound on {covered_name(chosen)}: {runs[chosen].mean():.2f}, place {rank} of {len(names)}; "
        f"best on {covered_name(names[0])} ({runs[names[0]].mean():.2f})"
    )
    facts = "; ".join(f"{covered_name(arm)} {runs[arm].mean():.2f}" for arm in names)
    return finish(figure, title, f"Mean final loss by what is bounded: {facts}.")


def tau_chart(frame: pd.DataFrame, lines: Mapping[str, float], slack: float = 0.1) -> Picture:
    """Final loss against τ.

    Args:
        frame: columns `tau`, `seed`, `final_val_loss`.
        lines: arm → its mean loss, drawn as a line.
        slack: nats above the best mean within which a τ counts as good.
    """
    mean = frame.groupby("tau")["final_val_loss"].mean()
    figure, ((axis,),) = panels(8, 3.8)
    axis.plot(
        mean,
        color=ARM_COLORS["adamw2"],
        linewidth=2,
        label="AdamW², no warmup: mean; a dot is a seed",
    )
    axis.plot(frame["tau"], frame["final_val_loss"], "o", color=ARM_COLORS["adamw2"], alpha=0.6)
    axis.set_xscale("log")
    axis.set_xticks(mean.index, [f"{tau:g}" for tau in mean.index])
    axis.xaxis.set_minor_formatter(NullFormatter())
    for arm, loss in lines.items():
        axis.axhline(loss, color=ARM_COLORS[arm], linestyle="--", linewidth=1.5, label=LABELS[arm])
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    label(axis, "τ", "validation loss at the last step (nats)")
    good, worst = good_taus(frame, slack), mean.idxmax()
    title = (
        f"With τ = {listed([f'{tau:g}' for tau in good])} the loss is within {slack:g} nats of the best "
        f"({mean.min():.2f}); with τ = {worst:g} it is {mean[worst] - mean.min():.2f} worse"
    )
    facts = "; ".join(f"τ {tau:g}: {loss:.2f}" for tau, loss in mean.items())
    return finish(figure, title, f"Mean final loss against τ. {facts}.")


def good_taus(frame: pd.DataFrame, slack: float) -> np.ndarray:
    """The values of τ whose mean final loss is within `slack` nats of the best."""
    mean = frame.groupby("tau")["final_val_loss"].mean()
    return np.asarray(mean.index[mean <= mean.min() + slack])
