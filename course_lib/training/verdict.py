"""What became of a run, by a stated rule from its records and its task's reference loss alone.

The rule, in this order (loss: the last validation loss if the last record has one, else the mean of the
last `WINDOW` training losses; a layer's entropy and rank: means over its heads at the last probe):

1. `diverged`: a loss is not finite, or the loss is above its start by more than a twentieth.
2. The run has *learnt* if its loss is below the reference.
3. Learnt and some layer's entropy is low: `benign collapse`. Attention is sharp because it is right.
4. Learnt: `healthy`.
5. Not learnt and some layer has low entropy and a low-rank map: `malignant collapse`.
6. Not learnt otherwise: `stalled`.

Entropy is low below `LOW_ENTROPY`; a map's rank is low below `LOW_RANK` times that of uniform attention.
Where attention is no distribution (sigmoid, ReLU², identity) there is no entropy: such a run is judged by
its loss alone and can be healthy, stalled or diverged; its records still hold the map's rank and spectrum.
While a run is still in its steps, 6 reads `undecided`: it may yet learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from course_lib.data import ReferenceLine
from course_lib.probes import uniform_rank
from course_lib.training.records import Record, losses, probed

LOW_ENTROPY = 0.25
LOW_RANK = 1.0
WINDOW = 20
ABOVE_START = 1.05

VERDICTS = ("healthy", "benign collapse", "malignant collapse", "stalled", "diverged", "undecided")


@dataclass(frozen=True)
class LayerState:
    """A layer's attention at the last probe: means over its heads."""

    entropy: float
    rank: float
    """Effective rank of the attention map, as a multiple of uniform causal attention's."""

    @property
    def sharp(self) -> bool:
        return self.entropy < LOW_ENTROPY

    @property
    def malignant(self) -> bool:
        return self.sharp and self.rank < LOW_RANK


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run."""

    name: str
    """One of `VERDICTS`."""
    learnt: bool
    loss: float
    reference: ReferenceLine
    layers: tuple[LayerState, ...]
    first_collapse_step: int | None
    """First probed step at which a layer was in the state that a collapse is named after."""

    def __str__(self) -> str:
        side = "below" if self.learnt else "not below"
        line = f"{self.name}: loss {self.loss:.2f}, {side} the {self.reference.name} line"
        line += f" ({self.reference.loss:.2f})"
        for i, layer in enumerate(self.layers, 1):
            if not np.isnan(layer.entropy):
                line += f"; layer {i} entropy {layer.entropy:.2f}, rank {layer.rank:.2f}× uniform"
        return line


def judge(records: Sequence[Record], reference: ReferenceLine, context: int, *, finished: bool) -> Verdict:
    """Apply the rule above.

    Args:
        records: of one run, from its first step on.
        reference: loss below which the run has learnt.
        context: number of tokens of the probed maps.
        finished: whether the run has made all its steps.

    Raises:
        ValueError: there is no record yet.
    """
    if not records:
        raise ValueError("records is empty: expected at least one; make a step first")
    curve = losses(records)
    validated = records[-1].val_loss
    loss = float(curve[-WINDOW:].mean()) if validated is None else validated
    history = _layers(records, context)
    layers = history[-1][1] if history else ()
    if not np.isfinite(curve).all() or loss > ABOVE_START * curve[0]:
        return Verdict("diverged", False, loss, reference, layers, None)
    learnt = loss < reference.loss
    if learnt:
        name = "benign collapse" if any(layer.sharp for layer in layers) else "healthy"
    elif any(layer.malignant for layer in layers):
        name = "malignant collapse"
    else:
        name = "stalled" if finished else "undecided"
    collapsed = {"benign collapse": "sharp", "malignant collapse": "malignant"}.get(name)
    first = None
    if collapsed:
        first = next(s for s, state in history if any(getattr(layer, collapsed) for layer in state))
    return Verdict(name, learnt, loss, reference, layers, first)


def _layers(records: Sequence[Record], context: int) -> list[tuple[int, tuple[LayerState, ...]]]:
    steps, h = probed(records, "entropy")
    _, rank = probed(records, "attention_rank")
    uniform = uniform_rank(context)
    return [
        (
            int(step),
            tuple(
                LayerState(float(e), float(r) / uniform)
                for e, r in zip(h[i].mean(-1), rank[i].mean(-1), strict=True)
            ),
        )
        for i, step in enumerate(steps)
    ]
