"""Tasks, texts and images, all offline."""

from course_lib.data.images import CLASSES, ImageSet, load_images
from course_lib.data.tasks import (
    IGNORED,
    TASKS,
    ReferenceLine,
    SymbolTask,
    Task,
    TextTask,
    make_task,
)
from course_lib.data.text import TextCorpus, load_corpus, load_text

__all__ = [
    "CLASSES",
    "IGNORED",
    "TASKS",
    "ImageSet",
    "ReferenceLine",
    "SymbolTask",
    "Task",
    "TextCorpus",
    "TextTask",
    "load_corpus",
    "load_images",
    "load_text",
    "make_task",
]
