#!/usr/bin/env python3
"""Make data/kjv.txt.xz, the course's text, from Debian's package bible-kjv.

    sudo apt-get install bible-kjv    # version 4.38 made the file in this repository
    python data/make_kjv.py           # or: --printed FILE, what `bible -f gen1:1-rev22:21` printed

Needs Python's standard library only. It writes the text (one verse a line, without references) and
its entry in data/manifest.json, each atomically, and prints both SHA-256 sums. The text's sum must
come out the same everywhere; the compressed file's may change with the version of liblzma.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import vendoring

HERE = Path(__file__).resolve().parent
NAME = "kjv.txt.xz"
COMMAND = ["bible", "-f", "gen1:1-rev22:21"]
VERSES = 31_102
FIRST = "In the beginning God created the heaven and the earth."
LAST = "The grace of our Lord Jesus Christ be with you all. Amen."
# "Ge1:1 In the beginning ...", "1Sm2:3 Talk no more ..."
LINE = re.compile(r"[1-3]?[A-Z][A-Za-z]*\d+:\d+ (?P<verse>\S.*\S) *")


def verses(printed: str) -> list[str]:
    """The verses, references and the space at a line's end stripped, of what `bible -f` printed.

    Raises ValueError where a line is no verse, or the text is not the whole of it.
    """
    found = []
    for number, line in enumerate(printed.splitlines(), start=1):
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"line {number} is {line[:60]!r}: expected a reference and a verse, as in "
                f"'Ge1:1 {FIRST[:20]}...'; try the output of `{' '.join(COMMAND)}`"
            )
        found.append(match["verse"])
    if len(found) != VERSES:
        raise ValueError(
            f"found {len(found)} verses, expected {VERSES}; try the whole output of `{' '.join(COMMAND)}`"
        )
    if (found[0], found[-1]) != (FIRST, LAST):
        raise ValueError(
            f"the text runs from {found[0][:40]!r} to {found[-1][-40:]!r}, expected {FIRST!r} to "
            f"{LAST!r}; try bible-kjv 4.38"
        )
    return found


def printed_text(path: Path | None) -> str:
    """What `bible` prints, or what is in the file that it was printed to."""
    if path is not None:
        raw = path.read_bytes()
    else:
        try:
            raw = subprocess.run(COMMAND, check=True, stdout=subprocess.PIPE).stdout
        except FileNotFoundError:
            raise ValueError(
                "no command `bible` here; try `sudo apt-get install bible-kjv`, or --printed FILE"
            ) from None
        except subprocess.CalledProcessError as error:
            raise ValueError(
                f"`{' '.join(COMMAND)}` ended with status {error.returncode}, expected 0"
            ) from None
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte {error.start} of the text is {raw[error.start]:#x}, expected ASCII; try bible-kjv 4.38"
        ) from None


def facts(text: bytes) -> vendoring.Entry:
    """What the text's entry in manifest.json says of it."""
    return {
        "text_sha256": hashlib.sha256(text).hexdigest(),
        "characters": len(text),
        "encoding": "ascii",
        "title": "The King James (Authorised) Version of the Bible, 1611",
        "licence": "public domain; in the United Kingdom printing is reserved by letters patent "
        "(see data/README.md)",
        "source": "Debian package bible-kjv 4.38, made by data/make_kjv.py",
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make data/kjv.txt.xz from Debian's package bible-kjv.")
    parser.add_argument(
        "--printed",
        type=Path,
        metavar="FILE",
        help=f"a file holding what `{' '.join(COMMAND)}` printed (default: run it)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", default=HERE, help="default: the script's folder"
    )
    arguments = parser.parse_args(argv)
    try:
        text = ("\n".join(verses(printed_text(arguments.printed))) + "\n").encode("ascii")
        written = vendoring.keep(arguments.out, {NAME: (text, facts(text))})
    except (ValueError, OSError) as error:
        print(f"make_kjv.py: {error}", file=sys.stderr)
        return 2
    print(f"{facts(text)['text_sha256']}  the text, {len(text)} characters")
    print("\n".join(written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
