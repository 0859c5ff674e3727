"""Images: what a batch is, the lines to beat, and what is said of arrays and files that will not do."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.data import Baseline, ImageSet, ImageTask, load_images, make_task
from course_lib.data.baselines import nearest_class_mean
from course_lib.data.image_task import augment
from course_lib.data.images import parse_idx

rng = np.random.default_rng(0)


def numbered(train=20, test=10, side=28):
    """Image i is black but for its number at its centre: a set in which each image can be told."""
    parts = []
    for n in (train, test):
        images = np.zeros((n, side, side), dtype=np.uint8)
        images[:, side // 2, side // 2] = np.arange(1, n + 1)
        parts += [images, np.arange(n) % 10]
    return ImageSet.from_arrays("numbered", *parts)


def numbers(task, *batch):
    """Which images a batch of `numbered` is made of."""
    inputs, _ = task.batch(*batch)
    grey = inputs * task.images.std + task.images.mean
    return (grey.amax((1, 2, 3)).round().long() - 1).tolist()


def test_the_images_are_as_described():
    images = load_images()
    assert (images.train_images.shape, images.test_images.shape) == ((10_000, 28, 28), (2_000, 28, 28))
    assert np.bincount(images.train_labels).tolist() == [1000] * 10
    assert np.bincount(images.test_labels[:1000]).tolist() == [100] * 10
    assert images.train_images.dtype == np.uint8
    # The published statistics of the whole training set, on a scale of 1, are 0.2860 and 0.3530.
    assert images.mean / 255 == pytest.approx(0.2860, abs=0.002)
    assert images.std / 255 == pytest.approx(0.3530, abs=0.002)


def test_mean_and_std_are_those_of_the_training_part():
    images = load_images()
    assert images.mean == pytest.approx(images.train_images.mean(dtype=float), rel=1e-12)
    assert images.std == pytest.approx(images.train_images.std(dtype=float), rel=1e-9)
    whole = images.normalise(images.train_images)
    assert whole.mean().item() == pytest.approx(0, abs=1e-3)
    assert whole.std().item() == pytest.approx(1, abs=1e-3)


def test_a_batch_of_images():
    task = make_task("fashion-mnist", 0, seed=0)
    for split in ("train", "validation", "probe"):
        inputs, targets = task.batch(3, 8, split)
        assert (inputs.shape, inputs.dtype) == ((8, 1, 28, 28), torch.float32)
        assert (targets.shape, targets.dtype) == ((8,), torch.int64)
        assert inputs.is_contiguous()


def test_a_training_batch_depends_on_seed_and_step_alone():
    task, again, other = (make_task("fashion-mnist", 0, seed=s) for s in (0, 0, 1))
    task.batch(3, 4)  # nothing is used up by looking
    for mine, theirs in zip(task.batch(7, 64), again.batch(7, 64), strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(task.batch(7, 64)[0], task.batch(8, 64)[0])
    assert not torch.equal(task.batch(7, 64)[1], other.batch(7, 64)[1])


def test_a_step_of_training_moves_an_image_differently_in_every_epoch():
    task = ImageTask(numbered(1, 10), seed=0)
    seen = {task.batch(step, 1)[0].argmax().item() for step in range(200)}
    # Five places in either direction; the odd one out is that a flip moves the centre by one.
    assert len(seen) == 6 * 5


def test_every_image_is_drawn_once_in_an_epoch():
    task = ImageTask(numbered(20), seed=0)
    drawn = [n for step in range(20) for n in numbers(task, step, 7)]  # 140 draws: seven epochs
    epochs = [drawn[i : i + 20] for i in range(0, 140, 20)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 7, "an order of its own"


def test_a_batch_larger_than_the_training_part():
    drawn = numbers(ImageTask(numbered(20), seed=0), 0, 50)
    assert sorted(drawn[:20]) == sorted(drawn[20:40]) == list(range(20))


def test_labels_follow_their_images():
    task = ImageTask(numbered(20), seed=0)
    assert task.batch(1, 20)[1].tolist() == [n % 10 for n in numbers(task, 1, 20)]
    assert task.batch(1, 4, "validation")[1].tolist() == [4, 5, 6, 7]


def test_without_augmentation_training_images_are_as_they_are():
    images = numbered(20)
    pixels, _ = ImageTask(images, seed=0, augmented=False).batch(0, 20)
    plain = images.normalise(images.train_images)
    assert sorted(pixels.flatten(1).tolist()) == sorted(plain.flatten(1).tolist())
    assert not torch.equal(pixels, ImageTask(images, seed=0).batch(0, 20)[0])


@pytest.mark.parametrize("split", ["validation", "probe"])
def test_the_test_part_is_taken_in_order_and_as_it_is(split):
    images = load_images()
    for seed in (0, 1):
        inputs, targets = ImageTask(images, seed).batch(1, 1500, split)  # round the end
        expected = images.normalise(np.roll(images.test_images, -1500, axis=0)[:1500])
        assert torch.equal(inputs, expected)
        assert targets.tolist() == np.roll(images.test_labels, -1500)[:1500].tolist()


def test_what_a_run_is_judged_on():
    assert make_task("fashion-mnist", 0, 0).validation_size == 2000
    assert make_task("text", 8, 0).validation_size == make_task("copy", 8, 0).validation_size == 64


def test_augmenting_flips_and_moves_whole_images():
    """Each result is one of the 2 · 5 · 5 that there may be, and all occur."""
    image = rng.integers(1, 256, size=(6, 7), dtype=np.uint8)
    padded = [np.pad(i, 2) for i in (image, image[:, ::-1])]
    allowed = {p[r : r + 6, c : c + 7].tobytes() for p in padded for r in range(5) for c in range(5)}
    results = augment(np.stack([image] * 2000), np.random.default_rng(0))
    assert {r.tobytes() for r in results} == allowed


def test_the_lines_of_the_vendored_images():
    guess, mean, linear = make_task("fashion-mnist", 0, seed=0).references
    assert (guess.loss, guess.accuracy) == (pytest.approx(2.3026, abs=1e-4), 0.1)
    assert (mean.name, mean.accuracy) == ("nearest class mean", 0.6725)
    assert mean.loss == pytest.approx(0.949, abs=1e-3)
    assert linear == Baseline("linear classifier", 0.439, 0.846)
    assert make_task("fashion-mnist", 0, seed=1).reference == mean


def test_nearest_class_mean_beside_all_distances():
    images = load_images()
    flat, test = (x.reshape(len(x), -1) / 255 for x in (images.train_images, images.test_images))
    means = torch.from_numpy(np.stack([flat[images.train_labels == c].mean(0) for c in range(10)]))
    distances = torch.cdist(torch.from_numpy(test), means)
    labels = torch.from_numpy(images.test_labels)
    line = nearest_class_mean(images)
    assert line.accuracy == (distances.argmin(1) == labels).double().mean().item()
    # Its β was fitted to the training part: there, no other does better, and hardly on the test part.
    losses = [
        torch.nn.functional.cross_entropy(-b * distances**2, labels).item() for b in np.geomspace(0.01, 1, 99)
    ]
    assert min(losses) <= line.loss < min(losses) + 0.01


def test_a_reference_is_beaten_by_accuracy_where_there_is_one():
    line = Baseline("mean", 1.0, 0.7)
    assert line.beaten_by(1.2, 0.71)
    assert not line.beaten_by(0.8, 0.7), "as good is not better"
    assert line.beaten_by(0.9), "while a run is in its steps only its loss is known"
    assert not line.beaten_by(1.0)
    assert Baseline("bigram", 2.26).beaten_by(2.2, 0.1)


# --- arrays and files of one's own ----------------------------------------------------------


def arrays(**changes):
    own = {
        "train_images": np.zeros((20, 28, 28), np.uint8),
        "train_labels": np.arange(20) % 10,
        "test_images": np.zeros((10, 28, 28), np.uint8),
        "test_labels": np.arange(10),
    }
    return {**own, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"train_images": np.zeros((20, 32, 32), np.uint8)},
            r"mine, training images: shape is \(20, 32, 32\): expected uint8 \(images, 28, 28\).*; try scal",
        ),
        ({"train_images": np.zeros((20, 28, 28, 3), np.uint8)}, r"\(20, 28, 28, 3\).*mean over the channels"),
        (
            {"test_images": np.zeros((10, 1, 28, 28), np.uint8)},
            r"mine, test images.*try x\[\.\.\., 0\] or x\[:, 0\]",
        ),
        ({"train_images": np.zeros((20, 28, 28))}, r"dtype is float64: expected uint8.*try \(255 \* x\)"),
        (
            {"train_images": np.zeros((20, 28, 28), np.int64)},
            r"dtype is int64: expected.*; try x\.astype\(",
        ),
        ({"test_images": np.zeros((0, 28, 28), np.uint8)}, r"shape is \(0, 28, 28\): expected"),
        (
            {"train_labels": np.arange(20) % 11},
            "training labels: label 10 is 10: .* 0 to 9.*; try without",
        ),
        ({"test_labels": np.arange(10) - 1}, "test labels: label 0 is -1: expected .* 0 to 9.*; try without"),
        ({"test_labels": np.arange(10) + 1}, "test labels: label 9 is 10: expected .* 0 to 9.*; try y - 1"),
        (
            {"test_labels": np.arange(9)},
            r"labels: shape is \(9,\): .* each image, \(10,\); try the",
        ),
        (
            {"train_labels": np.zeros(20)},
            "labels: dtype is float64: expected one whole.*; try y.astype",
        ),
    ],
)
def test_arrays_that_will_not_do(changes, said):
    with pytest.raises(ValueError, match=said) as error:
        ImageSet.from_arrays("mine", **arrays(**changes))
    assert "\n" not in str(error.value)


def test_arrays_of_ones_own():
    mine = ImageSet.from_arrays("mine", **arrays())
    assert torch.isfinite(ImageTask(mine, 0).batch(0, 4)[0]).all(), "images without any contrast"
    other = ImageSet.from_arrays("mine", **arrays(test_labels=np.arange(10)[::-1]))
    assert mine.digest != other.digest
    one_class = ImageSet.from_arrays("mine", **arrays(train_labels=np.zeros(20, np.int32)))
    with pytest.raises(ValueError, match="mine, training labels: no image of class 1: expected some of each"):
        _ = ImageTask(one_class, 0).reference


def test_images_that_ten_means_tell_apart_without_a_mistake():
    images = np.zeros((20, 28, 28), np.uint8)
    images[np.arange(20), np.arange(20) % 10] = 255
    mine = ImageSet.from_arrays("mine", images, np.arange(20) % 10, images, np.arange(20) % 10)
    line = nearest_class_mean(mine)
    assert (line.accuracy, line.loss) == (1.0, pytest.approx(0))


def idx(array):
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_an_idx_file_is_read_back(shape):
    array = rng.integers(256, size=shape, dtype=np.uint8)
    assert np.array_equal(parse_idx("x", idx(array), array.ndim), array)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "x begins with nothing: expected 00000803, an IDX file of bytes in 3 dimensions"),
        (b"\x89PNG\r\n", "x begins with 89504e47: expected 00000803"),
        (idx(np.zeros(5, np.uint8)), "x begins with 00000801: expected 00000803"),
        (
            idx(np.zeros((2, 3, 4), np.uint8))[:-1],
            r"x is truncated: 23 bytes .* expected 24 for its shape \(2, 3, 4\)",
        ),
        (idx(np.zeros((2, 3, 4), np.uint8)) + b"!", "x is too long: 25 bytes"),
        (idx(np.zeros((2, 3, 4), np.uint8))[:10], "x is truncated: 10 bytes, expected a header of 16"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "x is truncated: 0 bytes"),
    ],
)
def test_files_that_are_no_idx_file(content, said):
    with pytest.raises(ValueError, match=said) as error:
        parse_idx("x", content, 3)
    assert "\n" not in str(error.value)


def test_a_text_for_images():
    with pytest.raises(ValueError, match="expected none for the task 'fashion-mnist'"):
        make_task("fashion-mnist", 8, seed=0, text="x.txt")
