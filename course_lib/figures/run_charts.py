"""Pictures of runs: losses, probes side by side, maps, and the table of controls."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from course_lib.figures.map_charts import draw_map, equally_sharp_ranks_apart
from course_lib.figures.palette import ARM_COLORS, LAYER_COLORS, REFERENCE_COLOR
from course_lib.figures.picture import Picture, finish, label, listed, panels
from course_lib.runs import Run, losses, mean_over_heads, probed
from course_lib.runs.verdict import LOW_ENTROPY, LOW_RANK
from course_lib.studies.arms import LABELS, MAIN_ARMS, OTHER_COLOUR, TREATMENTS

SMOOTHING = 9
"""Steps that a drawn training loss is averaged over."""


def _color(arm: str, i: int) -> str:
    return ARM_COLORS.get(arm, LAYER_COLORS[i])


def _name(arm: str) -> str:
    return LABELS.get(arm, arm)


def spoken(arm: str) -> str:
    """An arm's name without a comma, for sentences that list several."""
    return _name(arm).replace(", no warmup", " without warmup").replace(", warmup", " with warmup")


def smooth(values: npt.NDArray[np.float64], width: int = SMOOTHING) -> npt.NDArray[np.float64]:
    """Running mean, shorter at both ends."""
    kernel = np.ones(min(width, len(values)))
    weight = np.convolve(np.ones_like(values), kernel, mode="same")
    return np.asarray(np.convolve(values, kernel, mode="same") / weight, dtype=np.float64)


