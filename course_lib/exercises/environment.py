"""Check that the course has what it needs; one line each, with a remedy where something is missing."""

import importlib
import sys
from dataclasses import dataclass
from html import escape

import torch

from course_lib.data import load_text
from course_lib.devices import available_cores, use_available_cores

_PYTHON = ((3, 10), (3, 13))
_TORCH = (2, 6)
_INSTALL = "run `make lab` in the course's folder, or `pip install -e '.[lab]'`"


@dataclass(frozen=True)
class Environment:
    """What was found, as text and as a list in a notebook."""

    lines: tuple[str, ...]
    """One for each thing that was looked at: "✓ what", or "✗ what: remedy"."""

    @property
    def ok(self) -> bool:
        return all(line.startswith("✓") for line in self.lines)

    def __repr__(self) -> str:
        return "\n".join(self.lines)

    def _repr_html_(self) -> str:
        return "<br>".join(map(escape, self.lines))


def check_environment() -> Environment:
    """Look at Python, torch, its threads, the packages of the notebooks, and the course's text."""
    return Environment((_python(), _torch(), _threads(), _packages(), _text()))


def _line(ok: bool, what: str, remedy: str) -> str:
    return f"✓ {what}" if ok else f"✗ {what}: {remedy}"


def _python() -> str:
    lowest, highest = (".".join(map(str, v)) for v in _PYTHON)
    ok = _PYTHON[0] <= sys.version_info[:2] <= _PYTHON[1]
    found = ".".join(map(str, sys.version_info[:3]))
    return _line(ok, f"Python {found}", f"expected {lowest} to {highest}; {_INSTALL}")


def _torch() -> str:
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    remedy = f"expected {'.'.join(map(str, _TORCH))} or newer; {_INSTALL}"
    return _line(version >= _TORCH, f"torch {torch.__version__}", remedy)


def _threads() -> str:
    # More threads than cores slow each other down, so this sets the number instead of reporting it.
    threads, cores = use_available_cores(), available_cores()
    return f"✓ {threads} torch thread{'s' * (threads > 1)} on {cores} core{'s' * (cores > 1)}"


def _packages() -> str:
    names = ("ipywidgets", "bqplot", "matplotlib")
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    return _line(False, f"{', '.join(missing)} not found", _INSTALL) if missing else f"✓ {', '.join(names)}"


def _text() -> str:
    try:
        return f"✓ King James text, {len(load_text()):,} characters, SHA-256 as expected"
    except ValueError as error:
        return f"✗ the course's text: {error}"
