"""Is everything there that the course needs? One line each, with what to do where it is not."""

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
class Line:
    """One thing that was looked at."""

    ok: bool
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"✓ {self.what}" if self.ok else f"✗ {self.what}: {self.remedy}"


@dataclass(frozen=True)
class Environment:
    """What was found, as text and as a list in a notebook."""

    lines: tuple[Line, ...]

    @property
    def ok(self) -> bool:
        return all(line.ok for line in self.lines)

    def __repr__(self) -> str:
        return "\n".join(map(str, self.lines))

    def _repr_html_(self) -> str:
        return "<br>".join(escape(str(line)) for line in self.lines)


def check_environment() -> Environment:
    """Look at Python, torch, its threads, the packages of the notebooks, and the course's text."""
    return Environment((_python(), _torch(), _threads(), _packages(), _text()))


def _python() -> Line:
    lowest, highest = (".".join(map(str, v)) for v in _PYTHON)
    ok = _PYTHON[0] <= sys.version_info[:2] <= _PYTHON[1]
    found = ".".join(map(str, sys.version_info[:3]))
    return Line(ok, f"Python {found}", f"expected {lowest} to {highest}; {_INSTALL}")


def _torch() -> Line:
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    remedy = f"expected {'.'.join(map(str, _TORCH))} or newer; {_INSTALL}"
    return Line(version >= _TORCH, f"torch {torch.__version__}", remedy)


def _threads() -> Line:
    # More threads than cores slow each other down, so this is set right rather than complained of.
    threads, cores = use_available_cores(), available_cores()
    return Line(True, f"{threads} torch thread{'s' * (threads > 1)} on {cores} core{'s' * (cores > 1)}")


def _packages() -> Line:
    missing = []
    for name in ("ipywidgets", "bqplot", "matplotlib"):
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        return Line(False, f"{', '.join(missing)} not found", _INSTALL)
    return Line(True, "ipywidgets, bqplot, matplotlib")


def _text() -> Line:
    try:
        text = load_text()
    except ValueError as error:
        return Line(False, "the course's text", str(error))
    return Line(True, f"King James text, {len(text):,} characters, SHA-256 as expected")
