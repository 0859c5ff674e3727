"""The tables of the site, in Markdown, made of what notebooks and scripts say of themselves."""

import ast
import re
from pathlib import Path

from book.opening import Opening
from book.prepare import Page


def notebooks_table(openings: list[Opening]) -> str:
    """Every notebook with its question and minutes."""
    rows = [f"| {_link(o)} | {o.question} | {o.minutes} |" for o in openings]
    return "\n".join(["| notebook | question | minutes |", "|---|---|---|", *rows])


def teachers_table(openings: list[Opening]) -> str:
    """Minutes, prerequisites, objectives and exercises of every notebook, in its own words."""
    columns = [
        (_link(o), str(o.minutes), _linked(o.before), _sentence(o.objectives), _sentence(o.exercises))
        for o in openings
    ]
    rows = [f"| {' | '.join(cells)} |" for cells in columns]
    head = "| notebook | minutes | before it | in it | exercises |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def experiments_table(openings: list[Opening], pages: list[Page]) -> str:
    """By notebook: questions with the outcome of this site's own run, and figures with their findings."""
    parts = []
    for opening, page in zip(openings, pages, strict=True):
        rows = [f"| {_cell(e.question)} | [{_cell(e.happened)}]({e.place}) |" for e in page.experiments]
        parts += [f"## {opening.number} · {opening.title}", ""]
        parts += ["| question | what came out, and where |", "|---|---|", *rows, ""]
        if page.figures:
            parts += [
                "Figures: " + " · ".join(f"[{_cell(title)}]({place})" for title, place in page.figures) + ".",
                "",
            ]
    # Sphinx would look for a source file: these addresses are the finished site's.
    return re.sub(r"\[([^\]]*)\]\((notebooks/[^)]*)\)", r'<a href="\2">\1</a>', "\n".join(parts))


def scripts_table(*folders: Path) -> str:
    """Every script of these folders with the first line of its docstring."""
    rows = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.py"))):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        head = " ".join(docstring.split("\n\n")[0].split())
        if head and "__main__" in path.read_text(encoding="utf-8"):
            rows.append(f"| `python {path.parent.name}/{path.name}` | {_cell(head)} |")
    return "\n".join(["| command | what it measures |", "|---|---|", *rows])


def _link(opening: Opening) -> str:
    return f"[{opening.number} · {opening.title}](notebooks/{opening.stem}.ipynb)"


def _linked(text: str) -> str:
    """Links between notebooks, as seen from the site's root."""
    return re.sub(r"\]\((\d\d_\w+\.ipynb)\)", r"](notebooks/\1)", text)


def _sentence(text: str) -> str:
    return _cell(text[:1].upper() + text[1:])


def _cell(text: str) -> str:
    """Text that may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
