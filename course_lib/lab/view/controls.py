"""The lab's sliders, menus and buttons."""

import math
from collections.abc import Callable
from typing import Any

import ipywidgets

from course_lib.lab.session import Session
from course_lib.lab.view.text import NORM_NAMES, OPTIMIZER_NAMES, number
from course_lib.lab.view.user_changes import AsCallback, UserChanges

TAUS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0)
"""Positions of the τ slider, before "off"."""
OFF = "off"
"""Value of the τ slider's last position. A selection cannot hold None."""

_BUTTONS = {
    "start": ("Start", "play", "success", "Train, or go on after a pause. Once a run has ended: a new run"),
    "pause": ("Pause", "pause", "", "Hold the run between two steps; Start goes on"),
    "step": ("Step", "step-forward", "", "Make one step, then pause"),
    "stop": ("Stop", "stop", "danger", "End this run; it stays to be looked at, and Start makes a new one"),
    "reset": ("Reset", "undo", "", "A new run with the settings above, not yet started"),
}


class Controls:
    """The sliders, menus and main buttons, which show and change a session's wanted settings."""

    def __init__(self, session: Session, as_callback: AsCallback) -> None:
        self.session = session
        self._changes = UserChanges(as_callback)
        steps = session.run.config.steps
        self.lr = ipywidgets.FloatLogSlider(
            step=0.05,
            readout_format=".2g",
            tooltip="Learning rate, before schedule and warmup. Takes effect at the next step",
            **_slider("learning rate"),
        )
        self.warmup = ipywidgets.IntSlider(
            max=steps,
            step=max(1, steps // 60),
            tooltip="Steps over which the learning rate rises from zero, counted from the start of the run",
            **_slider("warmup (steps)"),
        )
        self.tau = ipywidgets.SelectionSlider(
            options=_tau_options(session.tau),
            tooltip="AdamW² only: largest share of σ₁(W) that one step may move; off at the right end",
            **_slider("τ of AdamW²"),
        )
        self.tau.add_class("course-lab-choice")
        self.optimizer = ipywidgets.Dropdown(
            options=[(text, name) for name, text in OPTIMIZER_NAMES.items()],
            tooltip="Takes effect with the next run",
            **_labelled("optimizer"),
        )
        self.norm = ipywidgets.Dropdown(
            options=[(text, name) for name, text in NORM_NAMES.items()],
            tooltip="Where LayerNorm stands in a block. Takes effect with the next run",
            **_labelled("LayerNorm"),
        )
        self.draw()
        for name in ("lr", "warmup", "tau", "optimizer", "norm"):
            self._changes.observe(getattr(self, name), self._setter(name))
        self.buttons: dict[str, ipywidgets.Button] = {}
        for name, (text, icon, style, tooltip) in _BUTTONS.items():
            pressed = button(text, tooltip, icon=icon, button_style=style)
            pressed.layout.min_width = "84px"
            pressed.on_click(as_callback(getattr(session, name)))
            self.buttons[name] = pressed
        self.button_row = ipywidgets.HBox(list(self.buttons.values()))
        self.button_row.layout = ipywidgets.Layout(flex_flow="row wrap", margin="4px 12px 0 0")
        self.widget = ipywidgets.GridBox([self.lr, self.warmup, self.tau, self.optimizer, self.norm])
        columns = "repeat(auto-fit, minmax(290px, 1fr))"
        self.widget.layout = ipywidgets.Layout(
            grid_template_columns=columns, grid_gap="4px 12px", width="100%", overflow="hidden"
        )

    def _setter(self, name: str) -> Callable[[Any], None]:
        return lambda value: self.session.set(**{name: None if value == OFF else value})

    def draw(self) -> None:
        """Show the wanted settings."""
        wanted, config = self.session.wanted, self.session.run.config
        with self._changes.ignored():
            self.lr.min, self.lr.max = (math.log10(end) for end in self.session.lr_range)
            self.warmup.max = config.steps
            if wanted.tau is not None and wanted.tau not in [value for _, value in self.tau.options]:
                self.tau.options = _tau_options(wanted.tau)
            self.tau.value = OFF if wanted.tau is None else wanted.tau
            for name in ("lr", "warmup", "optimizer", "norm"):
                getattr(self, name).value = getattr(wanted, name)
            self.tau.disabled = "adamw2" not in (wanted.optimizer, config.optimizer)


def button(text: str, tooltip: str, **style: Any) -> ipywidgets.Button:
    """A button as wide as its text."""
    layout = ipywidgets.Layout(width="auto")
    return ipywidgets.Button(description=text, tooltip=tooltip, layout=layout, **style)


def menu(name: str, options: list[Any], tooltip: str) -> ipywidgets.Dropdown:
    """A menu of short names."""
    layout, style = ipywidgets.Layout(width="130px"), {"description_width": "50px"}
    return ipywidgets.Dropdown(description=name, options=options, tooltip=tooltip, layout=layout, style=style)


def row(*widgets: ipywidgets.Widget) -> ipywidgets.HBox:
    """Widgets side by side, in several rows if the window is narrow."""
    layout = ipywidgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="2px 8px")
    return ipywidgets.HBox(list(widgets), layout=layout)


def hint_html(text: str) -> str:
    """A line in small type."""
    return f'<div class="course-lab-hint">{text}</div>'


def _tau_options(tau: float | None) -> list[tuple[str, float | str]]:
    values = sorted({*TAUS, *([] if tau is None else [tau])})
    return [*((number(value), value) for value in values), ("off", OFF)]


def _slider(description: str) -> dict[str, Any]:
    # Each change takes effect in the training, so a slider must not send one for every pixel.
    return {**_labelled(description), "continuous_update": False}


def _labelled(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "style": {"description_width": "104px"},
        "layout": ipywidgets.Layout(width="auto", min_width="0"),
    }
