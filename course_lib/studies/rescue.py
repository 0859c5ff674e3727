"""Rescue: how late can a crashing run still be cured?

The run is trained once to see that it crashes. Then it is forked at one step after another, cured there, and
trained to the end. The rule of `course_lib.runs.verdict` says whether the fork has learnt. Doubling, then
bisection, find the last step at which the cure still saves the run.

Outcomes may be out of order: a cure may fail at step 30 and work at step 40. The search alone misses this,
since it tries steps near the border only. `first_tries` spread over the run can find it (see `ordered`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import torch

from course_lib import checks
from course_lib.models import BLOCK_GROUPS, GROUPS, parameter_groups
from course_lib.runs.config import RunConfig, check_tau
from course_lib.runs.records import Record
from course_lib.runs.run import Run
from course_lib.runs.schedule import schedule_factor, warmup_factor
from course_lib.runs.settings import Change
from course_lib.runs.snapshot import Snapshot
from course_lib.runs.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

MEMORY = 64e6
"""Default limit of a search's snapshots, in bytes."""


@dataclass(frozen=True)
class Cure:
    """A change during a run. The default changes nothing, so that a fork repeats the crash bit for bit.

    Raises:
        ValueError: a value out of range, or a group without matrices to bound.
    """

    tau: float | None = None
    """Bound the steps of the groups: AdamW goes on as AdamW² with this τ, its moments carried over."""
    groups: tuple[str, ...] = BLOCK_GROUPS
    """Groups that the bound covers."""
    lr_factor: float = 1.0
    """Multiplies the learning rate from the switch to the end."""
    warmup: int = 0
    """Steps of a linear warmup that begins at the switch."""
    put_back: tuple[str, ...] = ()
    """Groups whose weights return to their values before the first step, without their moments."""

    def __post_init__(self) -> None:
        check_tau(self.tau)
        checks.number("lr_factor", self.lr_factor, "a positive number; try 0.1")
        checks.count("warmup", self.warmup, least=0)
        for group in self.groups:
            checks.choice("group", group, [name for name in GROUPS if name != "norm"])
        for group in self.put_back:
            checks.choice("put_back", group, GROUPS)

    def __str__(self) -> str:
        parts = []
        if self.tau is not None:
            only = "" if self.groups == BLOCK_GROUPS else f" on {', '.join(self.groups)}"
            parts.append(f"τ = {self.tau:g}{only}")
        if self.lr_factor != 1:
            parts.append(f"lr × {self.lr_factor:g}")
        if self.warmup:
            parts.append(f"warmup of {self.warmup}")
        if self.put_back:
            parts.append(f"{', '.join(self.put_back)} put back")
        return " and ".join(parts) or "no cure"

    def apply(self, run: Run, *, more_time: bool = False, **overrides: Any) -> Run:
        """Return a fork of `run`, cured from here on. The run itself stays as it is.

        With `more_time` the fork repeats the whole schedule, with as many steps as a whole run. This shows
        whether the run is beyond help or only late. `overrides` are further config fields of the fork.
        """
        if self.tau is not None:
            overrides |= {"optimizer": "adamw2", **self._bound(run)}
        if self.lr_factor != 1:
            overrides["lr"] = run.settings.lr * self.lr_factor
        if self.warmup or more_time:
            overrides |= self._schedule(run, more_time)
        cured = run.fork(**overrides)
        if self.put_back:
            self._put_back(cured)
        return cured

    def _put_back(self, run: Run) -> None:
        first = dict(Run(run.config, run.process_group).model.named_parameters())
        members = parameter_groups(run.model)
        for group in self.put_back:
            for name, parameter in members.get(group, {}).items():
                with torch.no_grad():
                    parameter.copy_(first[name])
                run.optimizer.state.pop(parameter, None)
        run.changes.append(Change(run.updates, "put_back", self.put_back))

    def _bound(self, run: Run) -> dict[str, Any]:
        if self.groups == BLOCK_GROUPS:
            return {"tau": self.tau}
        own = dict(run.settings.groups)
        for group in self.groups:
            own[group] = {**own.get(group, {}), "tau": self.tau}
        return {"tau": None, "groups": own}

    def _schedule(self, run: Run, more_time: bool) -> dict[str, Any]:
        now, steps, schedule = run.updates, run.config.steps, run.config.schedule
        past = [schedule_factor(schedule, t, steps) for t in range(now)]
        ahead = [schedule_factor(schedule, t, steps) for t in range(0 if more_time else now, steps)]
        warm = [factor * warmup_factor(t, self.warmup) for t, factor in enumerate(ahead)]
        return {"steps": now + len(ahead), "schedule": tuple(past + warm)}


@dataclass(frozen=True)
class NamedCure:
    """A cure in the course's records, its name in charts, and `more_time` (see `Cure.apply`)."""

    label: str
    cure: Cure
    more_time: bool = False


