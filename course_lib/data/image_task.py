"""The task of classifying images."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from course_lib.data.baselines import baselines
from course_lib.data.images import CLASSES, ImageSet, Pixels
from course_lib.data.task import Baseline, generator
from course_lib.deprecated import renamed

SHIFT = 2
"""Most pixels by which a training image is moved in each direction."""


@renamed(vocab="n_classes")
@dataclass(frozen=True)
class ImageTask:
    """Predict the class of an image.

    Training uses every image once per epoch, in a new random order, and a batch may cross an epoch's end. If
    `augmented`, training images are flipped left to right at random and moved by up to `SHIFT` pixels.
    Validation and probes take the test part in its own order for every seed, so that all runs are judged on
    the same images.
    """

    images: ImageSet
    seed: int
    augmented: bool = True

    @property
    def n_classes(self) -> int:
        return len(CLASSES)

    n_outputs = n_classes

    @property
    def digest(self) -> str:
        return self.images.digest

    @property
    def references(self) -> tuple[Baseline, ...]:
        return baselines(self.images)

    @property
    def reference(self) -> Baseline:
        """The nearest class mean: a model above it is worse than comparing with ten average images."""
        return next(line for line in self.references if line.name == "nearest class mean")

    @property
    def validation_size(self) -> int:
        """Size of the test part. With 2,000 images, σ of an accuracy of 85 % is 0.8 points."""
        return len(self.images.test_images)

    def batch(self, step: int, size: int, split: str = "train") -> tuple[Tensor, Tensor]:
        images = self.images
        places = np.arange(step * size, (step + 1) * size)
        if split == "train":
            places = _shuffled_places(self.seed, places, len(images.train_images))
            pixels = images.train_images[places]
            if self.augmented:
                pixels = augment(pixels, generator(self.seed, split, step))
            labels = images.train_labels[places]
        else:
            places %= len(images.test_images)
            pixels, labels = images.test_images[places], images.test_labels[places]
        return images.normalise(pixels), torch.from_numpy(labels)


def augment(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Flip and move images (n, height, width) at random; pixels from outside are black."""
    n, height, width = images.shape
    flipped = np.where(rng.random((n, 1, 1)) < 0.5, images, images[:, :, ::-1])
    padded = np.pad(flipped, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
    down, right = rng.integers(2 * SHIFT + 1, size=(2, n))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    return windows[np.arange(n), down, right]


def _shuffled_places(seed: int, positions: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """Indices of the images, of n, at these positions in an endless row of shuffled epochs."""
    epochs, offsets = np.divmod(positions, n)
    places = np.empty_like(positions)
    for epoch in range(epochs[0], epochs[-1] + 1):
        inside = epochs == epoch
        places[inside] = _order(seed, epoch, n)[offsets[inside]]
    return places


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n: int) -> npt.NDArray[np.int64]:
    return generator(seed, "shuffle", epoch).permutation(n)
