"""The tasks by name."""

from pathlib import Path

from course_lib import checks
from course_lib.data.corpus import load_corpus
from course_lib.data.fetch import load_full_images
from course_lib.data.image_task import ImageTask
from course_lib.data.images import load_images
from course_lib.data.symbol_task import SymbolTask
from course_lib.data.task import Task
from course_lib.data.text_task import TextTask

TASKS = ("copy", "recall", "text")
"""Sequences: a target for every position."""
IMAGE_TASKS = ("fashion-mnist", "fashion-mnist-full")
"""Images: one target for each."""


def make_task(
    kind: str,
    context: int,
    seed: int,
    text: str | Path | None = None,
    folder: str | Path | None = None,
    augmented: bool = True,
) -> Task:
    """The task named `kind`.

    Args:
        kind: one of `TASKS` or `IMAGE_TASKS`. "fashion-mnist" is the part that ships with the course,
            "fashion-mnist-full" the whole set, which is downloaded on first use.
        context: length of a sequence; images have none, and leave it alone.
        seed: of the batches.
        text: a file of the reader's own, for the task "text".
        folder: one that has the four files of Fashion-MNIST, or of a set like it, for the task
            "fashion-mnist-full"; nothing is then downloaded.
        augmented: whether training images are flipped and moved at random.
    """
    checks.choice("task", kind, (*TASKS, *IMAGE_TASKS))
    for name, value, where in (("text", text, "text"), ("folder", folder, "fashion-mnist-full")):
        if value is not None and kind != where:
            raise ValueError(
                f"{name} is {str(value)!r}: expected none for the task {kind!r}; try task={where!r}"
            )
    if kind == "text":
        return TextTask(load_corpus(text), context, seed)
    if kind == "fashion-mnist":
        return ImageTask(load_images(), seed, augmented)
    if kind == "fashion-mnist-full":
        return ImageTask(load_full_images(folder), seed, augmented)
    return SymbolTask(kind, context, seed)
