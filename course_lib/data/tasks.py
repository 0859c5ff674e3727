"""Tasks by name."""

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
"""Tasks on sequences, with a target per position."""
IMAGE_TASKS = ("fashion-mnist", "fashion-mnist-full")
"""Tasks on images, with one target per image."""


def make_task(
    kind: str,
    context: int,
    seed: int,
    text: str | Path | None = None,
    folder: str | Path | None = None,
    augmented: bool = True,
) -> Task:
    """Make the task named `kind`.

    Args:
        kind: one of `TASKS` or `IMAGE_TASKS`. "fashion-mnist" is the part that ships with the course,
            "fashion-mnist-full" the whole set, which is downloaded on first use.
        context: length of a sequence; image tasks ignore it.
        seed: seed of the batches.
        text: path of a text file for the task "text"; None for the King James text.
        folder: folder with four files like those of Fashion-MNIST, instead of the download.
        augmented: whether training images are flipped and moved at random.

    Raises:
        ValueError: `kind` is unknown, or another argument does not belong to it or is not usable.
    """
    checks.choice("task", kind, (*TASKS, *IMAGE_TASKS))
    for name, value, where in (("text", text, "text"), ("folder", folder, "fashion-mnist-full")):
        if value is not None and kind != where:
            raise ValueError(
                f"{name} is {str(value)!r}: expected none for the task {kind!r}; try task={where!r}"
            )
    if kind == "text":
        return TextTask(load_corpus(text), context, seed)
    if kind in IMAGE_TASKS:
        images = load_images() if kind == "fashion-mnist" else load_full_images(folder)
        return ImageTask(images, seed, augmented)
    return SymbolTask(kind, context, seed)
