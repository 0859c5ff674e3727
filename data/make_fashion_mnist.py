#!/usr/bin/env python3
"""Make data/fashion-mnist-*.idx.xz, the course's pictures, from Debian's package dataset-fashion-mnist.

    sudo apt-get install dataset-fashion-mnist   # version 0.0~git20200523.55506a9-1 made the files here
    python data/make_fashion_mnist.py            # or: --source FOLDER, where the four .gz files are

Needs Python's standard library only. It keeps the first 1,000 training and the first 200 test images of each
class, in the order of the files but one class after the other (0 1 2 … 9 0 1 2 …), so that the first
images of either part are of all classes equally often, however many one takes. The sums of the contents
(`content_sha256`) must come out the same everywhere; the compressed files' may change with the version
of liblzma.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import sys
import zlib
from pathlib import Path

import vendoring

HERE = Path(__file__).resolve().parent
PACKAGE = Path("/usr/share/datasets/fashion-mnist")
CLASSES = 10
PIXELS = 28 * 28

# Part → prefix of the original files, images kept of each class.
PARTS = {"train": ("train", 1000), "test": ("t10k", 200)}
# SHA-256 of what the original files hold, uncompressed.
ORIGINALS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def original(folder: Path, name: str) -> bytes:
    """The uncompressed content of an original file.

    Raises ValueError where it is not the content of Fashion-MNIST.
    """
    path = folder / f"{name}.gz"
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(
            f"no file {path}; try `sudo apt-get install dataset-fashion-mnist`, or --source FOLDER"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} cannot be unpacked ({error}): expected the whole .gz file") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != ORIGINALS[name]:
        raise ValueError(
            f"{path} holds other content (SHA-256 {digest[:12]}…), expected {ORIGINALS[name][:12]}…; "
            "try Debian's package dataset-fashion-mnist"
        )
    return content


def chosen(labels: bytes, each: int) -> list[int]:
    """Places of the first `each` labels of every class, one class after the other."""
    places = [[i for i, label in enumerate(labels) if label == c][:each] for c in range(CLASSES)]
    return [place for group in zip(*places, strict=True) for place in group]


def subset(folder: Path) -> dict[str, tuple[bytes, vendoring.Entry]]:
    """File name → IDX content of the subset and what is known of it."""
    made = {}
    for part, (prefix, each) in PARTS.items():
        images = original(folder, f"{prefix}-images-idx3-ubyte")[16:]  # behind the IDX headers
        labels = original(folder, f"{prefix}-labels-idx1-ubyte")[8:]
        places = chosen(labels, each)
        size = len(places).to_bytes(4, "big")
        side = (28).to_bytes(4, "big")
        contents = {
            "images": b"\0\0\x08\x03"
            + size
            + side
            + side
            + b"".join(images[i * PIXELS : (i + 1) * PIXELS] for i in places),
            "labels": b"\0\0\x08\x01" + size + bytes(labels[i] for i in places),
        }
        for what, content in contents.items():
            made[f"fashion-mnist-{part}-{what}.idx.xz"] = (content, facts(part, what, each, content))
    return made


def facts(part: str, what: str, each: int, content: bytes) -> vendoring.Entry:
    """What a file's entry in manifest.json says of it."""
    return {
        "content_sha256": hashlib.sha256(content).hexdigest(),
        "encoding": "IDX",
        "title": f"Fashion-MNIST, {part} {what}: the first {each} of each class",
        "licence": "MIT, Copyright 2017 Zalando SE (see data/LICENSE-fashion-mnist)",
        "source": "Debian package dataset-fashion-mnist 0.0~git20200523.55506a9-1, "
        "made by data/make_fashion_mnist.py",
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the course's pictures from the whole Fashion-MNIST.")
    parser.add_argument(
        "--source",
        type=Path,
        metavar="FOLDER",
        default=PACKAGE,
        help="where the four original .gz files are (default: %(default)s, where Debian's package puts them)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", default=HERE, help="default: the script's folder"
    )
    arguments = parser.parse_args(argv)
    try:
        written = vendoring.keep(arguments.out, subset(arguments.source))
    except (ValueError, OSError) as error:
        print(f"make_fashion_mnist.py: {error}", file=sys.stderr)
        return 2
    print("\n".join(written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
