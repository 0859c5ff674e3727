"""The branches of a session: its run, forks of the run, arms of a race."""

from collections.abc import Collection, Iterator, Sequence
from time import perf_counter

from course_lib.lab.session.wanted import present_config
from course_lib.runs import Run
from course_lib.runs.timeline import BUDGET, Timeline
from course_lib.studies.arms import ARMS, COLOURS, arm_of

MAX_BRANCHES = 4
NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BRANCH_COLORS = ("#333333", COLOURS[1], COLOURS[4], COLOURS[5])
"""For the branches of a run that are no arm of the course, in order."""


class Branch:
    """A run with a name (a letter), a colour in all charts and tables, and the kept moments of the run.

    A fork has a `parent`.
    """

    def __init__(self, name: str, color: str, run: Run, parent: "Branch | None" = None) -> None:
        self.name = name
        self.color = color
        self.run = run
        self.origin = f"from {parent.name} at step {run.updates}" if parent is not None else ""
        """Its parent and the step of the fork, in words."""
        self.first_step = run.updates if parent is not None else 0
        """First step of its curves. Earlier steps belong to the parent."""
        self.timeline = Timeline(run)
        self.seconds = 0.0
        """Time spent on its own steps."""
        self.idle_state = "paused"
        """Its state while it does not train: paused or stopped."""

    def step(self) -> None:
        """Make one step, and keep the moment before it if one is due."""
        self.timeline.keep_if_due()
        start = perf_counter()
        self.run.step()
        self.seconds += perf_counter() - start


class Branches:
    """At most `MAX_BRANCHES` branches. The current one is shown, and settings act on it."""

    current: Branch

    def __init__(self, run: Run) -> None:
        self.budget = BUDGET
        """Bytes that the kept moments of all branches may take together."""
        self.replace_all([run])

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
        """Raise a ValueError if there is no room for another branch."""
        if len(self) >= MAX_BRANCHES:
            n, most = len(self), MAX_BRANCHES
            raise ValueError(f"there are {n} branches: expected at most {most}; remove one first")

    def add(self, run: Run, parent: Branch | None = None, *, arm: str | None = None) -> Branch:
        """Make a run a branch, and the current one. It gets the colour of `arm` if no other branch has it."""
        self.check_room()
        name = NAMES[self._named % len(NAMES)]
        branch = Branch(name, branch_color(arm, [b.color for b in self]), run, parent)
        self._named += 1
        self._all.append(branch)
        self.current = branch
        self._share_budget()
        return branch

    def replace_all(self, runs: Sequence[Run], *, racing: bool = False) -> None:
        """Replace all branches. The first run is the current one; in a race each has its arm's colour."""
        self._all: list[Branch] = []
        self._named = 0
        for run in runs:
            self.add(run, arm=arm_of(present_config(run)) if racing else None)
        self.current = self._all[0]

    def remove(self, name: str) -> None:
        """Give up a branch, unless it is the only one."""
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
    """The unfinished branches that have made the fewest steps."""
    left = [branch for branch in branches if not branch.run.finished]
    least = min((branch.run.updates for branch in left), default=0)
    return [branch for branch in left if branch.run.updates == least]


def branch_color(arm: str | None, taken: Collection[str]) -> str:
    """The colour of `arm` if no branch has it yet, else the first of `BRANCH_COLORS` that is free."""
    wanted = [ARMS[arm].line_colour] if arm in ARMS else []
    return next(color for color in (*wanted, *BRANCH_COLORS) if color not in taken)
