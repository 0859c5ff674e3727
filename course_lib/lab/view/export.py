"""Branches as files and pictures: a table of their records, a figure of their losses and probes."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from course_lib.atomic import write_atomically
from course_lib.figures.palette import REFERENCE_COLOR
from course_lib.figures.picture import Picture, finish, label, listed, panels, smooth
from course_lib.lab.session import Session
from course_lib.lab.session.branches import Branch
from course_lib.lab.view.curves import Curves
from course_lib.lab.view.text import describe, describe_run
from course_lib.runs import Run
from course_lib.runs.verdict import LOW_ENTROPY

_PANELS = {
    "entropy": "entropy, lowest layer",
    "qk_sigma": "σ₁(W_qᵀW_k), largest",
    "rho_applied": "σ₁ ratio ρ, largest",
}


def write_records(path: Path, branches: Sequence[Branch]) -> Path:
    """Write the records of branches as one CSV file, with a column that names the branch.

    A fork's records begin with the records of its parent, up to the step of the fork.
    """
    frames = [branch.run.to_frame().assign(branch=branch.name) for branch in branches]
    text = pd.concat(frames, ignore_index=True).to_csv(index=False)
    write_atomically(path, text.encode())
    return path


def write_figure(paths: Sequence[Path], branches: Sequence[Branch]) -> str:
    """Write the figure of the branches to each path, in the format of its ending; return the title."""
    picture = branch_figure(branches)
    for path in paths:
        file = io.BytesIO()
        about = {"Title": picture.title, "Description": picture.alt}
        metadata = about | ({"Date": None} if path.suffix == ".svg" else {})
        picture.figure.savefig(file, format=path.suffix[1:], dpi=170, metadata=metadata)
        write_atomically(path, file.getvalue())
    return picture.title


def branch_figure(branches: Sequence[Branch]) -> Picture:
    """Losses, entropies, σ₁ of W_qᵀW_k and step sizes of branches, one colour each.

    Raises:
        ValueError: no step is made yet.
    """
    drawn = [branch for branch in branches if branch.run.records]
    if not drawn:
        raise ValueError("the figure would be empty: expected at least one step; press Start first")
    figure, axes = panels(9.2, 6.0, 2, 2, sharex=True)
    loss, *rest = axes.flat
    facts = []
    for branch in drawn:
        curves = Curves(branch)
        curves.read_losses()
        curves.read_probes()
        steps, values = curves.loss()
        if len(values):
            loss.plot(steps, values, color=branch.color, alpha=0.25, linewidth=0.8)
            name = f"{branch.name} {branch.origin}: {describe_run(branch.run)}".replace(" :", ":")
            loss.plot(steps, smooth(values), color=branch.color, linewidth=2, label=name)
        for axis, quantity in zip(rest, _PANELS, strict=True):
            axis.plot(*curves.extreme(quantity), color=branch.color, linewidth=2)
        verdict = branch.run.verdict()
        facts.append(f"{branch.name} is at {verdict.loss:.2f} ({verdict.name})")
    _draw_references(loss, drawn[0].run)
    rest[0].axhline(LOW_ENTROPY, color=REFERENCE_COLOR, linestyle=":", linewidth=1)
    rest[0].set_ylim(0, 1.03)
    for axis in rest[1:]:
        axis.set_yscale("log")
    label(loss, "", "training loss (nats)")
    for axis, text in zip(rest, _PANELS.values(), strict=True):
        label(axis, "step" if axis in rest[1:] else "", text)
    figure.legend(frameon=False, fontsize=9, loc="outside lower left")
    step = max(branch.run.updates for branch in drawn)
    return finish(
        figure, f"At step {step}, {listed(facts)}", f"Four panels against step. {'; '.join(facts)}."
    )


def session_picture(session: Session) -> Picture:
    """A still picture of a session: its branches, or its settings before the first step."""
    if any(branch.run.records for branch in session.branches):
        return branch_figure(list(session.branches))
    run = session.run
    figure, axes = panels(9.2, 3.0)
    (axis,) = axes.flat
    _draw_references(axis, run)
    axis.set_xlim(0, run.config.steps)
    axis.set_ylim(0, 1.12 * max(line.loss for line in run.task.references))
    label(axis, "step", "training loss (nats)")
    title = f"Nothing trained yet: {describe(run.config)}"
    return finish(figure, title, f"An empty chart of the training loss. {title}.")


def _draw_references(axis: Axes, run: Run) -> None:
    for line in run.task.references:
        axis.axhline(line.loss, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
        axis.annotate(
            line.name, (0.99, line.loss), xycoords=("axes fraction", "data"),
            ha="right", va="bottom", color=REFERENCE_COLOR, fontsize=8,
        )  # fmt: skip
