"""Lab: a run under the reader's hands."""

import atexit
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ipywidgets

from course_lib.devices import use_available_cores
from course_lib.lab.drawers.drawers import Drawer, Drawers
from course_lib.lab.session.branching import Branching
from course_lib.lab.session.openmp import release_threads_after_cells
from course_lib.lab.session.session import LOCK, NOTHING, forget, sessions
from course_lib.lab.view.a11y import naming
from course_lib.lab.view.controls import LIVE_SETTINGS, Controls, Quiet, off_to_none
from course_lib.lab.view.panels import Panels
from course_lib.lab.view.style import STYLE
from course_lib.lab.view.text import (
    OPTIMIZER_NAMES,
    advice_html,
    describe,
    live_html,
    status_html,
    summary,
    summary_of_branches,
)
from course_lib.runs import Run, RunConfig, preset
from course_lib.runs.config import GroupSettings, check_groups, check_lr, check_tau, check_warmup

SLOW_SECONDS = 0.9
"""Least time between two frames with all curves and the status while a run trains. The next one shows the
maps and the open drawer, those in between the loss alone, so that none is long. Each message of a frame may
cost the browser a layout and a painting of its own, and where both share their cores, that comes off the
training."""
SPOKEN_SECONDS = 5.0
"""Least time between two texts for screen readers while a run trains."""


