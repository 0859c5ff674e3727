"""An executed notebook made into a page: widgets as pictures, pictures as files, and where to run it."""

import ast
import base64
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from book.opening import Opening
from book.widgets import VIEW, Widgets

_INLINE = re.compile(r'src="data:image/(png|jpeg|svg\+xml);base64,([^"]+)"')


@dataclass
class Experiment:
    """A question that the reader answers first, and what came out in the run of this page."""

    question: str
    place: str
    """Address of its answer, from the site's root."""
    happened: str


@dataclass
class Page:
    """A notebook ready for the site."""

    notebook: nbformat.NotebookNode
    experiments: list[Experiment] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)
    """The finding that a figure's title states, and its address from the site's root."""


def prepare(executed: nbformat.NotebookNode, opening: Opening, binder: str, out: Path) -> Page:
    """Make a page of an executed notebook.

    Args:
        executed: with outputs and the state of its widgets.
        opening: what its first cell says.
        binder: address that opens this notebook on Binder.
        out: root of the site's further files; pictures go to `figures` in it.
    """
    notebook = copy.deepcopy(executed)
    widgets = Widgets(notebook.metadata)
    notebook.metadata.pop("widgets", None)
    page = Page(notebook)
    questions = dict(_questions(notebook))
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        place = f"notebooks/{opening.stem}.html#{cell.id}"
        cell.outputs = [new for output in cell.outputs if (new := _static(output, widgets)) is not None]
        for i, output in enumerate(cell.outputs, 1):
            _move_pictures(output, out, f"{opening.stem}-{cell.id}-{i}")
            if "<img" in output.get("data", {}).get("text/html", ""):
                page.figures.append((_finding(output), place))
        answered = re.search(r"\b(\w+)\.beside\(", cell.source)
        if answered and answered[1] in questions and cell.outputs:
            text = cell.outputs[-1].data["text/plain"].partition("What happened: ")[2]
            page.experiments.append(Experiment(questions[answered[1]], place, text))
        _add_anchor(cell)
    notebook.cells.insert(1, _where_to_run(opening, binder))
    return page


def _questions(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    """Name and question of every `name = Prediction("question", …)`."""
    for cell in notebook.cells:
        for node in ast.walk(ast.parse(cell.source)) if cell.cell_type == "code" else ():
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Prediction("):
                yield ast.unparse(node.targets[0]), ast.literal_eval(node.value.args[0])  # type: ignore[attr-defined]


def _static(output: nbformat.NotebookNode, widgets: Widgets) -> nbformat.NotebookNode | None:
    """The output without a widget; None if nothing of it can be seen."""
    data = output.get("data", {})
    if VIEW not in data:
        return output
    html = widgets.html(data[VIEW]["model_id"])
    data = {"text/html": html, "text/plain": "a widget"}
    return nbformat.v4.new_output("display_data", data=data) if html else None


def _move_pictures(output: nbformat.NotebookNode, out: Path, name: str) -> None:
    """Put the pictures inside an output's HTML into files."""
    html = output.get("data", {}).get("text/html")
    if not html:
        return
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    count = 0

    def moved(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        file = folder / f"{name}-{count}.{match[1].removesuffix('+xml')}"
        file.write_bytes(base64.b64decode(match[2]))
        return f'loading="lazy" src="../figures/{file.name}"'

    output.data["text/html"] = _INLINE.sub(moved, html)


def _finding(output: nbformat.NotebookNode) -> str:
    """A picture's title; what a widget shows is named by its first picture's alt text."""
    text = str(output.data.get("text/plain", "")).split("\n")[0]
    if text != "a widget":
        return text
    if output.data["text/html"].count("<img") > 1:
        return "The lab, as this run has left it"
    alt = re.search(r'<img alt="([^"]*?)[.:"]', output.data["text/html"])
    return f"{alt[1] if alt else 'A picture'} (live)"


def _add_anchor(cell: nbformat.NotebookNode) -> None:
    """Let links lead to a cell's output."""
    for output in cell.outputs:
        if "text/html" in output.get("data", {}):
            output.data["text/html"] = f'<span id="{cell.id}"></span>{output.data["text/html"]}'
            return


def _where_to_run(opening: Opening, binder: str) -> Any:
    text = (
        "```{admonition} This page is a notebook\n:class: tip\n"
        f"[Run it on Binder]({binder}), or on your own machine: `make lab`, then "
        f"`notebooks/{opening.stem}.ipynb`. What you see here comes from a run on a CPU; "
        "exercises are left for you to solve.\n```"
    )
    return nbformat.v4.new_markdown_cell(text)
