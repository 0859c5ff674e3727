"""How nbval compares the notebooks with what is committed: `make notebooks` loads this as a plugin of pytest.

Every cell has to run, and what it puts out has to be what is committed, with three exceptions:

- pictures as HTML: only what they say is compared, their title and alt text. Pixels differ between machines;
- a cell tagged `nbval-ignore-numbers`: its words are compared, its numbers are not. What is measured in a run
  differs between machines; what must hold of it is asserted in the cells;
- a cell tagged `nbval-ignore-output`: versions, and texts that a trained model writes.
"""

import functools
import os
import re

import nbval.kernel
from jupyter_client.manager import KernelManager
from nbval.plugin import IPyNbCell, IPyNbFile

from book.outputs import ENCRYPTED, ENVIRONMENT, is_live

IGNORE_NUMBERS = "nbval-ignore-numbers"
NUMBER = re.compile(r"[-+−]?(\d[\d,]*(\.\d+)?(e[-+]?\d+)?|\bnan\b|\binf\b)")


def without_numbers(text: str) -> str:
    """The words of a text; columns of a table are as wide as their numbers, so spaces count once."""
    return re.sub(r"[\s\\]+", " ", NUMBER.sub("#", text)).strip()


def compare_static(compare, outputs, reference):
    return compare([output for output in outputs if not is_live(output)], reference)


def pytest_configure():
    os.environ.update(ENVIRONMENT)  # the kernels inherit it
    nbval.kernel.KernelManager = functools.partial(KernelManager, config=ENCRYPTED)


def pytest_collectstart(collector):
    if isinstance(collector, IPyNbFile):
        collector.skip_compare += ("text/html",)  # whatever is HTML is text as well


def pytest_collection_modifyitems(items):
    for item in items:
        if not isinstance(item, IPyNbCell):
            continue
        item.compare_outputs = functools.partial(compare_static, item.compare_outputs)
        if IGNORE_NUMBERS in item.cell.metadata.get("tags", []):
            item.sanitize = without_numbers
