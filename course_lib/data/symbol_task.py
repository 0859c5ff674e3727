"""The tasks of copying and of recalling symbols."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from course_lib import checks
from course_lib.data.task import IGNORED, VALIDATION_SEQUENCES, Baseline, generator

SYMBOLS = 62
"""Size of the symbol tasks' alphabet."""
COPY_DISTANCE = 3
"""Distance from a position to the earlier symbol that `copy` asks for."""


@dataclass(frozen=True)
class SymbolTask:
    """Predict random symbols that occur earlier in the same row.

    `copy`: the target is the symbol `COPY_DISTANCE` places back.
    `recall`: a random string is repeated, and the second half is scored: the next symbol follows the earlier
    occurrence of the present one (induction).

    A model that does not attend to the right place cannot beat a constant guess, log 62 = 4.127 nats, by
    much: a crashed model gains a few per cent by favouring symbols of the row. A run therefore counts as
    learned below nine tenths of the constant guess.
    """

    kind: str
    context: int
    seed: int
    vocab: int = SYMBOLS
    validation_size: ClassVar[int] = VALIDATION_SEQUENCES

    def __post_init__(self) -> None:
        least = 2 if self.kind == "recall" else COPY_DISTANCE + 1
        checks.count("context", self.context, least=least, hint=f" for the task {self.kind!r}")

    @property
    def n_outputs(self) -> int:
        return self.vocab

    @property
    def digest(self) -> str:
        return f"{self.kind} of {self.vocab} symbols"

    @property
    def references(self) -> tuple[Baseline, ...]:
        guess = math.log(self.vocab)
        return (Baseline("constant guess", guess), self.reference)

    @property
    def reference(self) -> Baseline:
        return Baseline("9/10 of a constant guess", 0.9 * math.log(self.vocab))

    def batch(self, step: int, size: int, split: str = "train") -> tuple[Tensor, Tensor]:
        rng = generator(self.seed, split, step)
        if self.kind == "copy":
            inputs = torch.from_numpy(rng.integers(self.vocab, size=(size, self.context)))
            targets = torch.full_like(inputs, IGNORED)
            targets[:, COPY_DISTANCE:] = inputs[:, :-COPY_DISTANCE]
            return inputs, targets
        half = self.context // 2
        string = torch.from_numpy(rng.integers(self.vocab, size=(size, half)))
        row = string.repeat(1, 4)[:, : self.context + 1]
        targets = row[:, 1:].clone()
        targets[:, :half] = IGNORED
        return row[:, :-1].contiguous(), targets
