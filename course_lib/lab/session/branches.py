"""The branches of a session: a run, forks of its past, arms of a race."""

from collections.abc import Collection, Iterator, Sequence
from time import perf_counter

from course_lib.lab.session.wanted import present_config
from course_lib.runs import Run, RunConfig
from course_lib.runs.timeline import BUDGET, Timeline
from course_lib.studies.arms import ARMS, COLOURS, arm_of

MAX_BRANCHES = 4
NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BRANCH_COLORS = ("#333333", COLOURS[1], COLOURS[4], COLOURS[5])
"""For the branches of a run that are no arm of the course, in order."""


class Branch:
    """A run with a name, a colour, and the moments of it that are kept.

    Args:
        name: a letter.
        color: in all charts and tables.
        run: what it is made of.
        parent: the branch that it is a fork of, if any.
    """

    def __init__(self, name: str, color: str, run: Run, parent: "Branch | None" = None) -> None:
        self.name = name
        self.color = color
        self.run = run
        self.origin = f"from {parent.name} at step {run.updates}" if parent is not None else ""
        """What it is a fork of, in words."""
        self.first_step = run.updates if parent is not None else 0
        """Where its curves begin: what lies before is its parent's."""
        self.timeline = Timeline(run)
        self.seconds = 0.0
        """Time spent on its own steps."""
        self.idle_state = "paused"
        """Its state while it does not train: paused or stopped."""

    def step(self) -> None:
        """Make one step, and keep the moment before it if it is time to."""
        self.timeline.keep_if_due()
        start = perf_counter()
        self.run.step()
        self.seconds += perf_counter() - start


class Branches:
    """At most `MAX_BRANCHES` branches, one of them the current one: it is shown, and settings act on it.

    Args:
        run: of the first branch.
        budget: bytes that the kept moments of all branches may take together.
    """

    def __init__(self, run: Run, budget: int = BUDGET) -> None:
        self.budget = budget
        self._all: list[Branch] = []
        self._named = 0
        self.current = self.add(run)

    def __iter__(self) -> Iterator[Branch]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, name: str) -> Branch:
        names = [branch.name for branch in self]
        if name not in names:
            raise ValueError(f"branch is {name!r}: expected one of {', '.join(names)}")
        return self._all[names.index(name)]

    def check_room(self) -> None:
        """ValueError if there are as many as there can be."""
        if len(self) >= MAX_BRANCHES:
            n, most = len(self), MAX_BRANCHES
            raise ValueError(f"there are {n} branches: expected at most {most}; remove one first")

    def add(self, run: Run, parent: Branch | None = None, *, arm: str | None = None) -> Branch:
        """Make a branch of a run, the current one from now on; it has the colour of `arm` if that is free."""
        self.check_room()
        name = NAMES[self._named % len(NAMES)]
        branch = Branch(name, branch_color(arm, [b.color for b in self]), run, parent)
        self._named += 1
        self._all.append(branch)
        self.current = branch
        self._share_budget()
        return branch

    def replace_all(self, configs: Sequence[RunConfig]) -> None:
        """Give up all branches for the arms of a race; the first one is the current one."""
        runs = [Run(config) for config in configs]
        self._all, self._named = [], 0
        for run in runs:
            self.add(run, arm=arm_of(present_config(run)))
        self.current = self._all[0]

    def remove(self, name: str) -> None:
        """Give up a branch; the last one stays."""
        branch = self[name]
        if len(self) == 1:
            raise ValueError(f"branch {name} is the only one: expected another that stays; try Reset")
        self._all.remove(branch)
        if self.current is branch:
            self.current = self._all[-1]
        self._share_budget()

    def _share_budget(self) -> None:
        for branch in self:
            branch.timeline.budget = self.budget // len(self)


def behind(branches: Sequence[Branch]) -> list[Branch]:
    """The branches that have made the fewest steps, finished ones left out."""
    left = [branch for branch in branches if not branch.run.finished]
    least = min((branch.run.updates for branch in left), default=0)
    return [branch for branch in left if branch.run.updates == least]


def branch_color(arm: str | None, taken: Collection[str]) -> str:
    """The colour of `arm` if no branch has it yet, else the first of `BRANCH_COLORS` that is free."""
    wanted = [ARMS[arm].line_colour] if arm in ARMS else []
    return next(color for color in (*wanted, *BRANCH_COLORS) if color not in taken)