class Lab(Branching):
    """A run with sliders, buttons and live charts, shown in a notebook as a cell's last expression.

        lab = Lab("live")
        lab

    From code it is driven by the methods of the same names as the buttons; nothing needs a browser:

        lab.start()
        run = lab.result()
        lab.rewind(10)
        lab.fork(optimizer="adamw2", tau=0.05)
        lab.start()

    A thread steps the run while it trains and ends when it is paused, stopped, finished or has failed. There
    is one such thread at most: making or starting a lab pauses the one that trains.

    Args:
        config: name of a preset, or a `RunConfig`.
        overrides: fields of the config to change.

    Raises:
        ValueError: no such preset or field, or a value out of range.
    """

    def __init__(self, config: str | RunConfig = "live", **overrides: Any) -> None:
        if isinstance(config, str):
            config = preset(config, **overrides)
        elif isinstance(config, RunConfig):
            config = replace(config, **overrides)
        else:
            raise ValueError(f"config is {config!r}: expected a preset's name or a RunConfig; try 'live'")
        use_available_cores()
        release_threads_after_cells()
        super().__init__(Run(config))
        self.controls = Controls(config)
        self.panels = Panels()
        self.drawers = Drawers(self)
        self._drawing = threading.Lock()
        self._drawn = 0.0
        self._pictures_due = False
        self._spoken: tuple[float, str] = (0.0, "")
        self._quiet = Quiet()
        self._status = ipywidgets.HTML(layout=ipywidgets.Layout(flex="1 1 420px", min_width="0"))
        self._live = ipywidgets.HTML()
        actions = ipywidgets.HBox([self.controls.button_row, self._status])
        actions.layout = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
        self.widget = ipywidgets.VBox(
            [
                ipywidgets.HTML(STYLE + advice_html()),
                self.controls.widget,
                actions,
                self.drawers.widget,
                self.panels.widget,
                self._live,
                naming(),
            ]
        )
        self.widget.add_class("course-lab")
        self._connect()
        self._take_over()
        self._redraw()
        self._draw()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)

    def close(self) -> None:
        """End the thread and take the widgets away."""
        with LOCK:
            self._halt()
            forget(self)
        self.widget.close()

    # --- settings -------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """Learning rate on the slider; a value that is set takes effect at the next step."""
        return float(self.controls.lr.value)

    @lr.setter
    def lr(self, value: float) -> None:
        self.controls.set_lr(check_lr(value))

    @property
    def warmup(self) -> int:
        """Warmup steps on the slider; a value that is set takes effect at the next step."""
        return int(self.controls.warmup.value)

    @warmup.setter
    def warmup(self, value: int) -> None:
        self.controls.warmup.value = check_warmup(value, self.run.config.steps)

    @property
    def tau(self) -> float | None:
        """τ on the slider, None for off; a value that is set takes effect at the next step of AdamW²."""
        tau: float | None = off_to_none(self.controls.tau.value)
        return tau

    @tau.setter
    def tau(self, value: float | None) -> None:
        self.controls.set_tau(check_tau(value))

    def set_group(self, group: str, settings: GroupSettings) -> None:
        """Give a parameter group settings of its own from the next step on; {} takes them back.

        Raises:
            ValueError: no such group or setting, or a value out of range.
        """
        groups = {**self.controls.groups, group: settings}
        check_groups(groups, self.run.config.steps, self.controls.optimizer.value)
        self.controls.groups = groups
        self.set_live("groups", groups)

    def search_rescue(self) -> None:
        """Search for the last step at which turning the bound on saves the current branch.

        The search is `lab.drawers.rescue.search`, a `course_lib.studies.rescue.Rescue`.
        """
        with LOCK:
            self._halt()
            self._back_to_now()
            self.drawers.rescue.prepare()
            self.message = ""
            self._work(self.drawers.rescue.work, "searching")

    def show(self, drawer: Drawer) -> None:
        """Bring a drawer up to date, whichever thread draws meanwhile."""
        with self._drawing:
            drawer.draw()

    def settings(self) -> dict[str, Any]:
        return self.controls.settings()

    def _show_settings(self, run: Run, chosen: Mapping[str, Any] = NOTHING) -> None:
        with self._quiet:
            self.controls.show(run, chosen)
        self._enable_tau()

    def _connect(self) -> None:
        controls = self.controls
        for name, button in controls.buttons.items():
            button.on_click(self.guarded(getattr(self, name)))
        for name in LIVE_SETTINGS:
            getattr(controls, name).observe(self._setting_moved(name), "value")
        for choice in (controls.optimizer, controls.norm):
            choice.observe(self.guarded(self._choice_made), "value")
        self._enable_tau()

    def guarded(self, method: Callable[[], Any]) -> Callable[[Any], None]:
        """As a click's callback: what was refused goes to the status line."""

        def clicked(_: Any) -> None:
            try:
                method()
            except ValueError as error:
                self.say(str(error))
            except OSError as error:  # such as a full disk
                what = f"{error.filename or 'file'}: {error.strerror or error}: expected to write there"
                self.say(f"{what}; nothing of the lab is lost; try another folder")

        return clicked

    def say(self, message: str) -> None:
        """Put a message into the status line."""
        self.message = message
        self._draw(speak=True)

    def _setting_moved(self, name: str) -> Callable[[Any], None]:
        def moved(change: Any) -> None:
            if not self._quiet:
                self.set_live(name, off_to_none(change["new"]))

        return moved

    def _choice_made(self) -> None:
        if not self._quiet:
            self._enable_tau()
            self._draw(speak=True)

    def _enable_tau(self) -> None:
        bounded = "adamw2" in (self.controls.optimizer.value, self.run.config.optimizer)
        self.controls.tau.disabled = not bounded

    # --- showing --------------------------------------------------------------------------------

    def _redraw(self) -> None:
        with self._drawing:
            self._enable_tau()
            self.panels.reset(self.branches, self.previous)
            self.drawers.reset()

    def _draw(self, *, speak: bool = False) -> None:
        with self._drawing:
            worker, state = self._worker, self.state
            now = time.monotonic()
            training = self.busy and not speak
            pictures = self._pictures_due or not training
            between = training and now - self._drawn < SLOW_SECONDS
            self._pictures_due = not (pictures or between)
            if between:
                self.panels.draw_loss()
                if pictures:
                    self.panels.draw_maps()
                    self.drawers.draw()
                return
            self._drawn = now
            self.panels.draw(self.past, maps=pictures)
            speed = worker.speed if worker is not None and self.past is None else 0.0
            note = self.message or self._pending()
            if state == "failed" and worker is not None:
                note = f"{type(worker.error).__name__}: {worker.error}"
            branch = f"branch {self.branches.current.name} · " if len(self.branches) > 1 else ""
            shown = "looking back" if self.past is not None else state
            self._status.value = status_html(shown, self.past or self.run, speed, note, branch)
            if pictures:
                self.drawers.draw()
            self._speak(shown, note, speak or not self.busy)

    def _pending(self) -> str:
        """What the controls ask for and the present run does not have."""
        if self.past is not None:
            return f"Step {self.past.updates} as it was. Change a setting and fork; Start goes back to now."
        config, wanted = self.run.config, self.controls.settings()
        choices = []
        if wanted["optimizer"] != config.optimizer:
            choices.append(OPTIMIZER_NAMES[wanted["optimizer"]])
        if wanted["attention"] != config.attention:
            choices.append(f"{wanted['attention']} attention")
        if wanted["norm"] != config.norm:
            choices.append(f"{wanted['norm']}-LN")
        if choices and self.run.records:
            return f"{' and '.join(choices)} from the next run on: press Reset, then Start. Or fork."
        if not self.run.records:
            return f"{describe(self.next_config())}. Press Start."
        return ""

    def _speak(self, state: str, note: str, now: bool) -> None:
        then, spoken = self._spoken
        now = now or not spoken.startswith(state.capitalize())
        if now or time.monotonic() - then > SPOKEN_SECONDS:
            text = f"{state.capitalize()}. {note} {summary(self.past or self.run, self.panels.judged)}"
            if len(self.branches) > 1:
                text += f" {summary_of_branches(self.branches)}"
            self._spoken = time.monotonic(), text
            self._live.value = live_html(text)


@atexit.register
def _halt_all() -> None:
    """A thread that computes while the interpreter goes down can crash it."""
    for lab in sessions():
        lab._halt()
