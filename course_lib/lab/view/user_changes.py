"""Which changes of a widget are the reader's, and which the lab's own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets

AsCallback = Callable[[Callable[[], Any]], Callable[[Any], None]]
"""Makes a widget's callback of a function, such as `View.as_callback`."""


class UserChanges:
    """Calls back when a reader changes a widget, and not when the lab moves it.

    Args:
        as_callback: what each call goes through.
    """

    def __init__(self, as_callback: AsCallback) -> None:
        self._as_callback = as_callback
        self._threads: set[int] = set()

    def observe(self, widget: ipywidgets.Widget, method: Callable[[Any], Any]) -> None:
        """Call `method` with each value that the reader chooses."""

        def changed(change: Any) -> None:
            if threading.get_ident() not in self._threads and change["new"] is not None:
                self._as_callback(lambda: method(change["new"]))(change)

        widget.observe(changed, "value")

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Call nobody back for what this thread changes meanwhile."""
        self._threads.add(threading.get_ident())
        try:
            yield
        finally:
            self._threads.discard(threading.get_ident())
