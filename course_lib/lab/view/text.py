"""The lab's texts: verdict, status line, legends, and descriptions of the panels for screen readers."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from course_lib.figures.palette import ARM_COLORS, REFERENCE_COLOR
from course_lib.lab.session import Session
from course_lib.lab.session.branches import Branch
from course_lib.lab.session.wanted import present_config
from course_lib.runs import GroupSettings, Run, RunConfig, Verdict, mean_over_heads, probed

MARK_COLOR = "#CA9161"
"""Colour of the marks of changed settings."""
GHOST_COLOR = "#B8B8B8"
"""Colour of the previous run's loss."""

SENTENCES = {
    "healthy": "It has learnt, and no layer's attention has collapsed.",
    "benign collapse": "Sharp because it is right: entropy is low, and yet the loss has come down.",
    "malignant collapse": "Crashed: in some layer the queries stare at the same few keys (low entropy, low "
    "rank), and the loss is stuck.",
    "stalled": "It has not learnt, though attention has not collapsed: there are other ways to fail.",
    "diverged": "The loss has blown up: it is higher than at the start, or no number at all.",
    "undecided": "Too early to tell: nothing learnt yet, nothing collapsed yet.",
}
"""One sentence for each verdict."""

VERDICT_COLORS = {
    "healthy": ARM_COLORS["adamw2"],
    "benign collapse": ARM_COLORS["adamw-warmup"],
    "malignant collapse": ARM_COLORS["adamw"],
    "diverged": ARM_COLORS["adamw"],
}

OPTIMIZER_NAMES = {"adamw": "AdamW", "adamw2": "AdamW²"}
NORM_NAMES = {"pre": "pre-LN: on the branch", "post": "post-LN: after the sum"}


def number(value: float | None) -> str:
    """A setting in three figures, "off" for None."""
    return "off" if value is None else f"{value:.3g}"


def describe(config: RunConfig) -> str:
    """A run's settings in one line."""
    parts = [OPTIMIZER_NAMES[config.optimizer], f"{config.norm}-LN", f"learning rate {number(config.lr)}"]
    parts.append(f"warmup {config.warmup} steps" if config.warmup else "no warmup")
    if config.optimizer == "adamw2":
        parts.append(f"τ {number(config.tau)}")
    if config.attention == "uniform":
        parts.append("uniform attention")
    parts += describe_groups(config.groups)
    return ", ".join(parts)


def describe_run(run: Run) -> str:
    """A run's present settings in one line, with those of single groups."""
    return describe(present_config(run))


def describe_groups(groups: Mapping[str, GroupSettings]) -> list[str]:
    """One text for each parameter group that has settings of its own."""
    parts = []
    for group, own in groups.items():
        settings = []
        if "warmup" in own:
            settings.append(f"warmup {own['warmup']} steps" if own["warmup"] else "no warmup")
        if own.get("lr_multiplier", 1.0) != 1.0:
            settings.append(f"lr × {own['lr_multiplier']:g}")
        if "tau" in own:
            settings.append(f"τ {number(own['tau'])}")
        if settings:
            parts.append(f"{group}: {', '.join(settings)}")
    return parts


def summary(run: Run, verdict: Verdict | None) -> str:
    """Describe the charts and the verdict at this moment, for screen readers."""
    if not run.records:
        return "No step made yet."
    last = run.records[-1]
    parts = [f"Step {run.updates} of {run.config.steps}: loss {last.loss:.2f}"]
    if last.accuracy is not None:
        parts.append(f"accuracy {last.accuracy:.2f}")
    for quantity, name in (("entropy", "entropy"), ("qk_sigma", "σ₁ of W_qᵀW_k")):
        _, values = probed(run.records, quantity)
        if len(values) and np.isfinite(values[-1]).any():
            now = values[-1]
            layers = mean_over_heads(now) if quantity == "entropy" else np.fmax.reduce(now, axis=-1)
            parts.append(f"{name} by layer " + ", ".join(f"{v:.3g}" for v in layers))
    return "; ".join(parts) + f"; verdict: {verdict.name if verdict else 'undecided'}."


def summary_of_branches(branches: Iterable[Branch]) -> str:
    """Say in a sentence how far each branch is; empty before the first step."""
    parts = [
        f"{branch.name} ({describe_run(branch.run)}) at step {branch.run.updates}, "
        f"loss {branch.run.records[-1].loss:.2f}"
        for branch in branches
        if branch.run.records
    ]
    return f"Branches: {'; '.join(parts)}." if parts else ""


def pending_text(session: Session) -> str:
    """Name the wanted settings that the present run does not have, and say how to get them."""
    if session.past is not None:
        step = session.past.updates
        return f"Step {step} as it was. Change a setting and fork; Start goes back to now."
    config, wanted = session.run.config, session.wanted
    if not session.run.records:
        return f"{describe(session.next_config())}. Press Start."
    texts = {"optimizer": OPTIMIZER_NAMES[wanted.optimizer], "attention": f"{wanted.attention} attention"}
    texts["norm"] = f"{wanted.norm}-LN"
    choices = [text for name, text in texts.items() if getattr(wanted, name) != getattr(config, name)]
    if not choices:
        return ""
    return f"{' and '.join(choices)} from the next run on: press Reset, then Start. Or fork."


