"""Where the course's own files are, and whether they are whole."""

import hashlib
import json
import lzma
from pathlib import Path
from typing import Any

_INSTALLED = Path(__file__).parent / "files"  # in a wheel
_CHECKOUT = Path(__file__).parents[2] / "data"  # in a checkout or an editable install


def data_folder() -> Path:
    """The folder that holds manifest.json and the files it names."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def manifest(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """File name → licence, source, SHA-256, and how to restore it."""
    path = (folder or data_folder()) / "manifest.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected the course's data manifest ({error}); "
            "restore it with `git checkout -- data` or reinstall course-lib"
        ) from error


def read_compressed(name: str, folder: Path | None = None) -> str:
    """The text of an .xz file of the course, checked against its SHA-256.

    Raises:
        ValueError: the file is missing or is not the one the manifest describes.
    """
    folder = folder or data_folder()
    entry = manifest(folder)[name]
    path = folder / name
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path}: expected a file of {entry['bytes']} bytes, could not read it "
            f"({error.strerror}); to restore it: {entry['restore']}"
        ) from error
    digest = hashlib.sha256(raw).hexdigest()
    if digest != entry["sha256"]:
        raise ValueError(
            f"{path}: SHA-256 is {digest[:12]}… ({len(raw)} bytes), expected "
            f"{entry['sha256'][:12]}… ({entry['bytes']} bytes); to restore it: {entry['restore']}"
        )
    return lzma.decompress(raw).decode("utf-8")