CURES = {
    "bound": NamedCure("τ = 0.05", Cure(tau=0.05)),
    "bound-qk-put-back": NamedCure("τ = 0.05, W_q and W_k put back", Cure(tau=0.05, put_back=("qk",))),
    "warmup": NamedCure("warmup of 100", Cure(warmup=100)),
    "bound-whole-run": NamedCure("τ = 0.05, given a whole run", Cure(tau=0.05), more_time=True),
    "lr": NamedCure("lr × 0.1", Cure(lr_factor=0.1)),
}
"""Name in records → cure, in the order of their colours."""


@dataclass(frozen=True)
class Trial:
    """One fork of the crashing run, trained to its end."""

    step: int
    """Number of updates before the cure."""
    saved: bool
    """Whether the fork has learnt by its end."""
    loss: float
    """On the validation data at the end, in nats."""
    verdict: str


class Rescue:
    """A search for the last step at which a cure saves a crashing run.

    Iterating makes the steps of all its runs, one at a time, and yields their records. The search can be
    shown, stopped and continued between any two steps, also from a thread:

        search = Rescue(preset("copy"), Cure(tau=0.05))
        for record in search:
            if stop_pressed():
                break
        print(search)

    Args:
        start: the config of a run that crashes, or such a `Run` with `snapshots` of it.
        cure: the change to try.
        first_tries: steps to try before the search, to see whether outcomes are in order.
        resolution: precision of the border, in steps.
        more_time: every fork makes as many steps as a whole run (see `Cure.apply`).
        snapshots: moments of a given run; those with other settings (before a fork) are left out. If its
            settings were changed by hand, the search can only try these moments.
        memory: largest size of all kept snapshots in bytes; steps between them are made again.

    Raises:
        ValueError: a step out of range, or a run without snapshots.
    """

    def __init__(
        self,
        start: Run | RunConfig,
        cure: Cure = Cure(tau=0.05),
        *,
        first_tries: Iterable[int] = (),
        resolution: int = 1,
        more_time: bool = False,
        snapshots: Iterable[Snapshot] = (),
        memory: float = MEMORY,
    ) -> None:
        self.cure = cure
        self.config = start.config if isinstance(start, Run) else start
        self.resolution = checks.count("resolution", resolution)
        self.more_time = more_time
        self.run: Run = start.fork() if isinstance(start, Run) else Run(start)
        """The run in training: the one that crashes, or the fork of the present trial."""
        self.trying: int | None = None
        """The step of the present trial; None while the run that crashes is trained."""
        self.crash: Verdict | None = None
        """The verdict on the run without the cure, once it is known."""
        self.trials: list[Trial] = []
        """All trials so far, in their order."""
        self.finished = False
        self._kept = _Kept(memory)
        self._steps: Sequence[int] = range(self.config.steps)
        if isinstance(start, Run):
            for snapshot in snapshots:
                if snapshot.config == start.config and snapshot.updates < self.config.steps:
                    self._kept.add(snapshot)
            if not self._kept.snapshots:
                raise ValueError(
                    "snapshots has none of this run: expected at least one, taken before its end; "
                    "give Rescue the config instead"
                )
            steps = sorted(self._kept.snapshots)
            self._steps = steps if start.changes else range(steps[0], self.config.steps)
        self._first_tries = [self._tried_step(step) for step in first_tries]
        self._work = self._search(keeping=not isinstance(start, Run))

    def __iter__(self) -> Iterator[Record]:
        return self._work

    def finish(self) -> "Rescue":
        """Make all steps that are left."""
        for _ in self:
            pass
        return self

    # --- what was found -------------------------------------------------------------------------

    @property
    def last_saved(self) -> int | None:
        """The last step that was tried and from which the cure saved the run; None if there is none."""
        return max((trial.step for trial in self.trials if trial.saved), default=None)

    @property
    def first_lost(self) -> int | None:
        """The first step tried after `last_saved` from which the cure failed; None if there is none."""
        after = -1 if self.last_saved is None else self.last_saved
        return min((t.step for t in self.trials if not t.saved and t.step > after), default=None)

    @property
    def ordered(self) -> bool:
        """True if every saved trial came earlier than every lost one."""
        first_lost = min((t.step for t in self.trials if not t.saved), default=inf)
        return self.last_saved is None or self.last_saved < first_lost

    def to_frame(self) -> "pd.DataFrame":
        """The trials as a table, by step."""
        trials = sorted(self.trials, key=lambda trial: trial.step)
        from course_lib.extras import pandas as pd  # here, as in `records`

        return pd.DataFrame([asdict(t) for t in trials], columns=list(Trial.__annotations__))

    def __str__(self) -> str:
        if self.crash is None:
            return f"Training the run without the cure: step {self.run.updates} of {self.run.config.steps}."
        if self.crash.learnt:
            return f"Nothing to rescue: without the cure the run learns, too ({self.crash.compared()})."
        text = self._found()
        if self.trying is not None:
            text += f" Trying step {self.trying}: at {self.run.updates} of {self.run.config.steps}."
        return text

    def _found(self) -> str:
        saved, lost, n = self.last_saved, self.first_lost, len(self.trials)
        trials = f"{n} trial{'s' * (n != 1)}"
        if saved is None:
            if lost is None:
                return f"{self.cure}: no trial is done yet."
            return f"{self.cure}: not even from step {lost} on does it save the run ({trials})."
        text = f"{self.cure}: from step {saved} on it saves the run"
        text += f", from step {lost} on it does not" if lost is not None else ""
        text += f" ({trials})."
        if not self.ordered:
            early = sorted(t.step for t in self.trials if not t.saved and t.step < saved)
            text += f" No clean border: it failed from {', '.join(map(str, early))} on, too."
        return text

    # --- the search -----------------------------------------------------------------------------

    def _search(self, keeping: bool) -> Iterator[Record]:
        while not self.run.finished:
            if keeping:
                self._kept.offer(self.run)
            yield self.run.step()
        self.crash = self.run.verdict()
        if not self.crash.learnt:
            for early in self._first_tries:
                yield from self._try(early)
            if self.last_saved is None and self._steps[0] not in self._first_tries:
                yield from self._try(self._steps[0])
            while (step := self._next()) is not None:
                yield from self._try(step)
        self.trying = None
        self.finished = True

    def _next(self) -> int | None:
        """Double the last saved step until a trial is lost, then bisect; None if the border is known.

        Runs crash early, and doubling finds a border at step 3 in five trials for runs of any length.
        """
        saved, lost = self.last_saved, self.first_lost
        if saved is None:
            return None
        end = self.config.steps if lost is None else lost
        inside = [step for step in self._steps if saved < step < end]
        if not inside or end - saved <= self.resolution:
            return None
        if lost is None:
            return next((step for step in inside if step >= 2 * saved), inside[-1])
        return inside[len(inside) // 2]

    def _try(self, step: int) -> Iterator[Record]:
        self.trying = step
        self.run = self._kept.latest(step)
        while self.run.updates < step:
            yield self.run.step()
        # The verdict needs only the last probe, which a run's last record always has.
        every = {"probe_every": 2 * self.config.steps} if self.config.probe_every else {}
        self.run = self.cure.apply(self.run, more_time=self.more_time, **every)
        yield from self.run
        verdict = self.run.verdict()
        self.trials.append(Trial(step, verdict.learnt, verdict.loss, verdict.name))

    def _tried_step(self, step: int) -> int:
        if step not in self._steps:
            first, last = self._steps[0], self._steps[-1]
            known = "a kept moment" if isinstance(self._steps, list) else "a step"
            raise ValueError(f"first_tries has {step!r}: expected {known} from {first} to {last}")
        return step


class _Kept:
    """Snapshots of one run within a limit of memory. At the limit, every other one is dropped."""

    def __init__(self, memory: float) -> None:
        self.memory = memory
        self.every = 1
        self.snapshots: dict[int, Snapshot] = {}

    def add(self, snapshot: Snapshot) -> None:
        self.snapshots[snapshot.updates] = snapshot

    def offer(self, run: Run) -> None:
        """Keep the run as it is now, if its step is to be kept."""
        if run.updates % self.every:
            return
        self.add(run.snapshot())
        while self._bytes() > self.memory and len(self.snapshots) > 1:
            self.every *= 2
            self.snapshots = {t: s for t, s in self.snapshots.items() if t % self.every == 0}

    def latest(self, step: int) -> Run:
        """The run at the last kept moment at or before `step`."""
        snapshot = self.snapshots[max(t for t in self.snapshots if t <= step)]
        run = Run(snapshot.config)
        run.restore(snapshot)
        return run

    def _bytes(self) -> int:
        return sum(t.nbytes for s in self.snapshots.values() for t in s.tensors.values())


def last_in_time(trials: "pd.DataFrame") -> "pd.DataFrame":
    """The last step from which each cure saved the run, over seeds.

    `trials` joins `Rescue.to_frame` of several searches, with the columns cure and seed.

    Returns:
        One row per cure, in the order of the trials: `least` and `most`, the range of that step over seeds
        (NaN if none was saved); `seeds`, their number; `never`, the number of seeds without a saved trial;
        `mixed`, the number of seeds in which a lost trial comes before a saved one.
    """
    import pandas as pd

    rows = {}
    for cure, own in trials.groupby("cure", sort=False):
        saved = own[own["saved"]].groupby("seed")["step"].max()
        lost = own[~own["saved"]].groupby("seed")["step"].min()
        seeds = own["seed"].nunique()
        mixed = int((saved > lost.reindex(saved.index)).sum())
        rows[cure] = (saved.min(), saved.max(), seeds, seeds - len(saved), mixed)
    return pd.DataFrame.from_dict(rows, "index", columns=["least", "most", "seeds", "never", "mixed"])
