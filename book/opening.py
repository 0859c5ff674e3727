"""What a notebook says of itself in its first cell: the site's tables are made of it."""

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat


@dataclass(frozen=True)
class Opening:
    """The head of a notebook."""

    stem: str
    number: str
    title: str
    question: str
    """The first paragraph."""
    objectives: str
    """What the reader learns and does, as the box says it: "you …"."""
    minutes: int
    before: str
    """Prerequisites, in Markdown."""
    exercises: str
    """How many, which, how hard; empty if the box does not say."""


def read_opening(path: Path) -> Opening:
    """Read the head of a notebook.

    Raises:
        ValueError: the first cell lacks a part.
    """
    source = nbformat.read(path, as_version=4).cells[0].source
    text = " ".join(re.sub(r"^> ?", "", line) for line in source.splitlines())

    def part(pattern: str, what: str | None) -> str:
        found = re.search(pattern, text)
        if found is None and what is not None:
            raise ValueError(f"{path.name}: its first cell names no {what}; try the form of notebook 02")
        return " ".join(found[1].split()) if found else ""

    before = part(r"\*\*Before it\*\*(.+?)(?=\*\*Exercises\*\*|$)", "prerequisites (**Before it**)")
    number, title = part(r"# (\d\d · .+?)(?=  )", "number and title").split(" · ")
    return Opening(
        stem=path.stem,
        number=number,
        title=title,
        question=source.split("\n\n")[1].replace("\n", " "),
        objectives=part(r"\*\*In this notebook\*\*(.+?)(?=\*\*Time\*\*|\*\*Before it\*\*|$)", "objectives"),
        minutes=int(part(r"\*\*Time\*\* about (\d+) minutes", "time (**Time** about … minutes)")),
        before=before.rstrip("."),
        exercises=part(r"\*\*Exercises\*\*(.+)", None).rstrip("."),
    )
