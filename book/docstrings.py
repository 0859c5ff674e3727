"""A Sphinx extension: two habits of docstrings written for a terminal, as Sphinx wants them."""

import ast
import itertools
import re
import textwrap
from typing import Any


def _process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_restructured_text(lines)


def as_restructured_text(lines: list[str]) -> list[str]:
    """Code set off by four spaces becomes a code block, and a star in a name is no emphasis."""
    out: list[str] = []
    inside = False
    for i, line in enumerate(lines):
        indented = line.startswith("    ")
        follows = i > 0 and not lines[i - 1].strip()
        if indented and follows and not inside and not _in_field(lines, i):
            out += [f".. code-block:: {_language(lines[i:])}", ""]
            inside = True
        elif line.strip() and not indented:
            inside = False
        out.append(line if inside else re.sub(r"(?<![`*\w])\*(?=\w)", r"\\*", line))
    return out


def _language(lines: list[str]) -> str:
    """Python, unless the block that begins here cannot be read as such: a formula."""
    block = itertools.takewhile(lambda line: not line.strip() or line.startswith("    "), lines)
    try:
        ast.parse(textwrap.dedent("\n".join(block)))
    except SyntaxError:
        return "text"
    return "python"


def _in_field(lines: list[str], at: int) -> bool:
    """Whether the last line at the margin is a field or a directive, whose body is indented too."""
    margin = next((line for line in reversed(lines[:at]) if line.strip() and not line.startswith(" ")), "")
    return margin.startswith((":", ".."))


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _process, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
