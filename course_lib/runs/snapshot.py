"""A run at one moment: kept in memory, written to a file, read back. No pickle is used.

A file is in the safetensors format. Its metadata hold one JSON text with everything that is no tensor. They
also hold the SHA-256 of that text and of all tensors, so that a truncated or altered file is noticed.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from course_lib.atomic import write_atomically
from course_lib.runs.config import RENAMED, RunConfig
from course_lib.runs.records import NO_PROBES, Record, Values
from course_lib.runs.settings import Change, Settings

FORMAT = 5
"""Version of the file format. Format 4, with other names of quantities and config fields, is read, too."""

_FORMAT_4_PROBES = {"rho": "rho_requested", "sigma_ratio": "rho_applied"}
"""Quantity in a file of format 4 → its name now."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that a run's future depends on, and its past."""

    config: RunConfig
    origin: RunConfig
    """What the run began with; a fork's is its parent's."""
    settings: Settings
    updates: int
    data_digest: str
    tensors: dict[str, Tensor]
    """"model.<parameter>" and "optimizer.<position>.<state>": copies, as the run changes its own."""
    records: tuple[Record, ...]
    changes: tuple[Change, ...]

    def save(self, path: str | Path) -> None:
        """Write to `path` at once: a crash leaves either the whole new file or the old one."""
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.tensors.items()}
        tensors.update(_pack_records(self.records))
        text = json.dumps(
            {
                "format": FORMAT,
                "config": self.config.to_dict(),
                "origin": self.origin.to_dict(),
                "settings": vars(self.settings),
                "updates": self.updates,
                "data_digest": self.data_digest,
                "changes": [vars(change) for change in self.changes],
            }
        )
        write_atomically(path, save(tensors, {"run": text, "sha256": _digest(text, tensors)}))

    @classmethod
    def load(cls, path: str | Path) -> "Snapshot":
        """Read a file that `save` wrote.

        Raises:
            ValueError: the file cannot be read, is no saved run, or is not as it was written.
        """
        advice = "restore it from a copy or train the run again"
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path}: expected a whole saved run ({error}); {advice}") from error
        text = metadata.get("run")
        if text is None:
            raise ValueError(f"{path}: expected a run saved by course_lib, found other tensors; {advice}")
        if metadata.get("sha256") != _digest(text, tensors):
            raise ValueError(f"{path}: expected the contents it was saved with, they differ; {advice}")
        about = json.loads(text)
        if about["format"] == 4:
            _rename_from_format_4(about, tensors)
        elif about["format"] != FORMAT:
            raise ValueError(
                f"{path}: format is {about['format']}: expected {FORMAT}; "
                "load it with the course_lib it is from"
            )
        packed = {k: tensors.pop(k) for k in list(tensors) if k.startswith("records.")}
        return cls(
            config=RunConfig(**about["config"]),
            origin=RunConfig(**about["origin"]),
            settings=Settings(**about["settings"]),
            updates=about["updates"],
            data_digest=about["data_digest"],
            tensors=tensors,
            records=_unpack_records(packed),
            changes=tuple(_change(**change) for change in about["changes"]),
        )


def _change(step: int, setting: str, value: Any) -> Change:
    # JSON has only lists, but a config holds tuples.
    return Change(step, setting, tuple(value) if isinstance(value, list) else value)


def _rename_from_format_4(about: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Give what a file of format 4 holds the names of today."""
    for part in ("config", "origin"):
        about[part] = {RENAMED.get(name, name): value for name, value in about[part].items()}
    for change in about["changes"]:
        change["setting"] = RENAMED.get(change["setting"], change["setting"])
    for old, new in _FORMAT_4_PROBES.items():
        for part in ("at", "values"):
            if (column := f"records.probes.{old}.{part}") in tensors:
                tensors[f"records.probes.{new}.{part}"] = tensors.pop(column)


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    return hashlib.sha256(text.encode() + save(tensors)).hexdigest()


def _pack_records(records: tuple[Record, ...]) -> dict[str, Tensor]:
    """One tensor per column; a probed quantity also has the positions of its records."""
    columns: dict[str, np.ndarray[Any, Any]] = {
        "step": np.array([r.step for r in records], dtype=np.int64),
        "validated": np.array([r.val_loss is not None for r in records], dtype=np.bool_),
    }
    # NaN stands for a missing accuracy. A validation loss can be NaN itself, hence the column "validated".
    for name in ("lr", "loss", "val_loss", "accuracy", "val_accuracy"):
        values = [getattr(r, name) for r in records]
        columns[name] = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    for quantity in {q for r in records for q in r.probes}:
        at = [i for i, r in enumerate(records) if quantity in r.probes]
        columns[f"probes.{quantity}.at"] = np.array(at, dtype=np.int64)
        columns[f"probes.{quantity}.values"] = np.stack([records[i].probes[quantity] for i in at])
    return {f"records.{name}": torch.from_numpy(column) for name, column in columns.items()}


def _unpack_records(tensors: dict[str, Tensor]) -> tuple[Record, ...]:
    columns = {name.removeprefix("records."): t.numpy() for name, t in tensors.items()}
    names = ("step", "lr", "loss", "validated", "val_loss", "accuracy", "val_accuracy")
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    probes: dict[int, dict[str, Values]] = {}
    for name, at in columns.items():
        if name.endswith(".at"):
            quantity = name.removeprefix("probes.").removesuffix(".at")
            for i, values in zip(at.tolist(), columns[f"probes.{quantity}.values"], strict=True):
                probes.setdefault(i, {})[quantity] = values
    return tuple(
        Record(
            step,
            lr,
            loss,
            probes.get(i, NO_PROBES),
            val_loss if validated else None,
            *(None if np.isnan(accuracy) else accuracy for accuracy in accuracies),
        )
        for i, (step, lr, loss, validated, val_loss, *accuracies) in enumerate(rows)
    )
