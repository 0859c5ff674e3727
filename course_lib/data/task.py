"""What a run needs of its data.

A task hands out batches that depend on (seed, split, step) and the batch's size alone. There is no hidden
position in the data: step 137 of seed 0 is the same batch in every run, before and after a restore, and in
every fork.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

IGNORED = -100
"""Target of a position that is not scored (the default of torch's cross_entropy)."""

VALIDATION_SEQUENCES = 64
"""Sequences of validation data that a loss is measured on; of images it is the whole test part."""

_STREAMS = {"train": 0, "validation": 1, "probe": 2, "shuffle": 3}


@dataclass(frozen=True)
class Baseline:
    """What a trained model has to be compared with."""

    name: str
    loss: float
    """In nats."""
    accuracy: float | None = None
    """Share of right answers; only of images, where it decides."""

    def beaten_by(self, loss: float, accuracy: float | None = None) -> bool:
        """Whether a model of this loss and accuracy is better: by accuracy where both have one."""
        if self.accuracy is None or accuracy is None:
            return loss < self.loss
        return accuracy > self.accuracy


class Task(Protocol):
    """What a run needs of its data."""

    @property
    def n_outputs(self) -> int:
        """Number of symbols or classes that the model chooses from: logits of each target."""

    @property
    def digest(self) -> str:
        """Tells data apart: a saved run goes on only with the data it was trained on."""

    @property
    def references(self) -> tuple[Baseline, ...]:
        """Lines to draw beside a loss or an accuracy, highest loss first."""

    @property
    def reference(self) -> Baseline:
        """The line that a run has to beat to count as having learnt."""

    @property
    def validation_size(self) -> int:
        """Rows of `batch(0, validation_size, "validation")`: what a run is judged on."""

    def batch(self, step: int, size: int, split: str = "train") -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, on the CPU.

        Of symbols and text both are int64 (size, context); of images, inputs are float32
        (size, 1, 28, 28) and targets int64 (size,). `split` is train, validation or probe.
        """


def generator(seed: int, stream: str, step: int) -> np.random.Generator:
    """Random numbers that depend on these three alone."""
    return np.random.default_rng((seed, _STREAMS[stream], step))
