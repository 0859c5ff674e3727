"""What the scripts in this folder share: files written whole or not at all, and their manifest."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import tempfile
from pathlib import Path

Entry = dict[str, "str | int"]


def write(path: Path, content: bytes) -> None:
    """Write the file whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def keep(folder: Path, contents: dict[str, tuple[bytes, Entry]]) -> list[str]:
    """Compress and write files (name → content, what is known of it) and enter them in manifest.json.

    Returns a line to print about each file.
    """
    manifest = folder / "manifest.json"
    entries = json.loads(manifest.read_text()) if manifest.exists() else {}
    lines = []
    for name, (content, facts) in contents.items():
        compressed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
        digest = hashlib.sha256(compressed).hexdigest()
        restore = f"`git checkout -- data/{name}` in a checkout, else reinstall course-lib"
        entries[name] = {"sha256": digest, "bytes": len(compressed), **facts, "restore": restore}
        write(folder / name, compressed)
        lines.append(f"{digest}  {name}, {len(compressed)} bytes")
    write(manifest, (json.dumps(entries, indent=2) + "\n").encode())
    return lines
