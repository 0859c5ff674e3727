"""Tasks, texts and images."""

from course_lib.data.corpus import TextCorpus, load_corpus, load_text
from course_lib.data.image_task import ImageTask
from course_lib.data.images import CLASSES, ImageSet, load_images
from course_lib.data.symbol_task import SymbolTask
from course_lib.data.task import IGNORED, Baseline, Task
from course_lib.data.tasks import IMAGE_TASKS, TASKS, make_task
from course_lib.data.text_task import TextTask
from course_lib.deprecated import renamed_in_module

__all__ = [
    "CLASSES",
    "IGNORED",
    "IMAGE_TASKS",
    "TASKS",
    "Baseline",
    "ImageSet",
    "ImageTask",
    "SymbolTask",
    "Task",
    "TextCorpus",
    "TextTask",
    "load_corpus",
    "load_images",
    "load_text",
    "make_task",
]

__getattr__ = renamed_in_module(__name__, ReferenceLine=Baseline)
