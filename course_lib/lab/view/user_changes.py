"""Tell a reader's changes of a widget from the lab's own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets

AsCallback = Callable[[Callable[[], Any]], Callable[[Any], None]]
"""Turns a function into a widget's callback, as `View.as_callback` does."""


class UserChanges:
    """Calls back if a reader changes a widget, but not if the lab does. `as_callback` wraps each call."""

    def __init__(self, as_callback: AsCallback) -> None:
        self._as_callback = as_callback
        self._threads: set[int] = set()

    def observe(self, widget: ipywidgets.Widget, method: Callable[[Any], Any]) -> None:
        """Call `method` with each value that a reader chooses."""

        def changed(change: Any) -> None:
            if threading.get_ident() not in self._threads and change["new"] is not None:
                self._as_callback(lambda: method(change["new"]))(change)

        widget.observe(changed, "value")

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Call nobody back for changes that this thread makes in the `with` block."""
        self._threads.add(threading.get_ident())
        try:
            yield
        finally:
            self._threads.discard(threading.get_ident())
