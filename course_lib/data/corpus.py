"""Text as characters: the King James text that ships with the course, or the reader's own text."""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from course_lib.data.files import read_compressed

VALIDATION_SHARE = 0.05
"""Share of a text, at its end, that is kept for validation."""
SMOOTHING = 0.1
"""Added to the count of every n-gram."""

KJV_CHARACTERS = 1_500_000
"""Length of the used part of the King James text, Genesis to 2 Kings. The whole text ends with the epistles,
which would make the validation part differ in kind from the training part."""

Codes = npt.NDArray[np.uint16]


@lru_cache(maxsize=1)
def load_text() -> str:
    """The King James text, one verse a line, without references (see data/README.md)."""
    return read_compressed("kjv.txt.xz").decode("utf-8")


def read_text(path: str | Path) -> str:
    """Read a text file in UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8: expected a plain text file") from error
    except OSError as error:
        raise ValueError(f"{path}: expected a text file that can be read ({error.strerror})") from error


@dataclass(frozen=True, eq=False)
class TextCorpus:
    """A text as numbers: its alphabet, its training part and its validation part."""

    name: str
    alphabet: str
    train: Codes
    validation: Codes
    digest: str
    """SHA-256 of the text."""
    _ngrams: dict[int, float] = field(default_factory=dict, repr=False)

    @classmethod
    def from_text(cls, text: str, name: str) -> "TextCorpus":
        """Number the characters of `text` in order of their code points, and split off the last 5 %."""
        if not text:
            raise ValueError(f"{name} is empty: expected a text of some thousand characters")
        raw = text.encode("utf-32-le")
        points = np.frombuffer(raw, dtype=np.uint32)
        alphabet, codes = np.unique(points, return_inverse=True)
        split = len(codes) - round(len(codes) * VALIDATION_SHARE)
        small = codes.astype(np.uint16)
        digest = hashlib.sha256(raw).hexdigest()
        return cls(name, "".join(map(chr, alphabet)), small[:split], small[split:], digest)

    def check_context(self, context: int) -> None:
        """Refuse a context that does not fit into both parts together with the character to predict."""
        shortest = min(len(self.train), len(self.validation))
        if shortest < context + 1:
            total = len(self.train) + len(self.validation)
            need = round((context + 1) / VALIDATION_SHARE)
            raise ValueError(
                f"{self.name} has {total} characters, {shortest} of them for validation: expected at "
                f"least {need} for a context of {context}; try a longer text or a shorter context"
            )

    def encode(self, text: str) -> Tensor:
        """Ids (len(text),) of characters; ValueError for characters outside the alphabet."""
        unknown = sorted(set(text) - set(self.alphabet))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not in {self.name}: expected one of {self.alphabet!r}")
        return torch.tensor([self.alphabet.index(c) for c in text], dtype=torch.long)

    def decode(self, ids: Tensor) -> str:
        """The characters of ids (tokens,)."""
        return "".join(self.alphabet[i] for i in ids.tolist())

    def ngram_loss(self, n: int) -> float:
        """Validation loss in nats of an n-gram model of the training part, with add-0.1 smoothing.

        p(c | the n − 1 characters before) = (count + 0.1) / (count of the n − 1 characters + 0.1·V)
        """
        if n not in self._ngrams:
            v = len(self.alphabet)
            counts = _count(_keys(self.train, n, v), _keys(self.validation, n, v))
            # Dropping the last character of each window leaves the context, whose count divides.
            contexts = _count(_keys(self.train, n, v) // v, _keys(self.validation, n, v) // v)
            p = (counts + SMOOTHING) / (contexts + SMOOTHING * v)
            self._ngrams[n] = float(-np.log(p).mean())
        return self._ngrams[n]


def _keys(codes: Codes, n: int, v: int) -> npt.NDArray[np.int64]:
    """Every window of n codes, as one number in base v."""
    keys = np.zeros(len(codes) - n + 1, dtype=np.int64)
    for i in range(n):
        keys = keys * v + codes[i : len(keys) + i]
    return keys


def _count(known: npt.NDArray[np.int64], asked: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How often each of the `asked` keys occurs among the `known` ones."""
    keys, counts = np.unique(known, return_counts=True)
    places = np.searchsorted(keys, asked).clip(max=len(keys) - 1)
    return np.where(keys[places] == asked, counts[places], 0)


_corpus = lru_cache(maxsize=4)(TextCorpus.from_text)


def load_corpus(path: str | Path | None = None) -> TextCorpus:
    """Load the corpus of a text file as it is now, or of the King James text if there is no path."""
    if path is None:
        return _corpus(load_text()[:KJV_CHARACTERS], "King James text")
    return _corpus(read_text(path), Path(path).name)
