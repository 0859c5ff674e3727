"""Session: runs that a reader trains, rewinds and forks, without a widget."""

import atexit
import math
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from course_lib import checks
from course_lib.devices import use_available_cores
from course_lib.lab.session.branches import MAX_BRANCHES, Branch, Branches
from course_lib.lab.session.listener import Listener
from course_lib.lab.session.openmp import release_threads, release_threads_after_cells
from course_lib.lab.session.wanted import WantedSettings, present_config
from course_lib.lab.session.worker import Worker, in_lock_step, in_steps
from course_lib.models import GROUPS
from course_lib.runs import LIVE_SETTINGS, GroupSettings, Run, RunConfig, preset
from course_lib.runs.config import check_groups, without_tau
from course_lib.studies.arms import TAU, WARMUP, arm_config, arm_of
from course_lib.studies.rescue import Cure, Rescue

LR_RANGE = (1e-4, 1.0)
"""Learning rates that a reader can choose. A run with a rate outside it widens the range."""
SAME_IN_A_RACE = ("task", "text", "seed", "context", "batch", "steps")
"""Fields of a config that the arms of a race have in common."""

# Whoever starts, resets or makes a session takes this lock, because a kernel may run callbacks on any thread.
# A worker never takes it, so its end can be waited for while the lock is held.
LOCK = threading.RLock()
_SESSIONS: "weakref.WeakSet[Session]" = weakref.WeakSet()


def _wanted(name: str, doc: str) -> Any:
    def put(session: "Session", value: Any) -> None:
        session.set(**{name: value})

    return property(lambda session: getattr(session.wanted, name), put, doc=doc)


