"""Tasks: the data of a run.

A batch depends on (seed, split, step) and its size alone. Step 137 of seed 0 is therefore the same batch in
every run, before and after a restore, and in every fork.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

IGNORED = -100
"""Target of positions that are not scored, cross_entropy's default `ignore_index`."""

VALIDATION_SEQUENCES = 64
"""Number of sequences in a validation loss; images use the whole test part."""

_STREAMS = {"train": 0, "validation": 1, "probe": 2, "shuffle": 3}


@dataclass(frozen=True)
class Baseline:
    """Loss and accuracy of a simple predictor, to compare a trained model with."""

    name: str
    loss: float
    """In nats."""
    accuracy: float | None = None
    """Share of right answers, for images only; it then decides."""

    def beaten_by(self, loss: float, accuracy: float | None = None) -> bool:
        """Whether a model with this loss and accuracy is better: by accuracy if both have one."""
        if self.accuracy is None or accuracy is None:
            return loss < self.loss
        return accuracy > self.accuracy


class Task(Protocol):
    """Interface of a task."""

    @property
    def n_outputs(self) -> int:
        """Number of symbols or classes that the model chooses from: logits of each target."""

    @property
    def digest(self) -> str:
        """Identifies the data: a saved run continues only with the data it was trained on."""

    @property
    def references(self) -> tuple[Baseline, ...]:
        """Baselines to draw beside a loss or an accuracy, highest loss first."""

    @property
    def reference(self) -> Baseline:
        """The baseline that a run must beat to count as learned."""

    @property
    def validation_size(self) -> int:
        """Size of the batch that a run is judged on: `batch(0, validation_size, "validation")`."""

    def batch(self, step: int, size: int, split: str = "train") -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, on the CPU.

        Symbols and text: both int64 (size, context). Images: inputs float32 (size, 1, 28, 28), targets
        int64 (size,). `split` is train, validation or probe.
        """


def generator(seed: int, stream: str, step: int) -> np.random.Generator:
    """Random generator that depends on these three alone."""
    return np.random.default_rng((seed, _STREAMS[stream], step))
