"""Every notebook has its solutions, and they pass every checker that the notebook uses."""

import ast
import json
import runpy
from pathlib import Path

import nbformat
import pytest

from course_lib.exercises.progress import VARIABLE

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def checkers(source):
    """Names of the checkers that a source calls, in order."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = [function.id for function in calls if isinstance(function, ast.Name)]
    return [name for name in names if name.startswith("check_") and name != "check_environment"]


def test_there_is_no_solution_without_its_notebook():
    solutions = {path.stem for path in (ROOT / "notebooks" / "solutions").glob("*.py")}
    assert solutions == {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_solution_passes_every_checker_of_its_notebook(path, tmp_path, monkeypatch, capsys):
    """It runs as a script, in its folder; what passed is read from the progress that the checkers keep."""
    cells = nbformat.read(path, as_version=4).cells
    used = {name for cell in cells if cell.cell_type == "code" for name in checkers(cell.source)}
    assert len(used) >= 2
    solution = path.parent / "solutions" / f"{path.stem}.py"
    assert set(checkers(solution.read_text(encoding="utf-8"))) == used
    kept = tmp_path / "progress.json"
    monkeypatch.setenv(VARIABLE, str(kept))
    monkeypatch.chdir(path.parent)
    runpy.run_path(str(solution), run_name="__main__")
    printed = capsys.readouterr().out
    assert set(json.loads(kept.read_text(encoding="utf-8"))["solved"]) == used, printed
    assert "not quite" not in printed
    assert "not yet" not in printed
