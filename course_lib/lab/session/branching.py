"""Looking back, and other futures: rewind, fork, race, load."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from course_lib.lab.session.branches import MOST, Branches
from course_lib.lab.session.session import LOCK, NOTHING, Session, chosen
from course_lib.runs import Run, RunConfig
from course_lib.studies.arms import WARMUP, arm_config, arm_of

SAME = ("task", "text", "seed", "context", "batch", "steps")
"""What the arms of a race have in common."""


class Branching(Session):
    """A session whose past can be looked at, and that has more than one future."""

    def rewind(self, step: int | None = None) -> None:
        """Look at the current branch as it was; what trains is paused.

        The controls move to the settings of that moment, but for what was changed while looking back.

        Args:
            step: the last moment kept at or before it is shown; None to go back to the present.

        Raises:
            ValueError: nothing is kept so far back.
        """
        with LOCK:
            self._halt()
            self.message = ""
            if step is None:
                self._back_to_now()
            else:
                snapshot = self.branches.current.timeline.at(step)
                kept = chosen(self.settings(), self.past) if self.past is not None else NOTHING
                self.past = Run(self.run.config)
                self.past.restore(snapshot)
                self.past.observation = self.past.observe()
                self._wanted.clear()
                self._show_settings(self.past, kept)
            self._draw(speak=True)

    def fork(self, **overrides: Any) -> Run:
        """Branch off the moment that is looked at, with the settings of the controls; the original stays.

        With nothing changed the fork repeats the original bit for bit.

        Args:
            overrides: fields of the fork's config that have no control.

        Returns:
            The run of the new branch, which is the current one now.

        Raises:
            ValueError: there are too many branches, no step is left to make, or a value is out of range.
        """
        with LOCK:
            self._halt()
            self.branches.check_room()
            source = self.past or self.run
            if source.updates >= source.config.steps:
                raise ValueError(
                    f"step is {source.updates} of {source.config.steps}: expected a moment with steps left; "
                    "move the slider of the past back, then fork"
                )
            run = source.fork(**{**self._changed(source), **overrides})
            now = replace(run.config, **vars(run.settings))
            self.branches.add(run, self.branches.current, arm=arm_of(now))
            self._settle()
            return run

    def choose(self, name: str) -> None:
        """Make another branch the current one; what trains goes on."""
        with LOCK:
            going_on = self.state == "training" and self.together
            if self.branches[name] is self.branches.current:
                return
            self._halt()
            self.branches.current = self.branches[name]
            self._settle()
            if going_on:
                self._train(None)

    def remove(self, name: str) -> None:
        """Give up a branch; what trains is paused."""
        with LOCK:
            self._halt()
            self.branches.remove(name)
            self._settle()

    def race(self, *arms: str | RunConfig) -> None:
        """Line up arms, which take the place of all branches; `start` trains them in lock step.

        Args:
            arms: up to four: names from `course_lib.studies.arms.ARMS`, made of the controls' settings,
                or configs.

        Raises:
            ValueError: too many arms, none, or arms that do not train on the same data.
        """
        if not 1 <= len(arms) <= MOST:
            raise ValueError(f"there are {len(arms)} arms: expected 1 to {MOST}; try 'adamw', 'adamw2'")
        base = self.next_config()
        warmup = min(WARMUP, base.steps)
        configs = [arm_config(base, arm, warmup) if isinstance(arm, str) else arm for arm in arms]
        for config in configs[1:]:
            for field in SAME:
                first, value = getattr(configs[0], field), getattr(config, field)
                if value != first:
                    raise ValueError(f"{field} is {value!r}: expected {first!r}, as in the first arm")
        with LOCK:
            self._halt()
            self.branches.line_up(configs)
            self.previous = None
            self.together = True
            self._settle()

    def load(self, path: str | Path) -> Run:
        """Take over a saved run, ready to go on; it takes the place of all branches.

        Raises:
            ValueError: the file is truncated, altered, of another version or no saved run.
        """
        run = Run.load(path)
        with LOCK:
            self._halt()
            self.branches = Branches(run, self.branches.budget)
            self.branches.current.timeline.keep()
            self.previous = None
            self._settle()
        return run

    def between_steps(self, task: Callable[[], Any]) -> None:
        """Do something while no step is made; what trains goes on afterwards."""
        with LOCK:
            worker = self._worker
            going_on = worker is not None and not worker.done and not worker.halted
            self._halt()
            try:
                task()
            finally:
                if going_on and worker is not None:
                    self._worker = worker.again()
                    self._worker.start()
