"""Classifiers of images without a network, as baselines for trained ones."""

import math
from functools import lru_cache

import numpy as np

from course_lib.data.images import CLASSES, Floats, ImageSet, Labels, Pixels
from course_lib.data.task import Baseline

LINEAR = {
    "b5226b34c141cd55cc880f78f217919f5dd21e40a932fd1475bc56324d6b4756": (0.439, 0.846),  # the vendored part
    "ca3ab2a37f845e1b8ae23cab1b51749a3011ba3bf1d9016176d75cbaabac376f": (0.434, 0.846),  # the whole set
}
"""Digest of images → loss and accuracy of softmax regression (experiments/linear_classifier.py)."""


@lru_cache(maxsize=2)
def baselines(images: ImageSet) -> tuple[Baseline, ...]:
    """Constant guess, nearest class mean and, if measured, the linear classifier, on the test part."""
    shares = np.bincount(images.test_labels, minlength=len(CLASSES)) / len(images.test_labels)
    guess = Baseline("constant guess", math.log(len(CLASSES)), float(shares.max()))
    lines: tuple[Baseline, ...] = (guess, nearest_class_mean(images))
    if images.digest in LINEAR:
        lines += (Baseline("linear classifier", *LINEAR[images.digest]),)
    return lines


def nearest_class_mean(images: ImageSet) -> Baseline:
    """Choose the class whose mean training image is nearest, by Euclidean distance of the pixels.

    The loss is that of p(c) ∝ exp(−β·distance²), with the β of the lowest training loss.
    """
    classes = range(len(CLASSES))
    missing = [c for c in classes if c not in images.train_labels]
    if missing:
        raise ValueError(
            f"{images.name}, training labels: no image of class {missing[0]}: expected some of each class"
        )
    means = np.stack([_mean(images.train_images[images.train_labels == c]) for c in classes])
    scores = _nearness(images.train_images, means)
    test_scores = _nearness(images.test_images, means)
    beta = _best_beta(scores, images.train_labels)
    right = np.mean(test_scores.argmax(axis=1) == images.test_labels)
    loss = -np.mean(_chosen(_log_softmax(beta * test_scores), images.test_labels))
    return Baseline("nearest class mean", float(loss), float(right))


def _mean(images: Pixels) -> Floats:
    """Mean image as a vector, pixels from 0 to 1."""
    return images.mean(axis=0, dtype=np.float64).ravel() / 255


def _nearness(images: Pixels, means: Floats) -> Floats:
    """Minus the squared distance to each mean, plus a constant per image: (images, classes)."""
    chunks = np.array_split(images, 1 + len(images) // 1000)  # bytes become floats a thousand at a time
    products = [chunk.reshape(len(chunk), -1) / 255 @ means.T for chunk in chunks]
    return 2 * np.concatenate(products) - np.sum(means**2, axis=1)


def _best_beta(scores: Floats, labels: Labels) -> float:
    """The β that minimises the loss of softmax(β·scores), which is convex in β."""

    def slope(beta: float) -> float:
        expected = np.sum(np.exp(_log_softmax(beta * scores)) * scores, axis=1)
        return float(np.mean(expected - _chosen(scores, labels)))

    low, high = 0.0, 1.0
    while slope(high) < 0:  # the slope underflows to 0 if every image is classified correctly
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return high


def _chosen(table: Floats, labels: Labels) -> Floats:
    return np.take_along_axis(table, labels[:, None], axis=1)[:, 0]


def _log_softmax(scores: Floats) -> Floats:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
