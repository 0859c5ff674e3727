"""Build the site: a book of the notebooks with their outputs, as they are committed, in build/site.

    python -m book.build

Nothing is executed, nothing is fetched from a network, and a warning of Sphinx is an error.
"""

import re
import shutil
import sys
from pathlib import Path

import nbformat
from sphinx.cmd.build import build_main

from book.opening import Opening, read_opening
from book.outputs import ROOT, course
from book.prepare import Page, prepare
from book.tables import experiments_table, notebooks_table, scripts_table, teachers_table

BOOK = ROOT / "book"
API = ("optim", "probes", "models", "data", "runs", "studies", "distributed", "lab", "figures", "exercises")
"""Subpackages of course_lib, in the order in which a reader will want them."""
SOURCE = ROOT / "build" / "source"
SITE = ROOT / "build" / "site"


def binder_address(path: str) -> str:
    """Where Binder opens a file of the repository; the address itself stands in README.md alone."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^\[binder\]: (\S+?)\?", readme, flags=re.MULTILINE)
    if found is None:
        raise ValueError("README.md has no line “[binder]: address?…”: expected Binder's address there")
    return f"{found[1]}?urlpath=lab/tree/{path}"


def gather(notebooks: list[Path]) -> None:
    """Put together what Sphinx reads: the book's own pages, filled in, and a page for every notebook."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(BOOK / "pages", SOURCE)
    folder, extra = SOURCE / "notebooks", SOURCE / "extra"
    extra.mkdir()
    shutil.copytree(ROOT / "notebooks" / "pictures", folder / "pictures")
    shutil.copytree(ROOT / "experiments" / "records", folder.parent / "experiments" / "records")
    openings = [read_opening(path) for path in notebooks]
    pages: list[Page] = []
    for opening, path in zip(openings, notebooks, strict=True):
        address = binder_address(f"notebooks/{opening.stem}.ipynb")
        pages.append(prepare(nbformat.read(path, as_version=4), opening, address, extra))
        nbformat.write(pages[-1].notebook, folder / f"{opening.stem}.ipynb")
    values = {
        "notebooks": notebooks_table(openings),
        "toctree": "\n".join(f"notebooks/{opening.stem}" for opening in openings),
        "teachers": teachers_table(openings),
        "experiments": experiments_table(openings, pages),
        "scripts": scripts_table(ROOT / "experiments", ROOT / "bench"),
        "api": "\n".join(f"api/{name}" for name in API),
        "binder": binder_address("notebooks/00_start_here.ipynb"),
        "total": str(sum(opening.minutes for opening in openings)),
    }
    write_api_pages()
    for page in SOURCE.glob("*.md"):
        text = inline_drawings(page.read_text(encoding="utf-8"))
        page.write_text(fill(text, values, openings), encoding="utf-8")


def write_api_pages() -> None:
    """A page for each subpackage: what it exports, or, where it exports nothing, its modules."""
    (SOURCE / "api").mkdir()
    for name in API:
        folder = ROOT / "course_lib" / name
        modules = [f"course_lib.{name}"]
        if not (folder / "__init__.py").exists():
            modules = [f"course_lib.{name}.{path.stem}" for path in sorted(folder.glob("*.py"))]
        # Of a module without __all__ autodoc would document what it imports as well.
        own = "" if len(modules) == 1 else "   :no-imported-members:\n"
        blocks = "".join(f".. automodule:: {module}\n{own}\n" for module in modules)
        page = f"# course_lib.{name}\n\n```{{eval-rst}}\n{blocks}```\n"
        (SOURCE / "api" / f"{name}.md").write_text(page, encoding="utf-8")


def fill(text: str, values: dict[str, str], openings: list[Opening]) -> str:
    """Replace {{name}}, and {{00+02}}, which is the minutes of those notebooks together.

    Raises:
        ValueError: no such name or notebook.
    """
    minutes = {opening.number: opening.minutes for opening in openings}

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if re.fullmatch(r"\d\d(\+\d\d)*", name):
            return str(sum(minutes.get(number, 0) for number in name.split("+")))
        if name not in values:
            raise ValueError(f"{{{{{name}}}}} stands in a page: expected one of {', '.join(values)}")
        return values[name]

    return re.sub(r"\{\{([\w+]+)\}\}", value, text)


def inline_drawings(text: str) -> str:
    """Put a page's SVG drawings into the page itself, where they take the colour of the theme's text."""

    def drawing(match: re.Match[str]) -> str:
        svg = (BOOK / "static" / match[1]).read_text(encoding="utf-8")
        return f"```{{raw}} html\n{svg}```"

    return re.sub(r"!\[[^\]]*\]\(\.\./static/([\w-]+\.svg)\)", drawing, text)


def main() -> int:
    """Gather, build; 1 if Sphinx has something to say."""
    gather(course())
    shutil.rmtree(SITE, ignore_errors=True)
    options = [
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "-c",
        str(BOOK),
        "-d",
        str(ROOT / "build" / "doctrees"),
    ]
    status = build_main([*options, str(SOURCE), str(SITE)])
    if status == 0:
        print(f"site: {SITE / 'index.html'}")
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main())
