"""Pictures of notebook 09: a model of one's own, watched, and how to choose τ for it."""

from collections.abc import Mapping

import pandas as pd
from seaborn import color_palette

from course_lib.figures.palette import ARM_COLORS, LAYER_COLORS, REFERENCE_COLOR
from course_lib.figures.picture import Picture, finish, label, listed, panels
from course_lib.figures.run_charts import smooth
from course_lib.runs.verdict import LOW_ENTROPY, LOW_RANK

LAST = 20
"""Steps whose mean loss counts as the loss at the end."""

_COLORS = {"AdamW": ARM_COLORS["adamw"], "AdamW²": ARM_COLORS["adamw2"]}


def end_loss(history: pd.DataFrame) -> float:
    """Mean training loss of the last `LAST` steps, in nats."""
    return float(history["loss"].tail(LAST).mean())


def own_history(histories: Mapping[str, pd.DataFrame], line: tuple[str, float]) -> Picture:
    """Loss, entropy, rank and largest ρ against the step, loops side by side.

    Args:
        histories: name → one row per step, with the columns `loss`, and where it was probed `entropy`,
            `rank` (a multiple of uniform attention's) and `rho_applied` (the largest of any matrix).
        line: a reference line's name and loss.
    """
    figure, axes = panels(9.2, 5.6, 2, 2, sharex=True)
    others = iter(LAYER_COLORS)
    for name, table in histories.items():
        style = {"color": _COLORS.get(name) or next(others), "linewidth": 2, "label": name}
        axes[0, 0].plot(smooth(table["loss"].to_numpy()), **style)
        for axis, column in zip(axes.flat[1:], ("entropy", "rank", "rho_applied"), strict=True):
            axis.plot(table[column].dropna(), **style)
    axes[1, 1].set_yscale("log")
    marks = (line[1], LOW_ENTROPY, LOW_RANK, 1.0)
    for axis, height in zip(axes.flat, marks, strict=True):
        axis.axhline(height, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
    names = ("training loss (nats)", "entropy H, layer 1", "rank (× uniform), layer 1", "largest ρ of a step")
    for axis, name in zip(axes.flat, names, strict=True):
        label(axis, "step", name)
    axes[0, 1].set_ylim(0, 1.03)
    axes[1, 0].set_ylim(bottom=0)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside lower center", ncols=len(labels))
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
    """Loss, and the share of the matrices that is cut, for several τ.

    Args:
        histories: τ → one row per step, with the columns `loss` and `cut`, the share.
        line: a reference line's name and loss.
    """
    figure, ((loss, cut),) = panels(9.6, 4, 1, 2, sharex=True)
    colors = color_palette("viridis", len(histories)).as_hex()
    for color, (tau, table) in zip(colors, sorted(histories.items()), strict=True):
        style = {"color": color, "linewidth": 2, "label": f"τ = {tau:g}"}
        loss.plot(smooth(table["loss"].to_numpy()), **style)
        cut.plot(smooth(table["cut"].to_numpy()), **style)
    loss.axhline(line[1], color=REFERENCE_COLOR, linestyle="--", linewidth=1)
    label(loss, "step", "training loss (nats)")
    label(cut, "step", "share of the matrices that is cut")
    cut.set_ylim(-0.03, 1.03)
    handles, labels = loss.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside lower center", ncols=len(labels))
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
