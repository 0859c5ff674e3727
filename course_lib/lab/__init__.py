"""The live lab: train by hand, in a notebook, and watch."""

from typing import Any

from course_lib.lab.session import Session

__all__ = ["Lab", "Session"]


def __getattr__(name: str) -> Any:
    if name == "Lab":  # not before it is asked for: a session works without the widgets' packages
        from course_lib.lab.lab import Lab

        return Lab
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
