"""Command line: `python -m course_lib --help`."""

import sys
from collections.abc import Sequence

from course_lib.extras import require


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    try:
        require("python -m course_lib", "pandas", "matplotlib", "seaborn", "tqdm")
    except ImportError as error:
        print(f"python -m course_lib: {error}", file=sys.stderr)
        return 2
    from course_lib.cli.commands import main as run_command  # here: it imports what has just been looked for

    return run_command(argv)


if __name__ == "__main__":
    sys.exit(main())
