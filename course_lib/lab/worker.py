"""The thread that steps a run.

It behaves the same whichever thread a kernel hands its widget callbacks to: those set values and Events,
and this thread alone touches the run while it trains.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

from course_lib.training import Run

THREAD_NAME = "course_lib.lab"
FRAME_SECONDS = 0.15
"""Least time between two frames: six or seven a second."""
FRAME_SHARE = 0.05
"""Share of the thread's time that frames may take; on a slow machine they come less often."""


class Worker:
    """Steps a run in a daemon thread until it is finished, halted or has failed.

    The thread ends with the training, so a lab that does not train has none.

    Args:
        run: what to step.
        before_step: called before each step, from the thread; applies what the reader has set.
        frame: called from the thread whenever it is time for a new picture, and once at the end, when
            `done` is set.
        limit: number of steps after which to end, None for all that are left.
    """

    def __init__(
        self,
        run: Run,
        before_step: Callable[[], None],
        frame: Callable[[], None],
        limit: int | None = None,
    ) -> None:
        self.run = run
        self.error: BaseException | None = None
        """What ended the thread, if it failed."""
        self.done = False
        self.seconds = 0.0
        """Time spent on steps and frames so far."""
        self._before_step = before_step
        self._frame = frame
        self._left = run.config.steps + 1 if limit is None else limit
        self._halt = threading.Event()
        self._ticks: deque[tuple[float, int]] = deque(maxlen=16)
        self._thread = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)

    @property
    def halted(self) -> bool:
        """Whether the thread has been asked to end."""
        return self._halt.is_set()

    @property
    def speed(self) -> float:
        """Steps per second over the last frames, 0 before there are two."""
        if len(self._ticks) < 2:
            return 0.0
        (then, first), (now, last) = self._ticks[0], self._ticks[-1]
        return (last - first) / (now - then)

    def start(self) -> None:
        """Begin to step."""
        self._thread.start()

    def halt(self) -> None:
        """Ask the thread to end after the step it is in; does not wait."""
        self._halt.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the thread to end; False if `timeout` seconds were not enough."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            self._step_on()
        except BaseException as error:  # kept for Lab.result(), which raises it where somebody sees it
            self.error = error
        self.done = True
        try:
            self._frame()
        except BaseException as error:
            self.error = self.error or error

    def _step_on(self) -> None:
        start = time.perf_counter()
        due = start + FRAME_SECONDS
        self._ticks.append((start, self.run.updates))
        while self._left and not self.run.finished and not self.halted:
            self._before_step()
            self.run.step()
            self._left -= 1
            now = time.perf_counter()
            if now >= due:
                self._ticks.append((now, self.run.updates))
                self._frame()
                cost = time.perf_counter() - now
                due = now + max(FRAME_SECONDS, cost / FRAME_SHARE)
            self.seconds = time.perf_counter() - start
