"""A session's search for the last step at which turning the bound on saves the current branch."""

from course_lib.lab.session.branches import Branch
from course_lib.lab.session.worker import Worker
from course_lib.runs import RunConfig
from course_lib.studies.rescue import Cure, Rescue


class RescueSearch:
    """Begins a search for each branch and τ, and goes on with one that was stopped."""

    def __init__(self) -> None:
        self.rescue: Rescue | None = None
        """The search that was begun last."""
        self._begun_for: tuple[Branch, float] | None = None

    def prepare(self, branch: Branch, config: RunConfig, tau: float) -> Rescue:
        """The search to go on with.

        Args:
            branch: whose kept moments are tried.
            config: of the run to train first, if the branch has made no step.
            tau: of the bound.

        Raises:
            ValueError: nothing of the branch is kept.
        """
        if self.rescue is None or self.rescue.finished or self._begun_for != (branch, tau):
            cure = Cure(tau=tau)
            if branch.run.records:
                snapshots = [branch.timeline.at(step) for step in branch.timeline.steps]
                self.rescue = Rescue(branch.run, cure, snapshots=snapshots)
            else:
                self.rescue = Rescue(config, cure)
            self._begun_for = (branch, tau)
        return self.rescue

    def work(self, worker: Worker) -> None:
        """Make the search's steps, in the session's thread."""
        for _ in self.rescue or ():
            worker.tick()
            if worker.halted:
                return
