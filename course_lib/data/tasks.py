"""The tasks by name."""

from pathlib import Path

from course_lib import checks
from course_lib.data.image_task import ImageTask
from course_lib.data.images import load_images
from course_lib.data.symbol_task import SymbolTask
from course_lib.data.task import Task
from course_lib.data.text import load_corpus
from course_lib.data.text_task import TextTask

TASKS = ("copy", "recall", "text")
"""Sequences: a target for every position."""
IMAGE_TASKS = ("fashion-mnist",)
"""Images: one target for each."""


def make_task(kind: str, context: int, seed: int, text: str | Path | None = None) -> Task:
    """The task named `kind`; `text` is a file of the reader's own for the task "text".

    `context` is the length of a sequence; images have none, and leave it alone.
    """
    checks.choice("task", kind, (*TASKS, *IMAGE_TASKS))
    if kind == "text":
        return TextTask(load_corpus(text), context, seed)
    if text is not None:
        raise ValueError(f"text is {str(text)!r}: expected none for the task {kind!r}; try task='text'")
    if kind in IMAGE_TASKS:
        return ImageTask(load_images(), seed)
    return SymbolTask(kind, context, seed)
