"""Which exercises a reader has solved; a file keeps it between visits."""

import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from course_lib.atomic import write_atomically
from course_lib.extras import platformdirs

VARIABLE = "COURSE_LIB_PROGRESS"
"""The environment variable that names the file for progress, or is "off" to keep none."""
VERSION = 1

COURSE: dict[str, tuple[str, tuple[str, ...]]] = {
    "00": ("Start here", ("check_verdicts", "check_warmup")),
    "01": (
        "Attention and entropy",
        ("check_softmax", "check_entropy", "check_effective_rank", "check_two_maps"),
    ),
    "02": ("Watch it crash", ("check_rule", "check_control", "check_claims")),
    "03": ("Spectral energy", ("check_sec", "check_product_gradient", "check_floor")),
    "04": (
        "Weyl and the bound",
        ("check_allowed_lr", "check_power_iteration", "check_adamw2", "check_promises"),
    ),
    "05": ("Taming GPT", ("check_lr_sensitivity", "check_steps_to_grow", "check_taming_claims")),
    "06": ("Taming ViT", ("check_patch_map", "check_tamed")),
    "07": ("Taming Swin", ("check_sees", "check_linear")),
    "08": ("Rewind and rescue", ("check_border", "check_alarm", "check_carriers")),
    "09": ("In your own code", ("check_share_cut", "check_sites", "check_first_aid")),
}
"""Notebook → its title and its checkers, in the order of its exercises."""

_LOCK = threading.Lock()


@dataclass(frozen=True)
class Progress:
    """What is solved, as text and as a table in a notebook."""

    solved: Mapping[str, str]
    """Checker → when it first passed (ISO 8601)."""
    place: str
    """Where progress is kept, or why it is not."""

    def __repr__(self) -> str:
        lines = [
            f"{number} {title}: {self._count(checkers)} of {len(checkers)} solved"
            for number, (title, checkers) in COURSE.items()
        ]
        return "\n".join([*lines, self._total(), self.place])

    def _repr_html_(self) -> str:
        rows = "".join(self._row(number, *entry) for number, entry in COURSE.items())
        return (
            f"<table><caption>{self._total()}</caption><thead><tr>"
            '<th scope="col">notebook</th><th scope="col">solved</th><th scope="col">exercises</th>'
            f"</tr></thead><tbody>{rows}</tbody></table><p>{escape(self.place)}</p>"
        )

    def _row(self, number: str, title: str, checkers: tuple[str, ...]) -> str:
        # A sign and a word: neither colour nor sign alone says what is solved.
        items = "<br>".join(
            f"✓ {i}. {_name(checker)}: solved on {escape(self.solved[checker][:10])}"
            if checker in self.solved
            else f"… {i}. {_name(checker)}: not yet"
            for i, checker in enumerate(checkers, 1)
        )
        return (
            f'<tr><th scope="row">{number} · {escape(title)}</th>'
            f"<td>{self._count(checkers)} of {len(checkers)}</td>"
            f'<td style="text-align: left">{items}</td></tr>'
        )

    def _count(self, checkers: tuple[str, ...]) -> int:
        return sum(checker in self.solved for checker in checkers)

    def _total(self) -> str:
        everything = [checker for _, checkers in COURSE.values() for checker in checkers]
        return f"{self._count(tuple(everything))} of {len(everything)} exercises solved"


def progress() -> Progress:
    """What this reader has solved so far."""
    path = _path()
    if path is None:
        return Progress({}, f"Nothing is kept: {VARIABLE} is off.")
    try:
        solved, note = _read(path)
    except OSError as error:
        return Progress({}, _unreadable(path, error))
    return Progress(solved, note or f"Kept in {path}")


def record(checker: str) -> str:
    """Record that a checker has passed, if this is a reader's notebook or `VARIABLE` is set.

    Returns:
        One line if the file could not be read or written, else "". Disk errors are never raised.
    """
    path = _path()
    if path is None or (VARIABLE not in os.environ and not _has_reader()):
        return ""
    with _LOCK:
        try:
            solved, note = _read(path)
            if checker not in solved:
                solved[checker] = datetime.now().astimezone().isoformat(timespec="seconds")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, json.dumps({"version": VERSION, "solved": solved}, indent=1).encode())
        except OSError as error:
            return _unreadable(path, error)
    return note


def _path() -> Path | None:
    named = os.environ.get(VARIABLE, "")
    if named == "off":
        return None
    return Path(named).expanduser() if named else platformdirs.user_data_path("course_lib") / "progress.json"


def _has_reader() -> bool:
    """Whether this is the kernel of a notebook that no test runs."""
    if "PYTEST_CURRENT_TEST" in os.environ or "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return getattr(shell, "kernel", None) is not None


def _read(path: Path) -> tuple[dict[str, str], str]:
    """What the file holds, and a line about it if it is damaged; a damaged file is renamed."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        solved = content["solved"]
        if content["version"] == VERSION and all(isinstance(s, str) for pair in solved.items() for s in pair):
            return dict(solved), ""
    except FileNotFoundError:
        return {}, ""
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    names = (path.with_name(f"{path.stem}.damaged-{n}{path.suffix}") for n in range(1, 10_000))
    aside = next(name for name in names if not name.exists())
    path.replace(aside)
    return {}, f"{path} is damaged, or of another version of the course: kept as {aside.name}; starting anew."


def _unreadable(path: Path, error: OSError) -> str:
    return (
        f"Progress is not kept: {path}: {error.strerror or error}; expected a file that can be written, "
        f"try another one in the environment variable {VARIABLE}."
    )


def _name(checker: str) -> str:
    return checker.removeprefix("check_").replace("_", " ")
