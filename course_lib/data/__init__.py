"""Tasks and texts, all offline."""

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
    "IGNORED",
    "TASKS",
    "ReferenceLine",
    "SymbolTask",
    "Task",
    "TextCorpus",
    "TextTask",
    "load_corpus",
    "load_text",
    "make_task",
]
