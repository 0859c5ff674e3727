"""The runs of a lab and the thread that trains them, without a widget."""

import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from course_lib.lab.session.branches import Branch, Branches
from course_lib.lab.session.openmp import release_threads
from course_lib.lab.session.worker import Worker, in_lock_step
from course_lib.models import GROUPS
from course_lib.runs import Run, RunConfig
from course_lib.runs.config import without_tau

# Taken by whoever starts, resets or makes a lab, whatever thread the kernel runs callbacks on; a worker
# never takes it, so that it can be waited for.
LOCK = threading.RLock()
NOTHING: Mapping[str, Any] = MappingProxyType({})
_SESSIONS: "weakref.WeakSet[Session]" = weakref.WeakSet()


class Session(ABC):
    """Branches of a run under a reader's hands: trained, paused, looked back on, forked.

    A thread steps the runs while they train and ends when they are paused, stopped, finished or have failed.
    There is one such thread at most: making or starting a session pauses the one that trains.

    Args:
        run: the first branch's.
    """

    def __init__(self, run: Run) -> None:
        self.branches = Branches(run)
        self.previous: Run | None = None
        """The run before, if it made a step."""
        self.past: Run | None = None
        """The current branch as it was at the moment that is looked at; None: it is the present."""
        self.message = ""
        """What there is to say beside the state: why something was refused, or what it waits for."""
        self.together = False
        """Whether `start` trains all branches in lock step, and not the current one alone."""
        self._worker: Worker | None = None
        self._wanted: deque[tuple[str, Any]] = deque()

    def _take_over(self) -> None:
        with LOCK:
            pause_all("A newer lab has taken over; Start goes on.")
            _SESSIONS.add(self)

    # --- what a view does -----------------------------------------------------------------------

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What the reader has chosen, as fields of a `RunConfig`."""

    @abstractmethod
    def _show_settings(self, run: Run, chosen: Mapping[str, Any] = NOTHING) -> None:
        """Move the controls to the settings of a run, which is not to be taken for the reader's doing.

        Args:
            run: whose settings to show.
            chosen: settings that the reader has chosen instead, and that stay.
        """

    @abstractmethod
    def _draw(self, *, speak: bool = False) -> None:
        """Show what is new."""

    @abstractmethod
    def _redraw(self) -> None:
        """Show other branches than before, or another one as the current one."""

    # --- state ----------------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """The run of the current branch: it is shown, and the sliders act on it."""
        return self.branches.current.run

    @property
    def busy(self) -> bool:
        """Whether the thread is at work."""
        return self._worker is not None and not self._worker.done

    @property
    def state(self) -> str:
        """ready, training, paused, stopped, finished, failed, or what else the thread does."""
        if self._worker is not None and not self._worker.done:
            return self._worker.doing
        if self._worker is not None and self._worker.error is not None:
            return "failed"
        if self.run.finished:
            return "finished"
        return self.branches.current.ending if self.run.records else "ready"

    # --- training -------------------------------------------------------------------------------

    def start(self) -> None:
        """Train, or go on after a pause; once a run without branches has ended, train a new one."""
        self._train(None)

    def step(self) -> None:
        """Make one step, then pause."""
        self._train(1)

    def pause(self) -> None:
        """Hold the run after the step it is in; `start` goes on with it."""
        self._end("paused", "Nothing to pause: it does not train.")

    def stop(self) -> None:
        """End the run after the step it is in; it stays to be looked at, and `start` makes a new one."""
        self._end("stopped", "Nothing to stop: it does not train.")

    def reset(self) -> None:
        """Make a new run with the settings of the controls, not yet started; branches are given up."""
        with LOCK:
            self._halt()
            self._renew()
            self.message = ""
            self._draw(speak=True)

    def result(self, timeout: float | None = None) -> Run:
        """The run of the current branch, once nothing trains any more.

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

    def _train(self, limit: int | None) -> None:
        with LOCK:
            worker = self._worker
            if worker is not None and not worker.done and not worker.halted and limit is None:
                return  # a second click
            self._halt()
            pause_all("Another lab has started; Start goes on.", but=self)
            self._back_to_now()
            self._check_startable()
            if not self.run.records and len(self.branches) == 1:  # its config is what the controls ask for
                self._wanted.clear()
            self.message = ""
            arms = list(self.branches) if self.together else [self.branches.current]
            for branch in arms:
                branch.ending = "paused"
            self._work(in_lock_step(arms, self._apply, limit))

    def _check_startable(self) -> None:
        """Make a new run where the present one has ended or is not what the controls ask for."""
        ended = self.state in ("stopped", "finished", "failed")
        if len(self.branches) == 1:
            if ended or self._outdated():
                self._renew()
        elif self.together and any(not branch.run.finished for branch in self.branches):
            return
        elif self.run.finished:
            name = self.branches.current.name
            raise ValueError(
                f"branch {name} is finished: expected one with steps left; choose another, "
                "fork from its past, or press Reset for a new run"
            )

    def _work(self, work: Callable[[Worker], None], doing: str = "training") -> None:
        release_threads()
        self._worker = Worker(work, self._draw, doing)
        self._worker.start()

    def _end(self, ending: str, otherwise: str) -> None:
        """Set what the worker is to do and return at once; its last frame shows that it did."""
        training = self.busy
        for branch in self.branches:
            if training or branch.ending == "paused":
                branch.ending = ending
        if self._worker is not None:
            self._worker.halt()
        if not training:
            self.message = "" if self.state == ending and self.run.records else otherwise
            self._draw(speak=True)
        elif not self.busy:  # it has ended in between, and may have shown the other ending
            self._draw(speak=True)

    def _halt(self) -> None:
        if self._worker is not None:
            self._worker.halt()
            self._worker.wait()

    def _back_to_now(self) -> None:
        if self.past is not None:
            self.past = None
            self._wanted.clear()
            self._show_settings(self.run)

    def _settle(self) -> None:
        """After a change of branches: show the current one, at the present."""
        self._worker = self.past = None
        self.message = ""
        self._wanted.clear()
        self._show_settings(self.run)
        self._redraw()
        self._draw(speak=True)

    # --- settings -------------------------------------------------------------------------------

    def set_live(self, name: str, value: Any) -> None:
        """Have a setting take effect at the next step; one of the past waits for a fork."""
        if self.past is not None:
            self._draw()
            return
        self._wanted.append((name, value))
        with LOCK:
            if not self.busy and self.run.records:
                self._apply(self.branches.current)
            self._draw()

    def _apply(self, branch: Branch) -> None:
        """Hand over to the run what was set since the last step."""
        if branch is not self.branches.current:
            return
        if branch.run.finished:  # no step is left at which to take effect
            self._wanted.clear()
        while self._wanted:
            name, value = self._wanted.popleft()
            if name == "tau" and branch.run.config.optimizer != "adamw2":
                continue  # for the next run
            try:
                if name == "groups":
                    _set_groups(branch.run, value)
                else:
                    setattr(branch.run, name, value)
            except ValueError as error:
                self.message = str(error)

    def _changed(self, run: Run) -> dict[str, Any]:
        """What the controls ask for and `run` does not have, for a fork of it."""
        wanted = self._config_settings()
        changed = chosen(wanted, run)
        if wanted["optimizer"] == "adamw":
            changed.pop("tau", None)
        if "optimizer" in changed:  # the groups that the config began with may not fit
            changed["groups"] = wanted["groups"]
        return changed

    def _config_settings(self) -> dict[str, Any]:
        settings = self.settings()
        if settings["optimizer"] == "adamw":  # has no bound: a group's own τ waits for AdamW²
            settings["groups"] = {name: without_tau(own) for name, own in settings["groups"].items()}
        settings["groups"] = {name: own for name, own in settings["groups"].items() if own}
        return settings

    def next_config(self) -> RunConfig:
        """What the next run is made of."""
        return replace(self.run.config, **self._config_settings())

    def _outdated(self) -> bool:
        """Whether a run that has made no step yet is not what the controls ask for."""
        return not self.run.records and self.next_config() != self.run.config

    def _renew(self) -> None:
        """Put a new run in the place of all branches, which are left as they are if that is refused."""
        run = Run(self.next_config())
        if self.run.records:
            self.previous = self.run
        self.branches = Branches(run, self.branches.budget)
        self._worker = self.past = None
        self.together = False
        self._wanted.clear()
        self._redraw()


def chosen(settings: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """The settings that differ from a run's, as far as a fork of it can have others."""
    now = vars(run.settings) | {"optimizer": run.config.optimizer, "attention": run.config.attention}
    return {name: settings[name] for name, value in now.items() if settings[name] != value}


def _set_groups(run: Run, groups: dict[str, Any]) -> None:
    for group in GROUPS:
        own = groups.get(group, {})
        if run.config.optimizer == "adamw":  # has no bound: a group's own τ waits for AdamW²
            own = without_tau(own)
        if own != run.settings.groups.get(group, {}):
            run.set_group(group, own)


def sessions() -> Iterable[Session]:
    """All that are not closed."""
    return list(_SESSIONS)


def forget(session: Session) -> None:
    """It is closed, and does not have to be paused any more."""
    _SESSIONS.discard(session)


def pause_all(message: str, but: Session | None = None) -> None:
    """Pause what trains, `but` one, and say why."""
    for session in sessions():
        if session is not but and session.busy:
            session.message = message
            session.pause()
            session._halt()
