"""Images as bytes: the part of Fashion-MNIST that ships with the course, or the reader's own images."""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from course_lib.data.files import read_compressed

SIDE = 28
"""Height and width of an image, in pixels."""
CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
"""Names of Fashion-MNIST's labels 0 to 9."""

IDX_FILES = (
    ("train-images-idx3-ubyte", 3),
    ("train-labels-idx1-ubyte", 1),
    ("t10k-images-idx3-ubyte", 3),
    ("t10k-labels-idx1-ubyte", 1),
)
"""Names of the files of a set, without .gz, and the number of dimensions of their arrays."""

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Grey images of ten classes as bytes, in a training and a test part.

    Use `from_arrays` to make one: it checks the arrays.
    """

    name: str
    train_images: Pixels
    """(images, 28, 28), 0 to 255."""
    train_labels: Labels
    """(images,), 0 to 9."""
    test_images: Pixels
    test_labels: Labels
    digest: str
    """SHA-256 of both parts."""

    @classmethod
    def from_arrays(
        cls, name: str, train_images: Any, train_labels: Any, test_images: Any, test_labels: Any
    ) -> "ImageSet":
        """Check arrays and make a set: images uint8 (images, 28, 28), labels of any integer type (images,).

        Raises:
            ValueError: an array has another dtype or shape, or a label is not 0 to 9.
        """
        pixels, numbers = _checked(f"{name}, training", train_images, train_labels)
        test_pixels, test_numbers = _checked(f"{name}, test", test_images, test_labels)
        digest = hashlib.sha256()
        for array in (pixels, numbers, test_pixels, test_numbers):
            digest.update(array.astype(np.uint8, order="C", copy=False).data)
        return cls(name, pixels, numbers, test_pixels, test_numbers, digest.hexdigest())

    @cached_property
    def mean(self) -> float:
        """Mean of the training part's pixels, in grey values."""
        return float(self._histogram @ np.arange(256) / self.train_images.size)

    @cached_property
    def std(self) -> float:
        """Standard deviation of the training part's pixels, in grey values."""
        squares = self._histogram @ np.arange(256) ** 2 / self.train_images.size
        return float(np.sqrt(squares - self.mean**2))

    @cached_property
    def _histogram(self) -> Labels:
        """Count of each grey value: integers, so that mean and std are the same on every machine."""
        chunks = np.array_split(self.train_images, 1 + len(self.train_images) // 1000)
        return np.sum([np.bincount(chunk.ravel(), minlength=256) for chunk in chunks], axis=0)

    @cached_property
    def _normalised(self) -> npt.NDArray[np.float32]:
        # If all pixels have one grey value, std is 0 and cannot divide.
        return ((np.arange(256) - self.mean) / (self.std or 1.0)).astype(np.float32)

    def normalise(self, images: Pixels) -> Tensor:
        """Bytes (n, 28, 28) → float32 (n, 1, 28, 28), with the training part's mean and std."""
        return torch.from_numpy(self._normalised[images])[:, None]


def _checked(part: str, images: Any, labels: Any) -> tuple[Pixels, Labels]:
    pixels = check_images(f"{part} images", images)
    return pixels, check_labels(f"{part} labels", labels, len(pixels))


def check_images(name: str, images: Any) -> Pixels:
    """Return `images` if it is a uint8 array (images, 28, 28) of at least one image."""
    array = np.asarray(images)
    wanted = f"expected uint8 (images, {SIDE}, {SIDE}), grey values from 0 to 255"
    if array.dtype != np.uint8:
        scaled = "(255 * x).round().astype(np.uint8) if x is 0 to 1"
        hint = f"; try {scaled if array.dtype.kind == 'f' else 'x.astype(np.uint8) if x is 0 to 255'}"
        raise ValueError(f"{name}: dtype is {array.dtype}: {wanted}{hint}")
    if array.ndim != 3 or array.shape[1:] != (SIDE, SIDE) or not len(array):
        hint = ""
        if array.ndim == 4:
            channels = "x[..., 0] or x[:, 0], or the mean over the channels"
            hint = f"; try {channels}, for one channel without an axis"
        elif array.ndim == 3 and len(array):
            hint = f"; try scaling the images to {SIDE} × {SIDE}"
        raise ValueError(f"{name}: shape is {array.shape}: {wanted}{hint}")
    return array


def check_labels(name: str, labels: Any, images: int) -> Labels:
    """Return `labels` as int64 if it is an integer array (images,) of classes 0 to 9."""
    array = np.asarray(labels)
    wanted = f"expected one whole number from 0 to {len(CLASSES) - 1} for each image"
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: dtype is {array.dtype}: {wanted}; try y.astype(np.int64)")
    if array.shape != (images,):
        raise ValueError(
            f"{name}: shape is {array.shape}: {wanted}, ({images},); try the labels of the same images, as "
            "numbers and not one-hot"
        )
    wrong = np.flatnonzero((array < 0) | (array >= len(CLASSES)))
    if len(wrong):
        hint = "y - 1, if they count from 1" if array.min() == 1 else "without the images of other classes"
        raise ValueError(f"{name}: label {wrong[0]} is {array[wrong[0]]}: {wanted}; try {hint}")
    return array.astype(np.int64)


def parse_idx(name: str, content: bytes, dimensions: int) -> Pixels:
    """Parse an IDX file of bytes: two zero bytes, 8, number of dimensions; their sizes; the bytes.

    Raises:
        ValueError: the content is not an IDX file of bytes, or is incomplete.
    """
    header = 4 + 4 * dimensions
    magic = bytes((0, 0, 8, dimensions))
    if content[:4] != magic:
        raise ValueError(
            f"{name} begins with {content[:4].hex() or 'nothing'}: expected {magic.hex()}, an IDX file of "
            f"bytes in {dimensions} dimension{'s' * (dimensions > 1)}"
        )
    if len(content) < header:
        raise ValueError(f"{name} is truncated: {len(content)} bytes, expected a header of {header}")
    shape = tuple(np.frombuffer(content, ">u4", dimensions, offset=4).tolist())
    size = int(np.prod(shape, dtype=object))
    if len(content) - header != size:
        state = "truncated" if len(content) - header < size else "too long"
        raise ValueError(
            f"{name} is {state}: {len(content) - header} bytes behind its header, expected {size} "
            f"for its shape {shape}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


@lru_cache(maxsize=1)
def load_images() -> ImageSet:
    """Load the course's 10,000 training and 2,000 test images of Fashion-MNIST (data/README.md)."""
    arrays = [
        parse_idx(name, read_compressed(name), dimensions)
        for part in ("train", "test")
        for what, dimensions in (("images", 3), ("labels", 1))
        for name in [f"fashion-mnist-{part}-{what}.idx.xz"]
    ]
    return ImageSet.from_arrays("Fashion-MNIST", *arrays)


def read_folder(folder: str | Path, name: str | None = None) -> ImageSet:
    """Load the images of a folder with four files like MNIST's, as .gz or unpacked.

    Raises:
        ValueError: a file is missing or incomplete, or has images of another size or other classes.
    """
    paths = []
    for stem, _ in IDX_FILES:
        packed = Path(folder).expanduser() / f"{stem}.gz"
        plain = packed.with_suffix("")
        paths.append(plain if plain.exists() else packed)
    try:
        stamps = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
    except OSError as error:
        raise ValueError(
            f"{error.filename}: expected a file that can be read ({error.strerror}), one of a set like "
            f"MNIST: {', '.join(stem for stem, _ in IDX_FILES)}, as .gz or unpacked"
        ) from error
    return _read(tuple(paths), stamps, name or str(folder))


@lru_cache(maxsize=1)
def _read(paths: tuple[Path, ...], stamps: tuple[tuple[int, int], ...], name: str) -> ImageSet:
    """Read files; `stamps` (time and size) make the cache notice a changed file."""
    arrays = [
        parse_idx(str(path), _unpacked(path), dimensions)
        for path, (_, dimensions) in zip(paths, IDX_FILES, strict=True)
    ]
    return ImageSet.from_arrays(name, *arrays)


def _unpacked(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except OSError as error:  # gzip's BadGzipFile has no strerror
        raise ValueError(f"{path}: expected a file that can be read ({error.strerror or error})") from error
    except (EOFError, zlib.error) as error:
        raise ValueError(
            f"{path} is truncated or damaged ({error}): expected a whole .gz file; try copying it again"
        ) from error
