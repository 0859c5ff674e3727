"""What the site is made with."""

import base64
import re

import nbformat
import pytest

from book.build import binder_address, fill, inline_drawings
from book.docstrings import as_restructured_text
from book.opening import Opening, read_opening
from book.outputs import course
from book.prepare import prepare
from book.tables import experiments_table

OPENING = Opening("07_x", "07", "X", "Why?", "you look.", 20, "nothing", "")
PIXEL = base64.b64encode(b"a picture").decode()


@pytest.mark.parametrize("path", course(), ids=lambda p: p.stem)
def test_every_notebook_says_what_the_tables_need(path):
    opening = read_opening(path)
    assert opening.stem.startswith(opening.number)
    assert 1 <= opening.minutes <= 90
    assert opening.title
    assert "?" in opening.question + opening.objectives
    assert opening.objectives.startswith("you ")


def test_an_opening_without_minutes_is_named(tmp_path):
    head = "# 01 · A\n\nWhy?\n\n> **In this notebook** you look.\n>\n> **Before it** nothing."
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(head)]), tmp_path / "01_a.ipynb"
    )
    with pytest.raises(ValueError, match=r"01_a\.ipynb: its first cell names no time"):
        read_opening(tmp_path / "01_a.ipynb")


def test_a_page_is_filled_with_values_and_minutes():
    later = Opening("08_y", "08", "Y", "Why?", "you look.", 30, "nothing", "")
    assert fill("{{a}}: {{07+08}} or {{08}}", {"a": "1"}, [OPENING, later]) == "1: 50 or 30"
    with pytest.raises(ValueError, match=r"\{\{b\}\} stands in a page: expected one of a"):
        fill("{{b}}", {"a": "1"}, [])


def test_a_drawing_stands_in_the_page_itself():
    page = inline_drawings("A\n\n![Rooms.](../static/rooms.svg)\n\nB ![A run](live.png)")
    assert page.startswith('A\n\n```{raw} html\n<svg class="rooms"')
    assert page.endswith("</svg>\n```\n\nB ![A run](live.png)")


def test_the_address_of_binder_opens_the_notebook():
    assert re.fullmatch(
        r"https://mybinder\.org/v2/gh/\S+\?urlpath=lab/tree/notebooks/x\.ipynb",
        binder_address("notebooks/x.ipynb"),
    )


def test_a_notebook_becomes_a_page(tmp_path):
    new = nbformat.v4
    asked = new.new_code_cell('p = Prediction("Up or down?", {"a": "Up."})\np', id="cell-1")
    answered = new.new_code_cell("p.beside('a')", id="cell-2")
    answered.outputs = [
        new.new_output(
            "execute_result",
            data={
                "text/plain": "You made no prediction.\nWhat happened: Up. By 3.",
                "text/html": "<div>Up.</div>",
            },
        )
    ]
    drawn = new.new_code_cell("draw()", id="cell-3")
    about = {"image/png": {"alt": "A line that rises & falls. Up.", "width": 300}}
    data = {"text/plain": "It rises\nA line", "image/png": PIXEL}
    drawn.outputs = [new.new_output("execute_result", data=data, metadata=about)]
    moved = new.new_code_cell("explore(draw)", id="cell-4")
    sentence = {"text/plain": "Move it.", "text/html": "<p>Move it.</p>"}
    moved.outputs = [
        new.new_output("display_data", data={"image/png": PIXEL}, metadata=about),
        new.new_output("execute_result", data=sentence),
    ]
    cells = [new.new_markdown_cell("# 07 · X"), asked, answered, drawn, moved]
    page = prepare(new.new_notebook(cells=cells), OPENING, "https://binder", tmp_path)
    text = str([cell.get("outputs", cell.source) for cell in page.notebook.cells])
    assert "https://binder" in page.notebook.cells[1].source
    assert (tmp_path / "figures" / "07_x-cell-3-1.png").read_bytes() == b"a picture"
    assert PIXEL not in text
    assert '<img alt="A line that rises &amp; falls. Up." width="300"' in text
    assert "<p>Move it.</p>" in text
    assert page.figures == [
        ("It rises", "notebooks/07_x.html#cell-3"),
        ("A line that rises & falls (live)", "notebooks/07_x.html#cell-4"),
    ]
    (experiment,) = page.experiments
    assert (experiment.question, experiment.happened) == ("Up or down?", "Up. By 3.")
    assert '<a href="notebooks/07_x.html#cell-2">Up. By 3.</a>' in experiments_table([OPENING], [page])


def test_docstrings_keep_their_code_and_their_stars():
    lines = ["Do it.", "", "    x = f(*a)", "    y = 1", "", "As *args* or `*args`, 2*3, *more.", ""]
    assert as_restructured_text(lines) == [
        "Do it.",
        "",
        ".. code-block:: python",
        "",
        "    x = f(*a)",
        "    y = 1",
        "",
        "As \\*args* or `*args`, 2*3, \\*more.",
        "",
    ]
    assert as_restructured_text(["By", "", "    α = min(lr, τ σ₁ / σ₁),", ""])[2] == ".. code-block:: text"
    field = [":param x: what", "", "    more of it"]
    assert as_restructured_text(field) == field