def verdict_html(verdict: Verdict | None) -> str:
    """The verdict as a small page: its name, a sentence, and the numbers behind it."""
    name = verdict.name if verdict else "undecided"
    color = VERDICT_COLORS.get(name, REFERENCE_COLOR)
    sentence = SENTENCES[name] if verdict else "Nothing trained yet. What will entropy do? Press Start."
    rows = _rows(verdict) if verdict else ""
    return (
        f'<div class="course-lab-verdict" style="border-color: {color}"><h4>Verdict: {name}</h4>'
        f"<p>{sentence}</p><table>{rows}</table></div>"
    )


def _rows(verdict: Verdict) -> str:
    line, value = verdict.reference, verdict.loss
    name, height, side = "loss", line.loss, "below"
    if verdict.accuracy is not None and line.accuracy is not None:
        name, height, side, value = "accuracy", line.accuracy, "above", verdict.accuracy
    note = f"{side if verdict.learnt else f'not {side}'} {escape(line.name)} {height:.2f}"
    rows = f"<tr><th>{name}</th><td>{_figure(value)}</td><td>{note}</td></tr>"
    if verdict.first_collapse_step is not None:
        rows += f"<tr><th>since</th><td>step {verdict.first_collapse_step}</td></tr>"
    if verdict.layers:
        rows += f"<tr><th></th><th>entropy</th><th>rank, × {verdict.rank_unit}’s</th></tr>"
    for i, layer in enumerate(verdict.layers, 1):
        h = "none" if np.isnan(layer.entropy) else _figure(layer.entropy)
        h += _flag(layer.sharp)
        # The rule counts a low rank only if entropy is low too: uniform attention's rank is at the threshold.
        rank = f"{_figure(layer.rank)}{_flag(layer.malignant)}"
        rows += f"<tr><th>layer {i}</th><td>{h}</td><td>{rank}</td></tr>"
    return rows


def legend_html(lines: Sequence[tuple[str, str]], *, ghost: bool, changes: bool) -> str:
    """A legend of lines, (colour, name) each."""
    items = list(lines)
    if changes:
        items.append((MARK_COLOR, "a setting was changed"))
    if ghost:
        items.append((GHOST_COLOR, "the run before"))
    swatches = "".join(f'<span><i style="background: {color}"></i>{name}</span>' for color, name in items)
    return f'<div class="course-lab-legend">{swatches}</div>'


def branch_table_html(rows: Sequence[tuple[Branch, Verdict | None]], current: Branch) -> str:
    """A table with a row for each branch: settings, step, loss, verdict and training time."""
    head = "".join(
        f"<th scope='col'>{title}</th>"
        for title in ("branch", "settings", "step", "loss", "verdict", "seconds of training")
    )
    lines = []
    for branch, verdict in rows:
        run = branch.run
        loss = _figure(run.records[-1].loss) if run.records else ""
        name = f'<i style="background: {branch.color}"></i>{branch.name} <em>{branch.origin}</em>'
        cells = [name, escape(describe_run(run)), f"{run.updates} of {run.config.steps}", loss]
        cells += [verdict.name if verdict else "", f"{branch.seconds:.1f}"]
        mark = ' class="course-lab-current"' if branch is current else ""
        lines.append(f"<tr{mark}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f'<table class="course-lab-branches"><tr>{head}</tr>{"".join(lines)}</table>'


def status_html(state: str, run: Run, speed: float, message: str, branch: str = "") -> str:
    """State and progress of the shown run, after its branch if there are several, and a message."""
    steps = run.config.steps
    text = f"<b>{state}</b> · {branch}step {run.updates} of {steps}"
    if run.records:
        text += f" · loss {_figure(run.records[-1].loss)} · learning rate {run.records[-1].lr:.2g}"
    if speed:
        text += f" · {speed:.0f} steps/s"
    bar = f'<progress value="{run.updates}" max="{steps}" aria-label="steps made"></progress>'
    return (
        f'<div class="course-lab-status">{bar}<span>{text}</span>'
        f'<span class="course-lab-message">{escape(message)}</span></div>'
    )


def advice_html() -> str:
    """Advice for readers whose kernel has been restarted, hidden until then (see `STYLE`)."""
    return (
        '<div class="course-lab-advice" role="alert"><b>The kernel has been restarted, and this lab is gone '
        "with it.</b> Run its cell again to make a new one; a run that was saved to a file can be loaded "
        "there.</div>"
    )


def live_html(text: str) -> str:
    """A text that screen readers read out when it changes."""
    return f'<div class="course-lab-live" role="status" aria-live="polite">{escape(text)}</div>'


def _figure(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "not a number"


def _flag(low: bool) -> str:
    return " <em>(low)</em>" if low else ""
