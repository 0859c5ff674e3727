"""Other versions of ipykernel, each with what it needs in a folder of its own, to be put first on the path.

python -m tests.lab.kernels
"""

import subprocess
import sys
from pathlib import Path

VERSIONS = ("6.31", "7.3", "7.4")
FOLDER = Path(__file__).resolve().parents[2] / "build" / "kernels"
NEEDS = "nest-asyncio"  # of ipykernel 6, and not in requirements.lock; all else that it needs is


def installed(version: str) -> Path | None:
    """Folder of a version, None if it is not there."""
    folder = FOLDER / version
    return folder if (folder / "ipykernel").is_dir() else None


def main() -> int:
    """Install what is missing; a version that no index offers is left out with a line."""
    for version in VERSIONS:
        if installed(version) is None:
            command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
            command += ["--no-deps", "--target", str(FOLDER / version), f"ipykernel=={version}.*", NEEDS]
            ran = subprocess.run(command, capture_output=True, text=True)
            if ran.returncode != 0:
                lines = ran.stderr.strip().splitlines() or ["pip failed"]
                print(f"ipykernel {version} is left out: {lines[-1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
