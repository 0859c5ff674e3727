"""Sessions without a widget: branches, the thread that trains them, rewinding and forking."""

from course_lib.lab.session.listener import Listener
from course_lib.lab.session.session import Session

__all__ = ["Listener", "Session"]
