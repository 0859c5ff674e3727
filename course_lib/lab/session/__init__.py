"""Runs under a reader's hands, without a widget: branches, the thread that trains them, looking back."""

from course_lib.lab.session.listener import Listener
from course_lib.lab.session.session import Session

__all__ = ["Listener", "Session"]