def loss_curves(runs: Mapping[str, Run]) -> Picture:
    """Training losses of runs on one task, with the lines that they have to get below.

    Args:
        runs: arm → finished run; the arms of `palette.ARM_COLORS` keep their colours.
    """
    task = next(iter(runs.values())).task
    figure, ((axis,),) = panels(8, 4)
    for i, (arm, run) in enumerate(runs.items()):
        curve = losses(run.records)
        axis.plot(curve, color=_color(arm, i), alpha=0.2, linewidth=0.8)
        axis.plot(smooth(curve), color=_color(arm, i), linewidth=2, label=_name(arm))
    steps = max(len(run.records) for run in runs.values())
    for line in task.references:
        axis.axhline(line.loss, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
        axis.annotate(
            line.name, (steps, line.loss), xytext=(3, 0), textcoords="offset points",
            color=REFERENCE_COLOR, fontsize=9, va="center", annotation_clip=False,
        )  # fmt: skip
    axis.set_xlim(0, steps)
    axis.legend(frameon=False, fontsize=9)
    label(axis, "step", "training loss (nats)")
    verdicts = {arm: run.verdict() for arm, run in runs.items()}
    learnt = {arm: v.learnt for arm, v in verdicts.items()}
    title = _loss_finding(learnt, task.reference.name)
    facts = [f"{_name(a)} ends at {v.loss:.2f} ({v.name})" for a, v in verdicts.items()]
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
    """Loss, entropy, rank and largest score of one layer against the step, runs side by side.

    Args:
        runs: arm → run with probes.
        layer: counted from 0; heads are averaged (the largest score: over heads, the largest).
    """
    figure, axes = panels(9.2, 5.4, 2, 2, sharex=True)
    (loss, h), (rank, logit) = axes
    ends: dict[str, tuple[float, float]] = {}
    for i, (arm, run) in enumerate(runs.items()):
        style = {"color": _color(arm, i), "linewidth": 2, "label": _name(arm)}
        steps, entropies = probed(run.records, "entropy")
        ranks = mean_over_heads(probed(run.records, "attention_rank")[1][:, layer])
        ranks = ranks / run.reference_ranks[layer]
        entropies = mean_over_heads(entropies[:, layer])
        scores = np.fmax.reduce(probed(run.records, "max_logit")[1][:, layer], axis=-1)
        loss.plot(smooth(losses(run.records)), **style)
        h.plot(steps, entropies, **style)
        rank.plot(steps, ranks, **style)
        logit.semilogy(steps, scores.clip(1e-2), **style)
        ends[_name(arm)] = (float(entropies[-1]), float(ranks[-1]))
    h.axhline(LOW_ENTROPY, color=REFERENCE_COLOR, linestyle=":", linewidth=1)
    rank.axhline(LOW_RANK, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
    loss.legend(frameon=False, fontsize=9)
    label(loss, "step", "training loss (nats)")
    label(h, "step", f"entropy H, layer {layer + 1}")
    unit = next(iter(runs.values())).rank_unit
    label(rank, "step", f"rank (× {unit}), layer {layer + 1}")
    label(logit, "step", f"largest score, layer {layer + 1}")
    h.set_ylim(0, 1.03)
    rank.set_ylim(bottom=0)
    facts = [f"{name}: entropy {e:.2f}, rank {r:.2f} × {unit}" for name, (e, r) in ends.items()]
    return finish(
        figure,
        _history_finding(ends, layer, unit),
        "Four panels against step. Ends: " + "; ".join(facts) + ".",
    )


def _history_finding(ends: Mapping[str, tuple[float, float]], layer: int, unit: str = "uniform") -> str:
    if equally_sharp_ranks_apart(list(ends.values())):
        who = "Both" if len(ends) == 2 else f"All {len(ends)}"
        ranks = [f"{r:.2f} ({name})" for name, (_, r) in ends.items()]
        return (
            f"{who} end equally sharp in layer {layer + 1}, yet their ranks lie far apart: "
            f"{listed(ranks)} × {unit}'s"
        )
    facts = [f"{name} at entropy {e:.2f}, rank {r:.2f}" for name, (e, r) in ends.items()]
    return f"Layer {layer + 1} ends: " + "; ".join(facts)


def attention_maps(runs: Mapping[str, Run], layer: int = 0) -> Picture:
    """Every head's map of one layer, one row of images per run.

    Args:
        runs: arm → run.
        layer: counted from 0.
    """
    maps = {_name(arm): run.observe().maps[layer] for arm, run in runs.items()}
    heads = len(next(iter(maps.values())))
    figure, axes = panels(9.2, 2.2 * len(maps) + 0.6, len(maps), heads)
    counts = {}
    for i, (arm, row) in enumerate(zip(runs, axes, strict=True)):
        stack = maps[_name(arm)]
        for head, axis in enumerate(row):
            axis.spines[["top", "right"]].set_visible(True)
            draw_map(axis, stack[head], f"head {head + 1}" if i == 0 else "", _color(arm, i))
            axis.title.set_color("black")
            axis.set_xlabel("key" if i == len(maps) - 1 else "")
        row[0].set_ylabel(f"{_name(arm)}\nquery", fontsize=9, color=_color(arm, i))
        counts[spoken(arm)] = np.mean([len(head.argmax(-1).unique()) for head in stack])
    facts = [f"{n:.0f} ({name})" for name, n in counts.items()]
    tokens = next(iter(maps.values())).shape[-1]
    title = f"Of {tokens} keys, the queries of a head in layer {layer + 1} favour {', '.join(facts)}"
    return finish(figure, title, f"Attention maps of layer {layer + 1}, one row per run. {title}.")


def first_signs(signs: pd.DataFrame, steps: int) -> Picture:
    """When each sign was first seen, one row per sign, one mark per arm.

    Args:
        signs: index: the signs; one column per arm; the first step, missing where it was not seen.
        steps: how many steps were looked at.
    """
    figure, ((axis,),) = panels(8.4, 0.5 * len(signs) + 1.6)
    rows = np.arange(len(signs))[::-1]
    for i, arm in enumerate(signs):
        shift = 0.14 * (i - (signs.shape[1] - 1) / 2)
        seen = signs[arm].notna().to_numpy()
        values = signs[arm].fillna(steps).astype(float).to_numpy()
        color = _color(str(arm), i)
        axis.plot(values[seen], rows[seen] - shift, "o", color=color, label=_name(str(arm)), markersize=8)
        axis.plot(values[~seen], rows[~seen] - shift, "x", color=color, markersize=8)
    axis.axvline(steps - 0.5, color=REFERENCE_COLOR, linewidth=1, linestyle=":")
    axis.text(steps, len(signs) - 0.45, "never", color=REFERENCE_COLOR, fontsize=9, ha="center")
    axis.set_yticks(rows, signs.index)
    axis.set_ylim(-0.6, len(signs) - 0.2)
    axis.grid(axis="y", color="#e5e5e5")
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=signs.shape[1])
    label(axis, "step at which it was first seen", "sign")
    title = f"{_name(str(signs.columns[0]))}: {_first_finding(signs[signs.columns[0]], steps)}"
    facts = [
        f"{sign}: "
        + ", ".join(f"{_name(str(a))} {'never' if pd.isna(s) else f'step {s:.0f}'}" for a, s in row.items())
        for sign, row in signs.iterrows()
    ]
    return finish(figure, title, "First step of each sign. " + "; ".join(facts) + ".")


def _first_finding(seen: "pd.Series[int]", steps: int) -> str:
    if seen.isna().all():
        return f"none of the signs was seen in {steps} steps"
    first = [f"“{sign}”" for sign in seen.index[(seen == seen.min()).fillna(False)]]
    return f"{listed(first)} {'comes' if len(first) == 1 else 'come'} first, at step {seen.min():.0f}"


def controls_chart(
    frame: pd.DataFrame,
    compare: tuple[str, str],
    lines: Mapping[str, float],
    here: Mapping[str, float],
) -> Picture:
    """Final losses of arms, one dot per seed, lowest mean at the top.

    Args:
        frame: columns `arm`, `seed`, `final_val_loss`.
        compare: two arms that the title compares.
        lines: name → loss of a line to draw.
        here: arm → loss of a run made just now, drawn as a star.
    """
    losses_of = {str(arm): rows["final_val_loss"] for arm, rows in frame.groupby("arm")}
    names = sorted(losses_of, key=lambda arm: losses_of[arm].mean())
    figure, ((axis,),) = panels(9.2, 0.36 * len(names) + 1.7)
    for row, name in enumerate(names):
        color = {TREATMENTS[arm]: ARM_COLORS[arm] for arm in MAIN_ARMS}.get(name, OTHER_COLOUR)
        values = losses_of[name]
        axis.plot(values, [row] * len(values), "o", color=color, alpha=0.7, markersize=7)
        axis.plot(values.mean(), row, "|", color=color, markersize=18, markeredgewidth=2)
        if name in here:
            star = {"markersize": 15, "markeredgecolor": "white", "label": "made just now"}
            axis.plot(here[name], row, "*", color=LAYER_COLORS[1], **star)
    for name, value in lines.items():
        axis.axvline(value, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
        axis.text(value, -0.75, f" {name}", color=REFERENCE_COLOR, fontsize=9, va="bottom")
    if here:
        axis.legend(frameon=False, fontsize=9, loc="lower left")
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.8)
    axis.grid(axis="y", color="#e5e5e5")
    label(axis, "validation loss at the last step (nats); a dot is a seed, a bar the mean", "arm")
    a, b = (losses_of[name] for name in compare)
    verb = "ends above" if a.min() > b.max() else "ends below" if a.max() < b.min() else "overlaps"
    title = f"“{compare[0]}” {verb} “{compare[1]}” (means {a.mean():.2f} and {b.mean():.2f})"
    facts = "; ".join(f"{name} {losses_of[name].mean():.2f}" for name in names)
    return finish(figure, title, f"Final losses by arm, mean over seeds: {facts}.")
