"""What became of a run, by a rule that looks only at its records and at its task's reference loss.

The loss is the last validation loss if the last record has one, else the mean of the last `WINDOW` training
losses. The same holds for the accuracy. A layer's entropy and rank are means over its heads at the last
probe. The rule checks in this order:

1. `diverged`: a loss is not finite, or the loss is above its start by more than a twentieth.
2. A run has *learnt* if its loss is below the reference's. On images, its accuracy has to be above it.
3. Learnt and some layer's entropy is low: `benign collapse`. Attention is sharp because it is right.
4. Learnt: `healthy`.
5. Not learnt and some layer has low entropy and a low-rank map: `malignant collapse`.
6. Not learnt otherwise: `stalled`.

Entropy is low below `LOW_ENTROPY`. A map's rank is low below `LOW_RANK` times its reference rank
(`course_lib.probes.reference_rank`). Sigmoid, ReLU² and identity attention are no distributions: they have no
entropy, so no layer is sharp. There, rule 5 looks at the spectrum: the collapse is malignant if the effective
rank of some layer's W_qᵀW_k, mean over heads, is below `LOW_SPECTRUM` times that at the first probe
(experiments/kinds.py measures how reliable this is). Focused linear attention implies a distribution, and is
judged like softmax. Before a run is finished, rule 6 says `undecided`, as it may still learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from course_lib.data import Baseline
from course_lib.runs.records import Record, accuracies, losses, mean_over_heads, probed

LOW_ENTROPY = 0.25
LOW_RANK = 1.0
LOW_SPECTRUM = 1 / 3
WINDOW = 20
ABOVE_START = 1.05

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayerState:
    """A layer's attention at the last probe: means over its heads."""

    entropy: float
    rank: float
    """Effective rank of the attention map, as a multiple of its reference."""
    spectrum: float = np.nan
    """Effective rank of W_qᵀW_k, as a multiple of what it was at first."""

    @property
    def sharp(self) -> bool:
        return bool(_sharp(self.entropy))

    @property
    def malignant(self) -> bool:
        return bool(_malignant(self.entropy, self.rank, self.spectrum))


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run."""

    name: str
    """As in the rule above."""
    learnt: bool
    loss: float
    reference: Baseline
    layers: tuple[LayerState, ...]
    first_collapse_step: int | None
    """First probed step at which a layer was in the state that a collapse is named after."""
    accuracy: float | None = None
    """Decides whether a run on images has learnt; None on other tasks."""
    rank_unit: str = "uniform"
    """Word for what ranks are multiples of."""

    def compared(self) -> str:
        """Say which number decides, and which line it has to pass."""
        if self.accuracy is None:
            side = "below" if self.learnt else "not below"
            return f"loss {self.loss:.2f}, {side} the {self.reference.name} line ({self.reference.loss:.2f})"
        side = "above" if self.learnt else "not above"
        line = f"{self.reference.name} line ({self.reference.accuracy:.2f})"
        return f"accuracy {self.accuracy:.2f}, {side} the {line}"

    def __str__(self) -> str:
        line = f"{self.name}: {self.compared()}"
        for i, layer in enumerate(self.layers, 1):
            if not np.isnan(layer.entropy):
                line += f"; layer {i} entropy {layer.entropy:.2f}, rank {layer.rank:.2f}× {self.rank_unit}"
        return line


def judge(
    records: Sequence[Record], reference: Baseline, ranks: Sequence[float], *, finished: bool
) -> Verdict:
    """Apply the rule above to all records of a run so far.

    Args:
        records: from the first step on.
        reference: the line that the run has to pass to count as learned.
        ranks: reference rank of each layer's map.
        finished: True if the run has made all its steps.

    Raises:
        ValueError: there is no record yet.
    """
    if not records:
        raise ValueError("records is empty: expected at least one; make a step first")
    curve = losses(records)
    last = records[-1]
    loss = float(curve[-WINDOW:].mean()) if last.val_loss is None else last.val_loss
    accuracy = last.val_accuracy
    if accuracy is None and last.accuracy is not None:
        accuracy = float(accuracies(records)[-WINDOW:].mean())
    steps, columns = _history(records, ranks)
    layers = tuple(LayerState(*map(float, now)) for now in columns[:, -1].T) if len(steps) else ()
    if not np.isfinite(curve).all() or loss > ABOVE_START * curve[0]:
        return Verdict("diverged", False, loss, reference, layers, None, accuracy)
    learnt = reference.beaten_by(loss, accuracy)
    if learnt:
        name = "benign collapse" if any(layer.sharp for layer in layers) else "healthy"
    elif any(layer.malignant for layer in layers):
        name = "malignant collapse"
    else:
        name = "stalled" if finished else "undecided"
    first = None
    if name.endswith("collapse"):
        collapsed = _sharp(columns[0]) if learnt else _malignant(*columns)
        first = int(steps[collapsed.any(-1).argmax()])
    return Verdict(name, learnt, loss, reference, layers, first, accuracy)


def _sharp(entropy: Floats | float) -> npt.NDArray[np.bool_]:
    return np.less(entropy, LOW_ENTROPY)


def _malignant(
    entropy: Floats | float, rank: Floats | float, spectrum: Floats | float
) -> npt.NDArray[np.bool_]:
    collapsed = _sharp(entropy) & np.less(rank, LOW_RANK)
    return np.where(np.isnan(entropy), np.less(spectrum, LOW_SPECTRUM), collapsed)


def _history(records: Sequence[Record], ranks: Sequence[float]) -> tuple[npt.NDArray[np.int64], Floats]:
    """Steps of the probes (n,), and the fields of a `LayerState` then: (3, n, layers)."""
    records = [record for record in records if record.probes]
    steps, h = probed(records, "entropy")
    if not len(steps):
        return steps, np.empty((3, 0, 0))
    _, spectrum = probed(records, "qk_rank")
    shrunk = np.full(h.shape[:2], np.nan)
    if len(spectrum):
        shrunk = mean_over_heads(spectrum) / mean_over_heads(spectrum[0])
    rank = mean_over_heads(probed(records, "attention_rank")[1]) / np.array(ranks)
    return steps, np.stack([mean_over_heads(h), rank, shrunk])