class Session:
    """Trains branches of a run, pauses them, looks back and forks when a reader asks for it.

        session = Session("copy")
        session.start()
        run = session.result()
        session.rewind(10)
        session.fork(optimizer="adamw2", tau=0.05)

    A thread steps the runs while they train, and ends when they are paused, stopped, finished or have failed.
    At most one session trains: making or starting another one pauses it. `listeners` are told what happens.

    Args:
        config: name of a preset, or a `RunConfig`.
        overrides: fields of the config to change.

    Raises:
        ValueError: no such preset or field, or a value out of range.
    """

    def __init__(self, config: str | RunConfig = "live", **overrides: Any) -> None:
        if not isinstance(config, str | RunConfig):
            raise ValueError(f"config is {config!r}: expected a preset's name or a RunConfig; try 'live'")
        config = preset(config, **overrides) if isinstance(config, str) else replace(config, **overrides)
        use_available_cores()
        release_threads_after_cells()
        self.branches = Branches(Run(config))
        self.wanted = WantedSettings.of(self.run)
        """What the reader has chosen."""
        self.lr_range = LR_RANGE
        self._widen_lr_range()
        self.previous: Run | None = None
        """The run before, if it made a step."""
        self.past: Run | None = None
        """The current branch at the past moment that is looked at, None for the present."""
        self.message = ""
        """Text beside the state: why something was refused, or what the session waits for."""
        self.together = False
        """True if `start` trains all branches in lock step, not just the current one."""
        self.listeners: list[Listener] = []
        self._worker: Worker | None = None
        self._unapplied: deque[tuple[str, Any]] = deque()
        self.search: Rescue | None = None
        """The rescue search that was begun last."""
        self._search_of: tuple[Branch, float] | None = None
        with LOCK:
            _pause_others(self, "A newer lab has taken over; Start goes on.")
            _SESSIONS.add(self)

    def close(self) -> None:
        """End the thread."""
        with LOCK:
            self._halt()
            _SESSIONS.discard(self)

    # --- state ----------------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """The run of the current branch, which is shown and which settings act on."""
        return self.branches.current.run

    @property
    def shown(self) -> Run:
        """The current branch at the moment that is looked at, past or present."""
        return self.past or self.run

    @property
    def busy(self) -> bool:
        """True while the thread works."""
        return self._worker is not None and not self._worker.done

    @property
    def state(self) -> str:
        """ready, training, searching, paused, stopped, finished or failed."""
        if self._worker is not None and not self._worker.done:
            return self._worker.doing
        if self.error is not None:
            return "failed"
        if self.run.finished:
            return "finished"
        return self.branches.current.idle_state if self.run.records else "ready"

    @property
    def error(self) -> BaseException | None:
        """The exception that ended the thread, if it failed."""
        return None if self._worker is None else self._worker.error

    @property
    def speed(self) -> float:
        """Steps per second, 0 as long as it is not known."""
        return 0.0 if self._worker is None else self._worker.speed

    # --- settings -------------------------------------------------------------------------------

    lr = _wanted("lr", "Learning rate; a value that is set takes effect at the next step.")
    warmup = _wanted("warmup", "Warmup steps; a value that is set takes effect at the next step.")
    tau = _wanted("tau", "τ, None for off; a value that is set takes effect at the next step of AdamW².")

    def set(self, **settings: Any) -> None:
        """Choose settings.

        Learning rate, warmup, τ and groups take effect at the next step, or in a fork while the past is
        looked at. The optimizer and attention take effect in the next run or fork, the norm in the next run.

        Args:
            settings: fields of `WantedSettings`.

        Raises:
            ValueError: no such setting, or a value out of range; nothing is changed.
        """
        for name in settings:
            checks.choice("setting", name, [field.name for field in fields(WantedSettings)])
        with LOCK:
            config = replace(self.wanted, **settings).in_place_of(self.run.config)
            low, high = self.lr_range
            if "lr" in settings and not low <= config.lr <= high:
                raise ValueError(f"lr is {config.lr!r}: expected {low:g} to {high:g}, the ends of the slider")
            plain = {name: getattr(config, name) for name in settings if name != "groups"}
            self.wanted = replace(self.wanted, **{**settings, **plain})
            self._tell("settings_changed")
            live = [(name, getattr(self.wanted, name)) for name in settings if name in LIVE_SETTINGS]
            if live and self.past is None:
                self._unapplied.extend(live)
                if not self.busy and self.run.records:
                    self._apply(self.branches.current)
            self._tell("frame" if live else "changed")

    def set_group(self, group: str, settings: GroupSettings) -> None:
        """Give a parameter group settings of its own from the next step on; {} takes them back.

        Raises:
            ValueError: no such group or setting, or a value out of range.
        """
        check_groups({group: settings}, self.run.config.steps, self.wanted.optimizer)
        self.set(groups={**self.wanted.groups, group: settings})

    def next_config(self) -> RunConfig:
        """The config of the next run."""
        return self.wanted.in_place_of(self.run.config)

    def _apply(self, branch: Branch) -> None:
        """Give the run of the current branch the settings chosen since its last step."""
        if branch is not self.branches.current:
            return
        if branch.run.finished:  # no step is left at which to take effect
            self._unapplied.clear()
        while self._unapplied:
            name, value = self._unapplied.popleft()
            if name == "tau" and branch.run.config.optimizer != "adamw2":
                continue  # τ waits for the next run
            try:
                if name == "groups":
                    _set_groups(branch.run, value)
                else:
                    setattr(branch.run, name, value)
            except ValueError as error:
                self.message = str(error)

    def _want(self, wanted: WantedSettings) -> None:
        """Take over the settings of a run, which the reader has not chosen."""
        self._unapplied.clear()
        self.wanted = wanted
        self._widen_lr_range()
        self._tell("settings_changed")

    def _widen_lr_range(self) -> None:
        exponent, (low, high) = math.log10(self.wanted.lr), self.lr_range
        self.lr_range = min(low, 10.0 ** math.floor(exponent)), max(high, 10.0 ** math.ceil(exponent))

    # --- training -------------------------------------------------------------------------------

    def start(self) -> None:
        """Train, or go on after a pause. If a single run has ended, train a new one."""
        self._train(None)

    def step(self) -> None:
        """Make one step, then pause."""
        self._train(1)

    def pause(self) -> None:
        """Hold the run after the step it is in; `start` goes on with it."""
        self._end("paused", "Nothing to pause: it does not train.")

    def stop(self) -> None:
        """End the run after the step it is in. It stays visible, and `start` makes a new one."""
        self._end("stopped", "Nothing to stop: it does not train.")

    def reset(self) -> None:
        """Make a new run with the wanted settings in the place of all branches, without starting it."""
        with LOCK:
            self._halt()
            self._make_new_run()
            self.say("")

    def result(self, timeout: float | None = None) -> Run:
        """Wait until nothing trains, then return the run of the current branch.

        Args:
            timeout: seconds to wait at most, None for no limit.

        Raises:
            TimeoutError: it still trains.
            BaseException: the error with which the thread has failed.
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

    def search_rescue(self) -> None:
        """Search for the last step at which turning the bound on saves the current branch.

        `search`, a `Rescue`, has the result. A stopped search of the same branch and τ goes on.

        Raises:
            ValueError: nothing of the branch is kept.
        """
        with LOCK:
            self._halt()
            self._back_to_present()
            branch, tau = self.branches.current, self.tau or TAU
            if self.search is None or self.search.finished or self._search_of != (branch, tau):
                start = branch.run if branch.run.records else self.next_config()
                snapshots = [branch.timeline.at(step) for step in branch.timeline.steps]
                self.search = Rescue(start, Cure(tau=tau), snapshots=snapshots if branch.run.records else ())
                self._search_of = branch, tau
            self.message = ""
            self._work(in_steps(self.search), "searching")

    def between_steps(self, task: Callable[[], Any]) -> None:
        """Do something between two steps, after which training goes on."""
        with LOCK:
            worker = self._worker
            going_on = worker is not None and not worker.done and not worker.halted
            self._halt()
            try:
                task()
            finally:
                if going_on and worker is not None:
                    self._worker = worker.copy()
                    self._worker.start()

    def say(self, message: str) -> None:
        """Show a message beside the state."""
        self.message = message
        self._tell("changed")

    def _train(self, limit: int | None) -> None:
        with LOCK:
            worker = self._worker
            if worker is not None and not worker.done and not worker.halted and limit is None:
                return  # a second click
            self._halt()
            _pause_others(self, "Another lab has started; Start goes on.")
            self._back_to_present()
            self._prepare_run()
            if not self.run.records and len(self.branches) == 1:  # its config has all wanted settings
                self._unapplied.clear()
            self.message = ""
            arms = list(self.branches) if self.together else [self.branches.current]
            for branch in arms:
                branch.idle_state = "paused"
            self._work(in_lock_step(arms, self._apply, limit))

    def _prepare_run(self) -> None:
        """Make a new run if the present one has ended, or has no step yet and other settings than wanted."""
        if len(self.branches) == 1:
            outdated = not self.run.records and self.next_config() != self.run.config
            if outdated or self.state in ("stopped", "finished", "failed"):
                self._make_new_run()
        elif self.together and any(not branch.run.finished for branch in self.branches):
            return
        elif self.run.finished:
            name = self.branches.current.name
            raise ValueError(
                f"branch {name} is finished: expected one with steps left; choose another, "
                "fork from its past, or press Reset for a new run"
            )

    def _make_new_run(self) -> None:
        """Put a new run in the place of all branches, which stay if the run is refused."""
        run = Run(self.next_config())
        if self.run.records:
            self.previous = self.run
        self.branches.replace_all([run])
        self._worker = self.past = None
        self.together = False
        self._unapplied.clear()
        self._tell("branches_changed")

    def _work(self, work: Callable[[Worker], None], doing: str = "training") -> None:
        release_threads()
        self._worker = Worker(work, lambda: self._tell("frame"), doing)
        self._worker.start()

    def _end(self, idle_state: str, otherwise: str) -> None:
        """Ask the worker to end and return at once. The worker's last frame shows the new state."""
        training = self.busy
        for branch in self.branches:
            if training or branch.idle_state == "paused":
                branch.idle_state = idle_state
        if self._worker is not None:
            self._worker.halt()
        if not training:
            self.say("" if self.state == idle_state and self.run.records else otherwise)
        elif not self.busy:  # it has ended meanwhile, and its last frame may have shown the old state
            self._tell("changed")

    def _halt(self) -> None:
        if self._worker is not None:
            self._worker.halt()
            self._worker.wait()

    def _tell(self, what: str) -> None:
        for listener in self.listeners:
            getattr(listener, what)()

    # --- looking back, and other futures --------------------------------------------------------

    def rewind(self, step: int | None = None) -> None:
        """Pause, and look at the current branch at an earlier moment.

        The wanted settings become the settings of that moment, except those chosen while looking back.

        Args:
            step: shows the last moment kept at or before it; None returns to the present.

        Raises:
            ValueError: no moment is kept at or before the step.
        """
        with LOCK:
            self._halt()
            self.message = ""
            if step is None:
                self._back_to_present()
            else:
                snapshot = self.branches.current.timeline.at(step)
                chosen = {} if self.past is None else self.wanted.changes(self.past)
                self.past = Run(self.run.config)
                self.past.restore(snapshot)
                self.past.observation = self.past.observe()
                self._want(replace(WantedSettings.of(self.past), **chosen))
            self._tell("changed")

    def fork(self, **overrides: Any) -> Run:
        """Make a branch from the moment that is looked at, with the wanted settings. The original stays.

        A fork without changes repeats the original bit for bit.

        Args:
            overrides: fields of the fork's config, which replace the wanted settings.

        Returns:
            The run of the new branch, now the current one.

        Raises:
            ValueError: there are too many branches, no step is left to make, or a value is out of range.
        """
        with LOCK:
            self._halt()
            self.branches.check_room()
            source = self.shown
            if source.updates >= source.config.steps:
                raise ValueError(
                    f"step is {source.updates} of {source.config.steps}: expected a moment with steps left; "
                    "move the slider of the past back, then fork"
                )
            run = source.fork(**{**self.wanted.overrides(source), **overrides})
            self.branches.add(run, self.branches.current, arm=arm_of(present_config(run)))
            self._show_current()
            return run

    def choose(self, name: str) -> None:
        """Make another branch the current one. Branches that train together go on."""
        with LOCK:
            going_on = self.state == "training" and self.together
            if self.branches[name] is self.branches.current:
                return
            self._halt()
            self.branches.current = self.branches[name]
            self._show_current()
            if going_on:
                self._train(None)

    def remove(self, name: str) -> None:
        """Pause, and give up a branch."""
        with LOCK:
            self._halt()
            self.branches.remove(name)
            self._show_current()

    def race(self, *arms: str | RunConfig) -> None:
        """Replace all branches by arms, which `start` then trains in lock step.

        Args:
            arms: one to four configs, or names from `course_lib.studies.arms.ARMS`, which change the wanted
                settings.

        Raises:
            ValueError: too many arms, none, or arms that do not train on the same data.
        """
        if not 1 <= len(arms) <= MAX_BRANCHES:
            n, most = len(arms), MAX_BRANCHES
            raise ValueError(f"there are {n} arms: expected 1 to {most}; try 'adamw', 'adamw2'")
        base = self.next_config()
        warmup = min(WARMUP, base.steps)
        configs = [arm_config(base, arm, warmup) if isinstance(arm, str) else arm for arm in arms]
        for config in configs[1:]:
            for field in SAME_IN_A_RACE:
                first, value = getattr(configs[0], field), getattr(config, field)
                if value != first:
                    raise ValueError(f"{field} is {value!r}: expected {first!r}, as in the first arm")
        with LOCK:
            self._halt()
            self.branches.replace_all([Run(config) for config in configs], racing=True)
            self.previous = None
            self.together = True
            self._show_current()

    def load(self, path: str | Path) -> Run:
        """Replace all branches by a saved run, which can go on.

        Raises:
            ValueError: the file is truncated, altered, of another version or no saved run.
        """
        run = Run.load(path)
        with LOCK:
            self._halt()
            self.branches.replace_all([run])
            self.branches.current.timeline.keep()
            self.previous = None
            self._show_current()
        return run

    def _back_to_present(self) -> None:
        if self.past is not None:
            self.past = None
            self._want(WantedSettings.of(self.run))

    def _show_current(self) -> None:
        """Show the current branch at the present, after a change of branches."""
        self._worker = self.past = None
        self._want(WantedSettings.of(self.run))
        self._tell("branches_changed")
        self.say("")


def _set_groups(run: Run, groups: dict[str, Any]) -> None:
    for group in GROUPS:
        own = groups.get(group, {})
        if run.config.optimizer == "adamw":  # AdamW has no bound: a group's own τ waits for AdamW²
            own = without_tau(own)
        if own != run.settings.groups.get(group, {}):
            run.set_group(group, own)


def _pause_others(session: Session, message: str) -> None:
    """Pause the session that trains if it is another one, and tell its listeners why."""
    for other in list(_SESSIONS):
        if other is not session and other.busy:
            other.message = message
            other.pause()
            other._halt()


@atexit.register
def _halt_all() -> None:
    """A thread that computes while the interpreter goes down can crash it."""
    for session in list(_SESSIONS):
        session._halt()
