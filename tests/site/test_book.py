"""What the site is made with, without running a notebook."""

import base64
import re

import ipywidgets
import nbformat
import pytest
from ipywidgets.embed import embed_data

from book.build import binder_address, fill
from book.docstrings import as_restructured_text
from book.execute import course
from book.opening import Opening, read_opening
from book.prepare import prepare
from book.tables import experiments_table
from book.widgets import MIME, VIEW, Widgets
from course_lib.exercises import Prediction
from course_lib.lab import Lab

OPENING = Opening("07_x", "07", "X", "Why?", "you look.", 20, "nothing", "")
PIXEL = base64.b64encode(b"a picture").decode()


def static(widget):
    """The widget as the site shows it."""
    data = embed_data(views=[widget], drop_defaults=False)
    return Widgets({"widgets": {MIME: data["manager_state"]}}).html(widget.model_id)


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


def test_the_address_of_binder_opens_the_notebook():
    assert re.fullmatch(
        r"https://mybinder\.org/v2/gh/\S+\?urlpath=lab/tree/notebooks/x\.ipynb",
        binder_address("notebooks/x.ipynb"),
    )


def test_a_prediction_shows_its_question_and_choices():
    html = static(Prediction("What <b>now</b>?", {"a": "Up & up.", "b": "Down."}).widget())
    assert "What &lt;b&gt;now&lt;/b&gt;?" in html
    assert "○ Up &amp; up." in html
    assert "In Jupyter this is live" in html


def test_the_lab_shows_its_settings_charts_and_words():
    lab = Lab("copy", d_model=16, heads=2, layers=2, context=8, batch=4, steps=12, probe_every=3)
    try:
        lab.start()
        lab.result(60)
        html = static(lab.widget)
    finally:
        lab.close()
    assert "learning rate: <b>0.05</b>" in html
    assert ">Start<" in html
    assert "finished" in html
    assert len(re.findall(r'<img alt="[^"]{20,}"', html)) == html.count("<img") >= 5
    assert "<script" not in html


def test_a_progress_bar_that_is_over_leaves_nothing():
    assert static(ipywidgets.HBox([ipywidgets.HTML("3/3"), ipywidgets.FloatProgress()])) == ""


def test_a_widget_that_is_gone_leaves_nothing():
    assert Widgets({}).html("gone") == ""


def test_an_executed_notebook_becomes_a_page(tmp_path):
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
    html = f'<img alt="A line that rises." src="data:image/png;base64,{PIXEL}">'
    drawn.outputs = [
        new.new_output("execute_result", data={"text/plain": "It rises\nA line", "text/html": html})
    ]
    bar = new.new_code_cell("run()", id="cell-4")
    bar.outputs = [new.new_output("display_data", data={VIEW: {"model_id": "gone"}, "text/plain": "0 %"})]
    cells = [new.new_markdown_cell("# 07 · X"), asked, answered, drawn, bar]
    page = prepare(new.new_notebook(cells=cells), OPENING, "https://binder", tmp_path)
    text = str([cell.get("outputs", cell.source) for cell in page.notebook.cells])
    assert "https://binder" in page.notebook.cells[1].source
    assert (tmp_path / "figures" / "07_x-cell-3-1-1.png").read_bytes() == b"a picture"
    assert "base64" not in text
    assert page.notebook.cells[-1].outputs == []
    assert page.figures == [("It rises", "notebooks/07_x.html#cell-3")]
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
