"""The lab's sliders, menus and buttons."""

import math
import threading
from collections.abc import Mapping
from typing import Any

import ipywidgets

from course_lib.lab.view.text import NORM_NAMES, OPTIMIZER_NAMES, number
from course_lib.runs import GroupSettings, Run, RunConfig

TAUS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0)
"""Positions of the τ slider, before "off"."""
LR_DECADES = (-4.0, 0.0)
"""Ends of the learning rate slider, as powers of ten; a preset beyond them moves them."""
OFF = "off"
"""The τ slider's last position; a selection cannot hold None."""
LIVE_SETTINGS = ("lr", "warmup", "tau")
"""What takes effect at the next step; the other choices wait for the next run."""

_BUTTONS = {
    "start": (
        "Start",
        "play",
        "success",
        "Train, or go on after a pause. Once a run has ended: a new run",
    ),
    "pause": ("Pause", "pause", "", "Hold the run between two steps; Start goes on"),
    "step": ("Step", "step-forward", "", "Make one step, then pause"),
    "stop": (
        "Stop",
        "stop",
        "danger",
        "End this run; it stays to be looked at, and Start makes a new one",
    ),
    "reset": ("Reset", "undo", "", "A new run with the settings above, not yet started"),
}


class Controls:
    """Everything a reader can turn or press.

    Args:
        config: the settings to begin with.
    """

    def __init__(self, config: RunConfig) -> None:
        exponent = math.log10(config.lr)
        self.lr = ipywidgets.FloatLogSlider(
            value=config.lr,
            min=min(LR_DECADES[0], math.floor(exponent)),
            max=max(LR_DECADES[1], math.ceil(exponent)),
            step=0.05,
            readout_format=".2g",
            tooltip="Learning rate, before schedule and warmup. Takes effect at the next step",
            **_slider("learning rate"),
        )
        self.warmup = ipywidgets.IntSlider(
            value=config.warmup,
            min=0,
            max=config.steps,
            step=max(1, config.steps // 60),
            tooltip="Steps over which the learning rate rises from zero, counted from the start of the run",
            **_slider("warmup (steps)"),
        )
        self.tau = ipywidgets.SelectionSlider(
            options=_tau_options(config.tau),
            value=OFF if config.tau is None else config.tau,
            tooltip="AdamW² only: largest share of σ₁(W) that one step may move; off at the right end",
            **_slider("τ of AdamW²"),
        )
        self.tau.add_class("course-lab-choice")
        self.optimizer = ipywidgets.Dropdown(
            options=[(text, name) for name, text in OPTIMIZER_NAMES.items()],
            value=config.optimizer,
            tooltip="Takes effect with the next run",
            **_labelled("optimizer"),
        )
        self.norm = ipywidgets.Dropdown(
            options=[(text, name) for name, text in NORM_NAMES.items()],
            value=config.norm,
            tooltip="Where LayerNorm stands in a block. Takes effect with the next run",
            **_labelled("LayerNorm"),
        )
        self.groups: dict[str, GroupSettings] = dict(config.groups)
        """Settings of single parameter groups."""
        self.attention = config.attention
        """Takes effect with the next run."""
        self.buttons = {
            name: ipywidgets.Button(
                description=text,
                icon=icon,
                button_style=style,
                tooltip=tooltip,
                layout=ipywidgets.Layout(width="auto", min_width="84px"),
            )
            for name, (text, icon, style, tooltip) in _BUTTONS.items()
        }
        row = ipywidgets.Layout(flex_flow="row wrap", margin="4px 12px 0 0")
        self.button_row = ipywidgets.HBox(list(self.buttons.values()), layout=row)
        self.widget = ipywidgets.GridBox(
            [self.lr, self.warmup, self.tau, self.optimizer, self.norm],
            layout=ipywidgets.Layout(
                grid_template_columns="repeat(auto-fit, minmax(290px, 1fr))",
                grid_gap="4px 12px",
                width="100%",
                overflow="hidden",
            ),
        )

    def settings(self) -> dict[str, Any]:
        """All settings as fields of a `RunConfig`."""
        values = {name: getattr(self, name).value for name in (*LIVE_SETTINGS, "optimizer", "norm")}
        plain = {name: off_to_none(value) for name, value in values.items()}
        return {**plain, "groups": dict(self.groups), "attention": self.attention}

    def show(self, run: Run, chosen: Mapping[str, Any]) -> None:
        """Move everything to a run's settings as they are now, but for what is `chosen` instead."""
        config = run.config
        values = {
            **vars(run.settings),
            "optimizer": config.optimizer,
            "attention": config.attention,
            **chosen,
        }
        exponent = math.log10(values["lr"])
        self.lr.min = min(self.lr.min, math.floor(exponent))
        self.lr.max = max(self.lr.max, math.ceil(exponent))
        self.warmup.max = config.steps
        for name in ("lr", "warmup", "optimizer"):
            getattr(self, name).value = values[name]
        self.set_tau(values["tau"])
        self.norm.value = config.norm
        self.groups, self.attention = dict(values["groups"]), values["attention"]

    def set_lr(self, lr: float) -> None:
        """Move the slider; ValueError if it does not reach that far."""
        low, high = 10.0**self.lr.min, 10.0**self.lr.max
        if not low <= lr <= high:
            raise ValueError(f"lr is {lr!r}: expected {low:g} to {high:g}, the ends of the slider")
        self.lr.value = lr

    def set_tau(self, tau: float | None) -> None:
        """Move the slider, which gets a position for `tau` if it has none."""
        if tau is not None and tau not in [value for _, value in self.tau.options]:
            self.tau.options = _tau_options(tau)
        self.tau.value = OFF if tau is None else tau


class Quiet:
    """True while the thread that asks is in the block: widgets are moved by the lab, not by the reader."""

    def __init__(self) -> None:
        self._threads: set[int] = set()

    def __enter__(self) -> None:
        self._threads.add(threading.get_ident())

    def __exit__(self, *error: object) -> None:
        self._threads.discard(threading.get_ident())

    def __bool__(self) -> bool:
        return threading.get_ident() in self._threads


def action(text: str, tooltip: str, icon: str = "") -> ipywidgets.Button:
    """A button as wide as its text."""
    layout = ipywidgets.Layout(width="auto")
    return ipywidgets.Button(description=text, tooltip=tooltip, icon=icon, layout=layout)


def row(*widgets: ipywidgets.Widget) -> ipywidgets.HBox:
    """Side by side as long as there is room."""
    layout = ipywidgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="2px 8px")
    return ipywidgets.HBox(list(widgets), layout=layout)


def hint(text: str) -> ipywidgets.HTML:
    """A line in small type that says how something is used."""
    return ipywidgets.HTML(hint_html(text))


def hint_html(text: str) -> str:
    """A line in small type."""
    return f'<div class="course-lab-hint">{text}</div>'


def off_to_none(value: Any) -> Any:
    """What a run calls the value of a control."""
    return None if value == OFF else value


def _tau_options(tau: float | None) -> list[tuple[str, float | str]]:
    values = sorted({*TAUS, *([] if tau is None else [tau])})
    return [*((number(value), value) for value in values), ("off", OFF)]


def _slider(description: str) -> dict[str, Any]:
    # A slider that costs a training step must not fire at every pixel.
    return {**_labelled(description), "continuous_update": False}


def _labelled(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "style": {"description_width": "104px"},
        "layout": ipywidgets.Layout(width="auto", min_width="0"),
    }
