"""Run notebooks from top to bottom, each in a kernel of its own, and write them back with their outputs.

    python -m book.outputs
    python -m book.outputs notebooks/01_attention_and_entropy.ipynb

What is written can be seen without a kernel: pictures as PNG with alt text, tables and text. Live widgets and
time stamps are left out, so a second run changes little. A notebook that breaks the rules (`problems`) is not
written, and the command ends with 1.
"""

import base64
import os
import re
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from traitlets.config import Config

from course_lib.figures.picture import LIMIT

ROOT = Path(__file__).resolve().parents[1]
CELL_SECONDS = 1800
"""After which a cell counts as hanging."""
COURSE_BYTES = 5_000_000
"""What all notebooks may take together."""
ALT = 20
"""Characters that an alt text has at least."""
ENCRYPTED = Config({"KernelManager": {"transport_encryption": "auto"}})
"""Where the kernel can do it, its messages are encrypted, as it asks for."""
ENVIRONMENT = {"COURSE_LIB_PROGRESS": "off"}  # no reader has solved anything here

VIEW = "application/vnd.jupyter.widget-view+json"
_IMAGE = re.compile(r'<img alt="([^"]*)" width="(\d+)"[^>]*src="data:image/png;base64,([^"]+)">')
# What hides it while a widget lives.
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)
_EMPTY = re.compile(r"(<[^>]*>|\s)*")
_PATH = re.compile(r"(?<![\w/.])/(home|work|root|tmp|usr|opt|Users|var)/|\b[A-Z]:\\")
_SECONDS = re.compile(r"\b\d+([.,]\d+)? ?(s|ms|sec|seconds?|minutes?|it/s|steps/s|steps per second)\b")


def course() -> list[Path]:
    """The notebooks, in reading order."""
    return sorted((ROOT / "notebooks").glob("0*.ipynb"))


def execute(path: Path) -> NotebookNode:
    """The notebook with the outputs of a new kernel, as the kernel sent them.

    Raises:
        ValueError: a cell fails or hangs, or the kernel dies.
    """
    notebook = nbformat.read(path, as_version=4)
    quiet = {"record_timing": False, "store_widget_state": False, "kernel_name": "python3"}
    where = {"resources": {"metadata": {"path": str(path.parent)}}}
    client = NotebookClient(notebook, timeout=CELL_SECONDS, config=ENCRYPTED, **quiet, **where)
    try:
        client.execute(env=os.environ | ENVIRONMENT)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        lines = [line for line in str(error).splitlines() if "Error" in line]
        raise ValueError(f"{path.name}: {lines[-1] if lines else type(error).__name__}") from error
    return notebook


def settled(executed: NotebookNode, source: NotebookNode) -> NotebookNode:
    """An executed notebook as it is committed, with the metadata of the one that it was made of."""
    executed.metadata = source.metadata
    for cell, old in zip(executed.cells, source.cells, strict=True):
        cell.metadata = old.metadata
        if cell.cell_type == "code":
            kept = [output for output in cell.outputs if not is_live(output)]
            cell.outputs = [new for output in kept for new in _static(output)]
    return executed


def is_live(output: NotebookNode) -> bool:
    """Whether an output is a widget, which needs a kernel, or a progress bar, which shows seconds."""
    data = output.get("data", {})
    return VIEW in data or re.match(r".*\d%\|", str(data.get("text/plain", ""))) is not None


def _static(output: NotebookNode) -> list[NotebookNode]:
    """An output whose picture in HTML becomes one that code hosts show, too."""
    data = output.get("data", {})
    if "text/html" not in data:
        return [output]
    data["text/html"] = _STYLE.sub("", data["text/html"])
    pictures = _IMAGE.findall(data["text/html"])
    rest = _IMAGE.sub("", data["text/html"])
    if not pictures:
        return [output]
    made = []
    for alt, width, png in pictures:
        about = {"image/png": {"alt": unescape(alt), "width": int(width)}}
        made.append(nbformat.v4.new_output("display_data", {"image/png": png}, metadata=about))
    if _EMPTY.fullmatch(rest):  # the picture is all: it is the cell's value
        del data["text/html"]
        output.data |= made[-1].data
        output.metadata = made.pop().metadata
    else:
        data["text/html"] = rest
    return [*made, output]


def problems(notebook: NotebookNode) -> list[str]:
    """One line for each output that must not be committed."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if cell.execution_count is None:
            found.append(f"{cell.id}: it has not run; try make outputs")
        if set(cell.metadata) - {"tags", "jupyter"}:
            found.append(f"{cell.id}: metadata {sorted(cell.metadata)}; expected tags and jupyter only")
        found += [f"{cell.id}: {problem}" for output in cell.outputs for problem in _wrong(output)]
    return found


def _wrong(output: NotebookNode) -> Iterator[str]:
    """What is wrong with one output."""
    data = output.get("data", {})
    if output.output_type == "error" or output.get("name") == "stderr":
        yield f"{output.get('ename') or output.get('text', '')[:80]!r} is an error or a warning"
    if "image/png" in data:
        if (size := len(base64.b64decode(data["image/png"]))) > LIMIT:
            yield f"a picture takes {size:,} bytes, expected at most {LIMIT:,}"
        if len(output.metadata.get("image/png", {}).get("alt", "")) < ALT:
            yield f"a picture has no alt text of {ALT} characters"
    if VIEW in data:
        yield "a live widget, which no page without a kernel can show"
    for text in [output.get("text", ""), *(str(data[kind]) for kind in data if kind != "image/png")]:
        if "data:image" in text:
            yield "a picture inside HTML, which code hosts do not show"
        for what, pattern in (("a path", _PATH), ("seconds", _SECONDS)):
            if match := pattern.search(text):
                yield f"{what}: …{text[max(match.start() - 30, 0) : match.end() + 20]}…"


def main(paths: list[Path]) -> int:
    """Execute and write; 1 if a notebook fails or may not be written."""
    status = 0
    for path in paths or course():
        try:
            notebook = settled(execute(path), nbformat.read(path, as_version=4))
            if wrong := problems(notebook):
                raise ValueError("\n".join(f"{path.name}: {line}" for line in wrong))
        except ValueError as error:
            print(error, file=sys.stderr)
            status = 1
            continue
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB", flush=True)
    total = sum(path.stat().st_size for path in course())
    print(f"all notebooks: {total / 1e6:.1f} MB of {COURSE_BYTES / 1e6:.0f}")
    return int(status or total > COURSE_BYTES)


if __name__ == "__main__":
    sys.exit(main([Path(name).resolve() for name in sys.argv[1:]]))
