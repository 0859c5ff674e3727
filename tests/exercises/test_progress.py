"""What is solved is kept between visits, and never lost without a word."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import course_lib.exercises as exercises
from course_lib.exercises import check_warmup, progress
from course_lib.exercises.progress import COURSE, VARIABLE

FOLDER = Path(__file__).parents[2] / "notebooks"


def warmup(step, steps):
    return min(1.0, (step + 1) / steps) if steps else 1.0


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "progress.json"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda p: p.stem)
def test_the_page_lists_the_checkers_of_every_notebook_in_order(path):
    cells = nbformat.read(path, as_version=4).cells
    calls = [
        node.func.id
        for cell in cells
        if cell.cell_type == "code"
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id.startswith("check_")
    ]
    title, checkers = COURSE[path.stem[:2]]
    assert list(dict.fromkeys(c for c in calls if c != "check_environment")) == list(checkers)
    assert cells[0].source.startswith(f"# {path.stem[:2]} · {title}\n")


def test_every_checker_on_the_page_exists():
    for _, checkers in COURSE.values():
        assert all(hasattr(exercises, name) for name in checkers)


def test_a_success_is_kept_and_shown(file):
    assert progress().solved == {}
    assert check_warmup(lambda step, steps: 1.0).status == "not quite"
    assert check_warmup(None).status == "not yet"
    assert not file.exists()
    result = check_warmup(warmup)
    assert result.passed
    assert "kept" not in result.message
    assert set(progress().solved) == {"check_warmup"}
    assert "00 Start here: 1 of 2 solved" in repr(progress())
    page = progress()._repr_html_()
    assert re.search(r"✓ 2\. warmup: solved on \d{4}-\d\d-\d\d", page)
    assert "… 1. verdicts: not yet" in page
    assert re.search(r"<caption>1 of \d+ exercises solved</caption>", page)
    assert list(file.parent.iterdir()) == [file], "no part of a file is left"


def test_a_second_success_keeps_the_first_date(file):
    check_warmup(warmup)
    content = json.loads(file.read_text())
    content["solved"] = {
        "check_warmup": "2020-01-01T00:00:00+00:00",
        "check_gone": "2020-01-01T00:00:00+00:00",
    }
    file.write_text(json.dumps(content))
    check_warmup(warmup)
    assert json.loads(file.read_text()) == content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"version": 1}',
        b'{"version": 1, "solved": []}',
        b'{"version": 1, "solved": {"check_warmup": 3}}',
        b'{"version": 2, "solved": {}}',
    ],
    ids=["empty", "cut", "no text", "list", "without", "other type", "other value", "version"],
)
def test_a_damaged_file_is_set_aside_with_a_line(file, content):
    file.parent.mkdir()
    file.write_bytes(content)
    result = check_warmup(warmup)
    assert result.passed
    assert "progress.damaged-1.json" in result.message
    assert (file.parent / "progress.damaged-1.json").read_bytes() == content
    assert set(progress().solved) == {"check_warmup"}
    file.write_bytes(content)
    assert "progress.damaged-2.json" in progress().place
    assert (file.parent / "progress.damaged-1.json").read_bytes() == content, "the first one is still there"


def test_a_place_that_cannot_be_written_is_said_and_the_exercise_still_passes(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "progress.json"))
    result = check_warmup(warmup)
    assert result.passed
    assert VARIABLE in result.message
    assert "\n" not in result.message
    assert VARIABLE in progress().place


def test_a_full_disk_leaves_the_old_file(file, monkeypatch):
    check_warmup(warmup)
    before = file.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = exercises.check_verdicts({"A": "benign", "B": "malignant", "C": "healthy", "D": "stalled"})
    assert result.passed
    assert "No space left on device" in result.message
    assert file.read_bytes() == before


def test_off_keeps_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "off")
    assert check_warmup(warmup).passed
    assert "off" in progress().place
    assert list(tmp_path.iterdir()) == []


ANSWER = """
from course_lib.exercises import check_warmup
result = check_warmup(lambda step, warmup: min(1.0, (step + 1) / warmup) if warmup else 1.0)
assert result.passed
"""
KERNEL = f"""
import nbformat
from nbclient import NotebookClient
from book.outputs import ENCRYPTED
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell({ANSWER!r})])
NotebookClient(notebook, kernel_name="python3", startup_timeout=600, config=ENCRYPTED).execute()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "kept"), [("reader", True), ("script", False), ("test", False)], ids=["reader", "script", "test"]
)
def test_only_a_reader_in_a_notebook_leaves_progress_behind(tmp_path, who, kept):
    """Without being asked to; scripts, and kernels that pytest has started, do not."""
    environment = {k: v for k, v in os.environ.items() if k not in (VARIABLE, "PYTEST_CURRENT_TEST")}
    environment |= {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    if who == "test":
        environment["PYTEST_CURRENT_TEST"] = "x"
    program = ANSWER if who == "script" else KERNEL
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    assert bool(list(tmp_path.rglob("progress.json"))) == kept
