"""Lab: a run under the reader's hands."""

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ipywidgets

from course_lib.devices import use_available_cores
from course_lib.lab.controls import LIVE_SETTINGS, STYLE, Controls, off_to_none
from course_lib.lab.panels import Panels
from course_lib.lab.threads import release_threads, release_threads_after_cells
from course_lib.lab.words import OPTIMIZER_NAMES, describe, live_html, status_html, summary
from course_lib.lab.worker import Worker
from course_lib.training import Run, RunConfig, preset
from course_lib.training.config import check_lr, check_tau, check_warmup, without_tau

SLOW_SECONDS = 0.5
"""Least time between two frames with all panels and the status while a run trains; those in between show the
loss alone. Each message of a frame may cost the browser a layout and a painting of its own, and where both
share their cores, that comes off the training."""
SPOKEN_SECONDS = 5.0
"""Least time between two texts for screen readers while a run trains."""

# Taken by whoever starts, resets or makes a lab, whatever thread the kernel runs callbacks on; a worker
# never takes it, so that it can be waited for.
_LOCK = threading.RLock()
_LABS: "weakref.WeakSet[Lab]" = weakref.WeakSet()


class Lab:
    """A run with sliders, buttons and live charts, shown in a notebook as a cell's last expression.

        lab = Lab("live")
        lab

    From code it is driven by the methods of the same names as the buttons; nothing needs a browser:

        lab.start()
        run = lab.result()

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
        self.run = Run(config)
        """The run that is shown."""
        self.previous: Run | None = None
        """The run before, if it made a step."""
        self.message = ""
        """What the lab has to say beside the state: why something was refused, or what it waits for."""
        self.controls = Controls(config)
        self.panels = Panels()
        self._worker: Worker | None = None
        self._ending = "paused"
        self._wanted: deque[tuple[str, Any]] = deque()
        self._drawing = threading.Lock()
        self._drawn = 0.0
        self._spoken: tuple[float, str] = (0.0, "")
        self._status = ipywidgets.HTML(layout=ipywidgets.Layout(flex="1 1 420px", min_width="0"))
        self._live = ipywidgets.HTML()
        actions = ipywidgets.HBox([self.controls.button_row, self._status])
        actions.layout = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
        self.widget = ipywidgets.VBox(
            [
                ipywidgets.HTML(STYLE),
                self.controls.widget,
                actions,
                self.panels.widget,
                self._live,
            ]
        )
        self.widget.add_class("course-lab")
        self._connect()
        with _LOCK:
            _pause_all("A newer lab has taken over; Start goes on.")
            _LABS.add(self)
        self.panels.reset(self.run, None)
        self._draw()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)

    # --- what the buttons do --------------------------------------------------------------------

    @property
    def state(self) -> str:
        """ready, training, paused, stopped, finished or failed."""
        if self._worker is not None and not self._worker.done:
            return "training"
        if self._worker is not None and self._worker.error is not None:
            return "failed"
        if self.run.finished:
            return "finished"
        return self._ending if self.run.records else "ready"

    def start(self) -> None:
        """Train, or go on after a pause; once the run has ended, train a new one."""
        self._work(None)

    def step(self) -> None:
        """Make one step, then pause."""
        self._work(1)

    def pause(self) -> None:
        """Hold the run after the step it is in; `start` goes on with it."""
        self._end("paused", "Nothing to pause: it does not train.")

    def stop(self) -> None:
        """End the run after the step it is in; it stays to be looked at, and `start` makes a new one."""
        self._end("stopped", "Nothing to stop: it does not train.")

    def reset(self) -> None:
        """Make a new run with the settings of the controls, not yet started."""
        with _LOCK:
            self._halt()
            self._renew()
            self.message = ""
            self._draw(speak=True)

    def result(self, timeout: float | None = None) -> Run:
        """The run, once it does not train any more.

        Args:
            timeout: seconds to wait at most, None to wait as long as it takes.

        Raises:
            TimeoutError: it still trains.
            BaseException: whatever the thread has failed with.
        """
        worker = self._worker
        if worker is None:
            return self.run
        if not worker.wait(timeout):
            raise TimeoutError(
                f"timeout is {timeout!r}: the lab still trains, at step {self.run.updates} of "
                f"{self.run.config.steps}; give it more time, or call stop() first"
            )
        if worker.error is not None:
            raise worker.error
        return self.run

    def close(self) -> None:
        """End the thread and take the widgets away."""
        with _LOCK:
            self._halt()
            _LABS.discard(self)
        self.widget.close()

    def _work(self, limit: int | None) -> None:
        with _LOCK:
            worker = self._worker
            if worker is not None and not worker.done and not worker.halted and limit is None:
                return  # a second click
            self._halt()
            _pause_all("Another lab has started; Start goes on.", but=self)
            if self.state in ("stopped", "finished", "failed") or self._outdated():
                self._renew()
            if not self.run.records:  # its config is what the controls ask for, however they got there
                self._wanted.clear()
            self.message = ""
            self._ending = "paused"
            release_threads()
            self._worker = Worker(self.run, self._apply, self._draw, limit)
            self._worker.start()

    def _end(self, ending: str, otherwise: str) -> None:
        """Set what the worker is to do and return at once; its last frame shows that it did."""
        training = self.state == "training"
        self._ending = ending if training or self.state == "paused" else self._ending
        if self._worker is not None:
            self._worker.halt()
        if not training:
            self.message = "" if self.state == ending and self.run.records else otherwise
            self._draw(speak=True)
        elif self.state != "training":  # it has ended in between, and may have shown the other ending
            self._draw(speak=True)

    def _halt(self) -> None:
        if self._worker is not None:
            self._worker.halt()
            self._worker.wait()

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

    def _connect(self) -> None:
        controls = self.controls
        for name, button in controls.buttons.items():
            button.on_click(self._guarded(getattr(self, name)))
        for name in LIVE_SETTINGS:
            getattr(controls, name).observe(self._setting_moved(name), "value")
        for choice in (controls.optimizer, controls.norm):
            choice.observe(self._guarded(self._choice_made), "value")
        self._enable_tau()

    def _guarded(self, method: Callable[[], None]) -> Callable[[Any], None]:
        """As a click's callback: what was refused goes to the status line."""

        def clicked(_: Any) -> None:
            try:
                method()
            except ValueError as error:
                self.message = str(error)
                self._draw(speak=True)

        return clicked

    def _setting_moved(self, name: str) -> Callable[[Any], None]:
        def moved(change: Any) -> None:
            self._wanted.append((name, off_to_none(change["new"])))
            with _LOCK:
                if self.state != "training" and self.run.records:
                    self._apply()
                self._draw()

        return moved

    def _choice_made(self) -> None:
        self._enable_tau()
        self._draw(speak=True)

    def _enable_tau(self) -> None:
        bounded = "adamw2" in (self.controls.optimizer.value, self.run.config.optimizer)
        self.controls.tau.disabled = not bounded

    def _apply(self) -> None:
        """Hand over to the run what was set since the last step."""
        while self._wanted:
            name, value = self._wanted.popleft()
            if name == "tau" and self.run.config.optimizer != "adamw2":
                continue  # for the next run
            try:
                setattr(self.run, name, value)
            except ValueError as error:
                self.message = str(error)

    def _config(self) -> RunConfig:
        settings = self.controls.settings()
        groups = self.run.config.groups
        if settings["optimizer"] == "adamw":  # has no bound: a group's own τ waits for AdamW²
            groups = {name: without_tau(own) for name, own in groups.items()}
        return replace(self.run.config, groups=groups, **settings)

    def _outdated(self) -> bool:
        """Whether a run that has made no step yet is not what the controls ask for."""
        return not self.run.records and self._config() != self.run.config

    def _renew(self) -> None:
        """Put a new run in the place of the present one, which is left as it is if that is refused."""
        run = Run(self._config())
        if self.run.records:
            self.previous = self.run
        self.run, self._worker = run, None
        self._wanted.clear()
        self._enable_tau()
        with self._drawing:
            self.panels.reset(run, self.previous)

    # --- showing --------------------------------------------------------------------------------

    def _draw(self, *, speak: bool = False) -> None:
        with self._drawing:
            run, worker, state = self.run, self._worker, self.state
            now = time.monotonic()
            if state == "training" and not speak and now - self._drawn < SLOW_SECONDS:
                self.panels.draw_loss(run)
                return
            self._drawn = now
            self.panels.draw(run)
            speed = worker.speed if worker is not None else 0.0
            note = self.message or self._pending()
            if state == "failed" and worker is not None:
                note = f"{type(worker.error).__name__}: {worker.error}"
            self._status.value = status_html(state, run, speed, note)
            self._speak(state, note, speak or state != "training")

    def _pending(self) -> str:
        """What the controls ask for and the present run does not have."""
        config, wanted = self.run.config, self.controls.settings()
        choices = []
        if wanted["optimizer"] != config.optimizer:
            choices.append(OPTIMIZER_NAMES[wanted["optimizer"]])
        if wanted["norm"] != config.norm:
            choices.append(f"{wanted['norm']}-LN")
        if choices and self.run.records:
            return f"{' and '.join(choices)} from the next run on: press Reset, then Start."
        if not self.run.records:
            return f"{describe(self._config())}. Press Start."
        return ""

    def _speak(self, state: str, note: str, now: bool) -> None:
        then, spoken = self._spoken
        now = now or not spoken.startswith(state.capitalize())
        if now or time.monotonic() - then > SPOKEN_SECONDS:
            text = f"{state.capitalize()}. {note} {summary(self.run)}"
            self._spoken = time.monotonic(), text
            self._live.value = live_html(text)


def _pause_all(message: str, but: Lab | None = None) -> None:
    for lab in list(_LABS):
        if lab is not but and lab.state == "training":
            lab.message = message
            lab.pause()
            lab._halt()


@atexit.register
def _halt_all() -> None:
    """A thread that computes while the interpreter goes down can crash it."""
    for lab in list(_LABS):
        lab._halt()
