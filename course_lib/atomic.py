"""Files that are written whole or not at all."""

import os
import tempfile
from pathlib import Path


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file that is never seen half-written, not even after a crash."""
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"{path}: expected a folder {path.parent} to write to; make it first")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):  # a full disk does not say whose
            error.filename = str(path)
        raise
