"""What a run is trained on: symbols to copy, symbols to recall, or text.

A task hands out batches that depend on (seed, split, step) alone. There is no hidden position in
the data: step 137 of seed 0 is the same batch in every run, before and after a restore, and in every fork.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from course_lib import checks
from course_lib.data.text import TextCorpus, load_corpus

TASKS = ("copy", "recall", "text")
IGNORED = -100
"""Target of a position that is not scored (the default of torch's cross_entropy)."""

SYMBOLS = 62
"""Alphabet of the symbol tasks."""
COPY_DISTANCE = 3
"""How far back the symbol stands that `copy` asks for."""

_SPLITS = {"train": 0, "validation": 1, "probe": 2}


@dataclass(frozen=True)
class ReferenceLine:
    """A loss, in nats, that a trained model has to be compared with."""

    name: str
    loss: float


class Task(Protocol):
    """What a run needs of its data."""

    @property
    def vocab(self) -> int:
        """Number of symbols."""

    @property
    def digest(self) -> str:
        """Tells data apart: a saved run goes on only with the data it was trained on."""

    @property
    def references(self) -> tuple[ReferenceLine, ...]:
        """Lines to draw beside a loss, highest first."""

    @property
    def reference(self) -> ReferenceLine:
        """The line below which a run counts as having learnt."""

    def batch(self, step: int, size: int, split: str = "train") -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, both int64 (size, context) on the CPU."""


def _generator(seed: int, split: str, step: int) -> np.random.Generator:
    return np.random.default_rng((seed, _SPLITS[split], step))


@dataclass(frozen=True)
class SymbolTask:
    """Random symbols; what has to be predicted stands earlier in the same row.

    `copy`: the target is the symbol `COPY_DISTANCE` places back.
    `recall`: a random string, then the same again; scored on the second half, where the next symbol is
    found behind the earlier occurrence of the present one (induction).

    Without attending to the right place nothing beats a constant guess, log 62 = 4.127 nats. A crashed
    model still gains a few per cent on it, by favouring symbols that it has seen in the row, so a run
    counts as having learnt below nine tenths of it.
    """

    kind: str
    context: int
    seed: int
    vocab: int = SYMBOLS

    def __post_init__(self) -> None:
        least = 2 if self.kind == "recall" else COPY_DISTANCE + 1
        checks.count("context", self.context, least=least, hint=f" for the task {self.kind!r}")

    @property
    def digest(self) -> str:
        return f"{self.kind} of {self.vocab} symbols"

    @property
    def references(self) -> tuple[ReferenceLine, ...]:
        guess = math.log(self.vocab)
        return (ReferenceLine("constant guess", guess), self.reference)

    @property
    def reference(self) -> ReferenceLine:
        return ReferenceLine("9/10 of a constant guess", 0.9 * math.log(self.vocab))

    def batch(self, step: int, size: int, split: str = "train") -> tuple[Tensor, Tensor]:
        generator = _generator(self.seed, split, step)
        if self.kind == "copy":
            inputs = torch.from_numpy(generator.integers(self.vocab, size=(size, self.context)))
            targets = torch.full_like(inputs, IGNORED)
            targets[:, COPY_DISTANCE:] = inputs[:, :-COPY_DISTANCE]
            return inputs, targets
        half = self.context // 2
        string = torch.from_numpy(generator.integers(self.vocab, size=(size, half)))
        row = string.repeat(1, 4)[:, : self.context + 1]
        targets = row[:, 1:].clone()
        targets[:, :half] = IGNORED
        return row[:, :-1].contiguous(), targets


@dataclass(frozen=True)
class TextTask:
    """Predict the next character of a text, from windows drawn at random."""

    corpus: TextCorpus
    context: int
    seed: int

    def __post_init__(self) -> None:
        self.corpus.check_context(self.context)

    @property
    def vocab(self) -> int:
        return len(self.corpus.alphabet)

    @property
    def digest(self) -> str:
        return self.corpus.digest

    @property
    def references(self) -> tuple[ReferenceLine, ...]:
        names = ("unigram", "bigram", "trigram", "4-gram")
        return tuple(ReferenceLine(n, self.corpus.ngram_loss(i)) for i, n in enumerate(names, 1))

    @property
    def reference(self) -> ReferenceLine:
        """The bigram line: a model that ends above it gained nothing from looking further back."""
        return ReferenceLine("bigram", self.corpus.ngram_loss(2))

    def batch(self, step: int, size: int, split: str = "train") -> tuple[Tensor, Tensor]:
        codes = self.corpus.train if split == "train" else self.corpus.validation
        starts = _generator(self.seed, split, step).integers(len(codes) - self.context, size=size)
        windows = codes[starts[:, None] + np.arange(self.context + 1)].astype(np.int64)
        rows = torch.from_numpy(windows)
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def make_task(kind: str, context: int, seed: int, text: str | Path | None = None) -> Task:
    """The task named `kind`; `text` is a file of the reader's own for the task "text"."""
    checks.choice("task", kind, TASKS)
    if kind == "text":
        return TextTask(load_corpus(text), context, seed)
    if text is not None:
        raise ValueError(f"text is {str(text)!r}: expected none for the task {kind!r}; try task='text'")
    return SymbolTask(kind, context, seed)
