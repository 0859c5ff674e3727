"""The thread of a session: it steps runs, or searches for a rescue.

Only this thread touches the runs while it works. Widget callbacks set values and Events, so a kernel may run
them on any thread.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from course_lib.lab.session.branches import Branch, behind

THREAD_NAME = "course_lib.lab"
FRAME_SECONDS = 0.18
"""Time between two frames: at most six a second, since each costs a browser without a GPU about 15 ms of a
core."""
FRAME_SHARE = 0.05
"""Largest share of the thread's time spent on frames. On a slow machine, frames come less often."""


class Worker:
    """Works in a daemon thread, which ends when the work is done, halted or has failed.

    Args:
        work: is called from the thread with the worker. It calls `tick` after each step, and returns soon
            after `halted` has become True.
        frame: is called from the thread when a new picture is due, and once at the end, when `done` is set.
        doing: the work in a word, shown as the session's state.
    """

    def __init__(
        self, work: Callable[["Worker"], None], frame: Callable[[], None], doing: str = "training"
    ) -> None:
        self.doing = doing
        self.error: BaseException | None = None
        """The exception that ended the thread, if it failed."""
        self.done = False
        self._steps = 0
        self._work = work
        self._frame = frame
        self._halt = threading.Event()
        self._due = 0.0
        self._ticks: deque[tuple[float, int]] = deque(maxlen=16)
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)

    def copy(self) -> "Worker":
        """Return another worker for the same work, not yet started."""
        return Worker(self._work, self._frame, self.doing)

    @property
    def halted(self) -> bool:
        """True once the thread has been asked to end."""
        return self._halt.is_set()

    @property
    def speed(self) -> float:
        """Steps per second over the last frames, 0 before there are two."""
        if len(self._ticks) < 2:
            return 0.0
        (then, first), (now, last) = self._ticks[0], self._ticks[-1]
        return (last - first) / (now - then)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def halt(self) -> None:
        """Ask the thread to end after the step it is in, without waiting."""
        self._halt.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the thread to end; False if `timeout` seconds were not enough."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def tick(self) -> None:
        """Count a step, and draw a frame if it is time to."""
        self._steps += 1
        now = time.perf_counter()
        if now >= self._due:
            self._ticks.append((now, self._steps))
            self._frame()
            cost = time.perf_counter() - now
            # A frame that was a little late does not delay the next one. After a long step, begin anew.
            due = max(self._due, now - FRAME_SECONDS / 2)
            self._due = max(due + FRAME_SECONDS, now + cost / FRAME_SHARE)

    def _run(self) -> None:
        now = time.perf_counter()
        self._due = now + FRAME_SECONDS
        self._ticks.append((now, 0))
        try:
            self._work(self)
        except BaseException as error:  # Session.result() raises it for the caller
            self.error = error
        self.done = True
        try:
            self._frame()
        except BaseException as error:
            self.error = self.error or error


def in_lock_step(
    branches: Sequence[Branch], before_step: Callable[[Branch], None], limit: int | None = None
) -> Callable[[Worker], None]:
    """Return work for a `Worker` that steps the branches that are behind until all are finished.

    Args:
        branches: level branches take their steps in turn; a branch that is behind catches up first.
        before_step: called with the branch before each of its steps.
        limit: number of rounds after which to end, None for all that are left.
    """

    def work(worker: Worker) -> None:
        left = limit
        while left != 0 and not worker.halted and (arms := behind(branches)):
            for branch in arms:  # a whole round, so that level arms stay level
                before_step(branch)
                branch.step()
                worker.tick()
            left = None if left is None else left - 1
        for branch in branches:
            branch.timeline.keep()

    return work


def in_steps(search: Iterable[object]) -> Callable[[Worker], None]:
    """Return work for a `Worker` that goes through a search step by step."""

    def work(worker: Worker) -> None:
        for _ in search:
            worker.tick()
            if worker.halted:
                return

    return work
