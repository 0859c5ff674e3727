"""The thread of a session: it steps runs, or searches for a rescue.

It behaves the same whichever thread a kernel hands its widget callbacks to: those set values and Events,
and this thread alone touches the runs while it works.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from course_lib.lab.session.branches import Branch, behind

THREAD_NAME = "course_lib.lab"
FRAME_SECONDS = 0.18
"""From one frame to the next: five or six a second and no more, since each costs a browser without a GPU some
15 ms of a core."""
FRAME_SHARE = 0.05
"""Largest share of the thread's time spent on frames; on a slow machine they come less often."""


class Worker:
    """Works in a daemon thread until its work is done, halted or has failed; the thread ends with it.

    Args:
        work: what to do, called from the thread with the worker; calls `tick` after each step, and returns
            soon after `halted` has become True.
        frame: called from the thread whenever it is time for a new picture, and once at the end, when
            `done` is set.
        doing: what it does, in a word.
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
        """Another worker for the same work, not yet started."""
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
        """Ask the thread to end after the step it is in; does not wait."""
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
            # Make up for a step that was a little late; after a long one, begin anew.
            due = max(self._due, now - FRAME_SECONDS / 2)
            self._due = max(due + FRAME_SECONDS, now + cost / FRAME_SHARE)

    def _run(self) -> None:
        now = time.perf_counter()
        self._due = now + FRAME_SECONDS
        self._ticks.append((now, 0))
        try:
            self._work(self)
        except BaseException as error:  # Session.result() raises it where somebody sees it
            self.error = error
        self.done = True
        try:
            self._frame()
        except BaseException as error:
            self.error = self.error or error


def in_lock_step(
    branches: Sequence[Branch], before_step: Callable[[Branch], None], limit: int | None = None
) -> Callable[[Worker], None]:
    """Work for a `Worker`: step the branches that are behind until all are finished.

    Args:
        branches: those that are level take their steps in turn; one that is behind catches up first.
        before_step: called with the branch before each of its steps.
        limit: number of rounds after which to end, None for all that are left.
    """

    def work(worker: Worker) -> None:
        left = limit
        while left != 0 and not worker.halted and (arms := behind(branches)):
            for branch in arms:  # a whole round, so that arms that are level stay so
                before_step(branch)
                branch.step()
                worker.tick()
            left = None if left is None else left - 1
        for branch in branches:
            branch.timeline.keep()

    return work
