"""Records of a run, one per step, and the table made of them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import Tensor

from course_lib.extras import require
from course_lib.probes import HEAD_QUANTITIES

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("step", "layer", "head", "matrix", "quantity", "value")
"""Columns of the table. `layer`, `head` and `matrix` are missing where a value belongs to none."""

Values = npt.NDArray[np.float32]
NO_PROBES: Mapping[str, Values] = MappingProxyType({})
"""Probes of a step that was not probed: one object for all of them, since a long run has many."""


@dataclass(slots=True)
class Record:
    """One step of a run: the model after `step` updates, and the update it made next.

    The loss stays on the device until somebody reads it, so that recording does not make an accelerator
    wait for the host.
    """

    step: int
    lr: float
    """Learning rate of the run at this step, schedule and warmup included, before any cut."""
    _loss: Tensor | float
    probes: Mapping[str, Values] = field(default_factory=lambda: NO_PROBES)
    """Quantity → (layers, heads), or (matrices,); empty in steps without probes. Where layers differ in
    their number of heads, the shorter rows end in NaN."""
    val_loss: float | None = None
    _accuracy: Tensor | float | None = None
    val_accuracy: float | None = None
    """Share of the validation images whose class is named rightly; None where there are no images."""

    @property
    def loss(self) -> float:
        """Training loss of this step's batch, in nats."""
        if isinstance(self._loss, Tensor):
            self._loss = self._loss.item()
        return self._loss

    @property
    def accuracy(self) -> float | None:
        """Share of this step's images whose class is named rightly; None where there are no images."""
        if isinstance(self._accuracy, Tensor):
            self._accuracy = self._accuracy.item()
        return self._accuracy


def losses(records: Sequence[Record]) -> npt.NDArray[np.float64]:
    """Training loss per record."""
    return np.array([record.loss for record in records])


def accuracies(records: Sequence[Record]) -> npt.NDArray[np.float64]:
    """Training accuracy per record, NaN where there is none."""
    return np.array([np.nan if r.accuracy is None else r.accuracy for r in records])


def mean_over_heads(values: Values) -> Values:
    """(…, heads) → (…): the mean of the values that are not NaN; NaN if there are none."""
    there = ~np.isnan(values)
    total = np.where(there, values, 0).sum(-1)
    return np.where(there.any(-1), total / np.maximum(there.sum(-1), 1), np.nan)


def probed(records: Iterable[Record], quantity: str) -> tuple[npt.NDArray[np.int64], Values]:
    """The steps at which `quantity` was probed, and its values stacked along a first axis."""
    found = [r for r in records if quantity in r.probes]
    steps = np.array([r.step for r in found], dtype=np.int64)
    values = [r.probes[quantity] for r in found]
    return steps, np.stack(values) if values else np.empty((0, 0), dtype=np.float32)


def to_frame(records: Sequence[Record], matrices: Sequence[str], heads: Sequence[int]) -> "pd.DataFrame":
    """Records of one run as rows (step, layer, head, matrix, quantity, value), for pandas and seaborn.

    `matrices` names the matrices in the order of their quantities; `heads` is each layer's number of heads.
    """
    rows: list[tuple[object, ...]] = []
    for r in records:
        for name in ("loss", "lr", "accuracy", "val_loss", "val_accuracy"):
            if (value := getattr(r, name)) is not None:
                rows.append((r.step, None, None, None, name, value))
        for quantity, values in sorted(r.probes.items()):
            if quantity in HEAD_QUANTITIES:
                rows += [
                    (r.step, layer, head, None, quantity, float(value))
                    for (layer, head), value in np.ndenumerate(values)
                    if head < heads[layer]
                ]
            else:
                rows += [
                    (r.step, layer_of(name), None, name, quantity, float(value))
                    for name, value in zip(matrices, values, strict=True)
                ]
    require("to_frame", "pandas")  # here: runs need no tables
    import pandas as pd

    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"layer": "Int64", "head": "Int64"})


def layer_of(matrix: str) -> int | None:
    """The index of the block that a parameter belongs to, from its name; None outside the blocks."""
    found = re.search(r"\bblocks\.(\d+)\.", matrix)
    return int(found[1]) if found else None
