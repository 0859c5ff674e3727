"""A notebook with its outputs made into a page: pictures as files, links to them, and where to run it."""

import ast
import base64
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import nbformat

from book.opening import Opening


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


def prepare(notebook: nbformat.NotebookNode, opening: Opening, binder: str, out: Path) -> Page:
    """Make a page of a notebook.

    Args:
        notebook: with its outputs, as it is committed.
        opening: what its first cell says.
        binder: address that opens this notebook on Binder.
        out: root of the site's further files; pictures go to `figures` in it.
    """
    page = Page(copy.deepcopy(notebook))
    questions = dict(_questions(notebook))
    for cell in page.notebook.cells:
        if cell.cell_type != "code":
            continue
        place = f"notebooks/{opening.stem}.html#{cell.id}"
        for i, output in enumerate(cell.outputs, 1):
            if "image/png" in output.get("data", {}):
                page.figures.append((_finding(output), place))
                _move_picture(output, out / "figures" / f"{opening.stem}-{cell.id}-{i}.png")
        answered = re.search(r"\b(\w+)\.beside\(", cell.source)
        if answered and answered[1] in questions and cell.outputs:
            text = cell.outputs[-1].data["text/plain"].partition("What happened: ")[2]
            page.experiments.append(Experiment(questions[answered[1]], place, text))
        _add_anchor(cell)
    page.notebook.cells.insert(1, _where_to_run(opening, binder))
    return page


def _questions(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    """Name and question of every `name = Prediction("question", …)`."""
    for cell in notebook.cells:
        for node in ast.walk(ast.parse(cell.source)) if cell.cell_type == "code" else ():
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Prediction("):
                yield ast.unparse(node.targets[0]), ast.literal_eval(node.value.args[0])  # type: ignore[attr-defined]


def _move_picture(output: nbformat.NotebookNode, file: Path) -> None:
    """Put an output's picture into a file, and an <img> with its alt text in its place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(base64.b64decode(output.data.pop("image/png")))
    about = output.metadata["image/png"]
    output.data["text/html"] = (
        f'<img alt="{escape(about["alt"], quote=True)}" width="{about["width"]}" loading="lazy" '
        f'src="../figures/{file.name}">'
    )


def _finding(output: nbformat.NotebookNode) -> str:
    """A picture's title; what stands for a live view is named by its alt text."""
    text = str(output.data.get("text/plain", ""))
    if text:
        return text.split("\n")[0]
    return f"{re.split('[.:]', output.metadata['image/png']['alt'])[0]} (live)"


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
