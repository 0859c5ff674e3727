"""The live lab: train by hand, in a notebook, and watch."""

from course_lib.lab.lab import Lab

__all__ = ["Lab"]
