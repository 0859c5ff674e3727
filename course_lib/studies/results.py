"""Results of runs as rows of files: a writer that continues where it stopped, and a reader."""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from course_lib import checks
from course_lib.atomic import write_atomically
from course_lib.extras import pandas as pd
from course_lib.runs.config import RunConfig
from course_lib.runs.presets import preset

RECORDS = Path(__file__).parents[2] / "experiments" / "records"
"""The results behind the course's claims. A checkout has them, an installed package does not."""
PROVENANCE = ("code", "torch", "threads", "device")
"""Columns that every row has: the version of the code (`code_version`), and what it ran on."""
TRAINING = ("data", "models", "probes", "runs")
"""Rooms that every trained run depends on; those with a bound also depend on `optim`."""

_SCRIPTS = {"alpha": "taming"}
_SMALL = ("lr", "seed", "device", "probe_every", "schedule")

Row = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """An entry of a plan: a function that makes its rows, and the rooms that they depend on."""

    make: Callable[[], Row | list[Row]]
    rooms: tuple[str, ...] = TRAINING


def rooms_of(config: RunConfig) -> tuple[str, ...]:
    """The rooms that a run of this config depends on."""
    return (*TRAINING, "optim") if config.optimizer == "adamw2" else TRAINING


@lru_cache
def code_version(rooms: tuple[str, ...]) -> str:
    """A short hash of the source files of some rooms of the library: eight hexadecimal digits."""
    library = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for room in sorted(rooms):
        for path in sorted((library / room).rglob("*.py")):
            digest.update(path.relative_to(library).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]


def settings_of(name: str, config: RunConfig) -> str:
    """The fields in which a config differs from its preset, as JSON, except those of other columns."""
    plain, theirs = config.to_dict(), preset(name).to_dict()
    changed = {field: plain[field] for field in plain if plain[field] != theirs[field]}
    if config.optimizer == "adamw2":
        changed["tau"] = config.tau
    return json.dumps({field: value for field, value in changed.items() if field not in _SMALL})


def read_results(source: str | Path) -> pd.DataFrame:
    """The results in a file, one row per run or per step of a run.

    Args:
        source: a name such as "taming", for the course's own; or the path of a file, .csv or .jsonl.

    Raises:
        ValueError: there is no such file, or it is of an older format.
    """
    path = source if isinstance(source, Path) else _own(source)
    rows = _load(path)
    if path.suffix == ".jsonl":
        return pd.DataFrame(rows)
    return pd.read_csv(path, dtype={"code": str})


def fill(
    path: Path,
    key: Sequence[str],
    plan: Iterable[tuple[tuple[Any, ...], Work]],
    *,
    most: int | None = None,
    redo: str | None = None,
) -> pd.DataFrame:
    """Make the entries of a plan that a file lacks, and write the file after each, whole or not at all.

    Args:
        path: .csv, or .jsonl where a cell may hold a list; made if there is none.
        key: columns that tell entries apart.
        plan: values of the key, and the work, of each entry.
        most: entries to make at most; the rest is left to a later call.
        redo: a room of the library; first drop the plan's rows that depend on it.

    Raises:
        ValueError: the folder is missing, or the file is of an older format.
    """
    if not path.parent.is_dir():
        raise ValueError(f"out is {str(path)!r}: expected a folder {path.parent} to write to; make it first")
    if redo is not None:
        checks.choice("redo", redo, (*TRAINING, "optim"))
    wanted = {tuple(map(_text, item)): (item, work) for item, work in plan}

    def entry(row: Row) -> tuple[str, ...]:
        return tuple(_text(row[column]) for column in key)

    def kept() -> list[Row]:
        rows = _load(path, key) if path.exists() else []
        return [row for row in rows if entry(row) not in dropped]

    dropped = {name for name, (_, work) in wanted.items() if redo in work.rooms}
    there = {entry(row) for row in kept()}
    for name in tqdm([name for name in wanted if name not in there][:most], desc="runs"):
        item, work = wanted[name]
        made = work.make()
        made_by = (code_version(work.rooms), torch.__version__, torch.get_num_threads(), "cpu")
        shared = dict(zip((*key, *PROVENANCE), (*item, *made_by), strict=True))
        rows = [shared | row for row in ([made] if isinstance(made, dict) else made)]
        _save(path, kept() + rows)
        dropped.discard(name)
    rows = kept()
    missing = len(wanted.keys() - {entry(row) for row in rows})
    codes = {entry(row): row["code"] for row in rows}
    old = [n for n in wanted if n in codes and codes[n] != code_version(wanted[n][1].rooms)]
    print(f"{path.name}: {missing} of {len(wanted)} entries are missing, {len(old)} made by other code")
    return read_results(path) if rows else pd.DataFrame(columns=list(key))


def _own(name: str) -> Path:
    if not RECORDS.is_dir():
        raise ValueError(
            f"results {name!r} are not in {RECORDS}: expected a checkout of the course, a package has none; "
            "clone the repository and run `pip install -e .` in it"
        )
    files = {path.stem: path for path in sorted(RECORDS.glob("*.*"))}
    return files[checks.choice("results", name, files)]


def _load(path: Path, columns: Iterable[str] = ()) -> list[Row]:
    """The rows of a file. The cells of a .csv file are texts."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: expected a file of results ({error.strerror})") from error
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
    else:
        rows = list(csv.DictReader(io.StringIO(text)))
    for column in (*PROVENANCE, *columns):
        if rows and column not in rows[0]:
            script = _SCRIPTS.get(path.stem, path.stem)
            raise ValueError(
                f"{path} has no column {column!r}: expected a file of this version; "
                f"move it away and make it anew with `python experiments/{script}.py`"
            )
    return rows


def _save(path: Path, rows: list[Row]) -> None:
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        buffer = io.StringIO()
        columns = list(dict.fromkeys(column for row in rows for column in row))
        writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({column: _text(value) for column, value in row.items()} for row in rows)
        text = buffer.getvalue()
    write_atomically(path, text.encode())


def _text(value: Any) -> str:
    """A cell: empty for what is missing."""
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    return "" if value is None or value != value else str(value)
