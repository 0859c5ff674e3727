"""What may be committed as a notebook's outputs, and how nbval compares them."""

import base64

import pytest
from nbformat import v4

from book.outputs import COURSE_BYTES, VIEW, course, problems, settled
from course_lib.figures.picture import LIMIT
from tests.notebooks.nbval_rules import without_numbers

ALT = "A line that rises & falls"
PIXEL = base64.b64encode(b"a picture").decode()
IMAGE = f'<img alt="A line that rises &amp; falls" width="300" src="data:image/png;base64,{PIXEL}">'


def notebook(*outputs):
    cell = v4.new_code_cell("x", id="cell-1", execution_count=1)
    cell.outputs = list(outputs)
    return v4.new_notebook(cells=[cell])


def shown(**data):
    kinds = {"text": "text/plain", "html": "text/html", "png": "image/png", "view": VIEW}
    return v4.new_output("display_data", {kinds[kind]: value for kind, value in data.items()})


def drawn(png=PIXEL, alt=ALT):
    return v4.new_output("display_data", {"image/png": png}, metadata={"image/png": {"alt": alt}})


def test_all_notebooks_together_are_small_enough_to_be_committed():
    assert sum(path.stat().st_size for path in course()) <= COURSE_BYTES


def test_a_picture_in_html_becomes_one_with_its_alt_text():
    made = settled(notebook(shown(text="It rises", html=IMAGE)), notebook())
    (output,) = made.cells[0].outputs
    assert output.data == {"text/plain": "It rises", "image/png": PIXEL}
    assert output.metadata == {"image/png": {"alt": ALT, "width": 300}}
    assert problems(made) == []


def test_a_widget_leaves_its_picture_and_its_sentence():
    html = f"<style>.a {{ display: none }}</style><div>{IMAGE}<p>Move it.</p></div>"
    live = shown(text="VBox()", view={"model_id": "1"})
    made = settled(notebook(shown(text="Move it.", html=html), live), notebook())
    picture, sentence = made.cells[0].outputs
    assert picture.data == {"image/png": PIXEL}
    assert sentence.data == {"text/plain": "Move it.", "text/html": "<div><p>Move it.</p></div>"}
    assert problems(made) == []


def test_a_progress_bar_is_left_out():
    bar = shown(text="adamw:   0%|          | 0/301 [00:00<?, ?it/s]", view={"model_id": "1"})
    made = settled(notebook(bar, shown(text="done")), notebook())
    assert [output.data for output in made.cells[0].outputs] == [{"text/plain": "done"}]


def test_metadata_are_those_of_the_source():
    executed, source = notebook(), notebook()
    executed.metadata.language_info = {"version": "3.11.7"}
    executed.cells[0].metadata.execution = {"iopub.execute_input": "2026-01-01T00:00:00"}
    source.cells[0].metadata.tags = ["a"]
    made = settled(executed, source)
    assert made.metadata == {}
    assert made.cells[0].metadata == {"tags": ["a"]}


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (drawn(base64.b64encode(bytes(LIMIT + 1)).decode()), "takes 60,001 bytes, expected at most 60,000"),
        (drawn(alt="Loss"), "no alt text"),
        (shown(html=IMAGE), "inside HTML"),
        (shown(text="a", view={"model_id": "1"}), "live widget"),
        (shown(text="Kept in /home/me/progress.json"), "a path: …Kept in /home/me/"),
        (shown(text=r"C:\Users\me"), "a path"),
        (shown(html="<td>12.5 s</td>"), "seconds: …<td>12.5 s"),
        (shown(text="300/300 [00:07<00:00, 41.2it/s]"), "seconds"),
        (v4.new_output("stream", name="stdout", text="took 3 seconds"), "seconds"),
        (v4.new_output("stream", name="stderr", text="FutureWarning"), "an error or a warning"),
        (v4.new_output("error", ename="ValueError", evalue="", traceback=[]), "an error or a warning"),
    ],
)
def test_what_must_not_be_committed_is_named(output, problem):
    (found,) = problems(notebook(output))
    assert found.startswith("cell-1: ")
    assert problem in found


def test_a_cell_that_has_not_run_is_named():
    new = notebook()
    new.cells[0].execution_count = None
    assert problems(new) == ["cell-1: it has not run; try make outputs"]


def test_words_are_compared_where_numbers_are_not():
    table = "     verdict  loss\nA    stalled  3.96"
    wider = "     verdict     loss\nA    stalled  1.2e-05"
    assert without_numbers(table) == without_numbers(wider)
    assert without_numbers(table) != without_numbers(table.replace("stalled", "healthy"))
    assert without_numbers("from -0.39 to +0.58 (1,743)") == "from # to # (#)"
