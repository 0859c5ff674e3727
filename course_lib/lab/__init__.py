"""The live lab: train by hand in a notebook, and watch. Sessions also work without a widget."""

from typing import TYPE_CHECKING, Any

from course_lib.extras import require
from course_lib.lab.session import Session

if TYPE_CHECKING:
    from course_lib.lab.lab import Lab

__all__ = ["Lab", "Session"]


def __getattr__(name: str) -> Any:
    if name != "Lab":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("the lab", "ipywidgets", "bqplot", "matplotlib", "pandas")
    from course_lib.lab.lab import Lab

    return Lab
