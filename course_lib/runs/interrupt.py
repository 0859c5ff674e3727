"""Ctrl-C between steps, never inside one."""

import signal
import threading
from types import FrameType, TracebackType


class DeferredInterrupt:
    """A `with` block that Ctrl-C does not break off, since half a step or half a folder is useless.

    Blocks may be nested. At its end, a block passes Ctrl-C on to the handler that was there before. Only the
    main thread gets signals, so a block does nothing in others. If the parent process ignores Ctrl-C, as
    `nohup` does, it stays ignored.

    Args:
        consume: do not pass Ctrl-C on at the end; the block itself looks at `asked` and ends early.
        second_breaks: let a second Ctrl-C break off the block at once.
    """

    def __init__(self, *, consume: bool = False, second_breaks: bool = False) -> None:
        self.asked = False
        """Whether Ctrl-C has come."""
        self._consume, self._second_breaks = consume, second_breaks

    def __enter__(self) -> "DeferredInterrupt":
        self._before = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        # None: a handler that Python cannot put back.
        self._active = main and self._before not in (None, signal.SIG_IGN)
        if self._active:
            signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._active:
            return
        signal.signal(signal.SIGINT, self._before)
        if self.asked and not self._consume and callable(self._before):
            self._before(*self._call)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and self._second_breaks:
            raise KeyboardInterrupt
        self.asked, self._call = True, (number, frame)
