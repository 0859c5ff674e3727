"""The task of predicting text."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from course_lib.data.corpus import TextCorpus
from course_lib.data.task import VALIDATION_SEQUENCES, Baseline, generator


@dataclass(frozen=True)
class TextTask:
    """Predict the next character of a text, from windows drawn at random."""

    corpus: TextCorpus
    context: int
    seed: int
    validation_size: ClassVar[int] = VALIDATION_SEQUENCES

    def __post_init__(self) -> None:
        self.corpus.check_context(self.context)

    @property
    def vocab(self) -> int:
        """Number of different characters."""
        return len(self.corpus.alphabet)

    n_outputs = vocab

    @property
    def digest(self) -> str:
        return self.corpus.digest

    @property
    def references(self) -> tuple[Baseline, ...]:
        names = ("unigram", "bigram", "trigram", "4-gram")
        return tuple(Baseline(n, self.corpus.ngram_loss(i)) for i, n in enumerate(names, 1))

    @property
    def reference(self) -> Baseline:
        """The bigram loss: a model above it gained nothing from characters further back."""
        return Baseline("bigram", self.corpus.ngram_loss(2))

    def batch(self, step: int, size: int, split: str = "train") -> tuple[Tensor, Tensor]:
        codes = self.corpus.train if split == "train" else self.corpus.validation
        starts = generator(self.seed, split, step).integers(len(codes) - self.context, size=size)
        windows = codes[starts[:, None] + np.arange(self.context + 1)].astype(np.int64)
        rows = torch.from_numpy(windows)
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
