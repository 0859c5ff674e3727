"""The course's own data files: their folder, their manifest and their check."""

import hashlib
import json
import lzma
from pathlib import Path

_INSTALLED = Path(__file__).parent / "files"  # in a wheel
_CHECKOUT = Path(__file__).parents[2] / "data"  # in a checkout or an editable install


def data_folder() -> Path:
    """The folder that holds manifest.json and the files it names."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def read_compressed(name: str) -> bytes:
    """Unpack an .xz file of the course after checking its SHA-256.

    Raises:
        ValueError: the file is missing or is not the file that the manifest describes.
    """
    path = data_folder() / name
    manifest = path.with_name("manifest.json")
    try:
        entry = json.loads(manifest.read_text(encoding="utf-8"))[name]
        restore, digest_wanted, size = entry["restore"], entry["sha256"], entry["bytes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected = f"the course's data manifest ({error})"
        if isinstance(error, KeyError | TypeError):
            expected = f"an entry for {name} with restore, sha256 and bytes"
        advice = "restore it with `git checkout -- data` or reinstall course-lib"
        raise ValueError(f"{manifest}: expected {expected}; {advice}") from error
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path}: expected a file of {size} bytes, could not read it "
            f"({error.strerror}); to restore it: {restore}"
        ) from error
    digest = hashlib.sha256(raw).hexdigest()
    if digest != digest_wanted:
        raise ValueError(
            f"{path}: SHA-256 is {digest[:12]}… ({len(raw)} bytes), expected "
            f"{digest_wanted[:12]}… ({size} bytes); to restore it: {restore}"
        )
    return lzma.decompress(raw)
