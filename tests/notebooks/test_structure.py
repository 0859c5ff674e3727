"""What every notebook of the course has, and what it must not have. Running them is nbval's part."""

import ast
import re
import statistics
from pathlib import Path

import nbformat
import pytest

from book.outputs import problems
from tests.notebooks.nbval_rules import IGNORE_NUMBERS

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LONGEST_CELL = 25
LARGEST_MEDIAN = 5
TRAINS = re.compile(r"\btrain\(|\.start\(\)|\.step\(\)|islice\(|for \w+ in run\b(?!\.)")
"""What a cell that trains has in it."""

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def cells(path, kind=None):
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if kind in (None, cell.cell_type)]


def code(path):
    return [cell.source for cell in cells(path, "code")]


def prose(path):
    return "\n".join(cell.source for cell in cells(path, "markdown"))


def trees(path):
    return [ast.parse(source) for source in code(path)]


def test_it_is_a_valid_notebook_with_a_kernel_that_every_reader_has(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


def test_outputs_are_there_small_and_without_what_differs_from_run_to_run(path):
    assert problems(nbformat.read(path, as_version=4)) == []
    # nbval compares nothing where a whole notebook has no outputs.
    assert any(cell.outputs for cell in cells(path, "code"))


def test_cells_are_short(path):
    lines = [len(source.splitlines()) for source in code(path)]
    assert max(lines) <= LONGEST_CELL
    assert statistics.median(lines) <= LARGEST_MEDIAN


def test_no_cell_is_excused_from_running(path):
    tags = {tag for cell in cells(path) for tag in cell.metadata.get("tags", [])}
    assert tags <= {IGNORE_NUMBERS, "nbval-ignore-output"}


def test_most_outputs_are_compared_and_few_are_ignored(path):
    shown = [cell.metadata.get("tags", []) for cell in cells(path, "code") if cell.outputs]
    assert sum("nbval-ignore-output" in tags for tags in shown) <= len(shown) / 4
    assert sum(not tags for tags in shown) >= len(shown) / 3


def test_a_cell_that_is_excused_has_an_output(path):
    assert [cell.id for cell in cells(path, "code") if cell.metadata.get("tags") and not cell.outputs] == []


def test_no_cell_is_excused_by_a_comment(path):
    text = "\n".join(code(path)).upper()
    assert "NBVAL" not in text
    assert "PYTEST_VALIDATE_IGNORE" not in text


def test_what_matters_is_asserted_and_never_to_decimals(path):
    asserts = [node for tree in trees(path) for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert len(asserts) >= 2
    for node in asserts:
        for compare in ast.walk(node.test):
            if isinstance(compare, ast.Compare) and any(isinstance(o, ast.Eq) for o in compare.ops):
                constants = [n.value for n in ast.walk(compare) if isinstance(n, ast.Constant)]
                assert not any(isinstance(c, float) for c in constants), ast.unparse(node)


def test_it_opens_with_question_objectives_and_minutes(path):
    first = cells(path)[0].source
    assert re.match(r"# \d\d · ", first)
    assert "?" in first
    assert "> **In this notebook**" in first
    assert re.search(r"\*\*Time\*\* about \d+ minutes", first)


def test_predictions_are_asked_before_a_run_and_played_back_after_it(path):
    names = [
        node.targets[0].id
        for tree in trees(path)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Prediction(")
    ]
    assert names
    for name in names:
        shown = next(i for i, s in enumerate(code(path)) if s.rstrip().endswith(f"\n{name}"))
        answered = next(i for i, s in enumerate(code(path)) if f"{name}.beside(" in s)
        assert answered > shown + 1, f"nothing is run between {name} and its answer"


def test_no_experiment_comes_without_a_prediction(path):
    """Whatever trains outside the exercises, trains while a prediction is open: asked, not yet played back.

    One that is asked later in the same section will do: what the runs show is then shown after it.
    """
    asked, answered, sections, helpers, trains = {}, {}, [], [], []
    section = ""
    for i, cell in enumerate(cells(path)):
        if cell.cell_type == "markdown":
            section = next(iter(re.findall(r"^## (.+)", cell.source, flags=re.MULTILINE)), section)
        sections.append(section)
        if cell.cell_type != "code":
            continue
        asked |= dict.fromkeys(re.findall(r"^(\w+) = Prediction\(", cell.source, flags=re.MULTILINE), i)
        answered |= dict.fromkeys(re.findall(r"\b(\w+)\.beside\(", cell.source), i)
        body = ast.parse(cell.source).body
        helpers += [n.name for n in body if isinstance(n, ast.FunctionDef) and TRAINS.search(ast.unparse(n))]
        run = "\n".join(ast.unparse(node) for node in body if not isinstance(node, ast.FunctionDef))
        calls = any(re.search(rf"\b{helper}\(", run) for helper in helpers)
        if (TRAINS.search(run) or calls) and not section.startswith("Exercise"):
            trains.append(i)
    for i in trains:
        later = [name for name in asked if answered[name] > i]
        fine = [name for name in later if asked[name] < i or sections[asked[name]] == sections[i]]
        assert fine, f"cell {cells(path)[i].id} trains, and nobody was asked what will come of it"


def test_every_picture_in_prose_has_an_alt_text(path):
    assert all(len(alt) >= 20 for alt in re.findall(r"!\[([^\]]*)\]\(", prose(path)))
    assert "<img" not in prose(path), "in Markdown a picture cannot be without its brackets"


def test_numbers_in_prose_are_computed_or_cited(path):
    """A number with a decimal point or a per cent sign is somebody's measurement, or a setting.

    It has to be in a formula or in code, in a paragraph with a link or a constant's name (`LOW_RANK`), or
    be a setting that stands in the notebook's code. Measurements belong into cells that compute them. What
    this misses: whole numbers, numbers in words, and a measurement that happens to equal a setting.
    """
    settings = {
        node.value
        for tree in trees(path)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float)
    }
    loose = []
    for cell in cells(path, "markdown"):
        for paragraph in re.split(r"\n\s*\n", cell.source):
            text = re.sub(r"\$\$.*?\$\$|\$[^$]+\$|`[^`]*`", "", paragraph, flags=re.DOTALL)
            if "](http" in paragraph or re.search(r"`[A-Z][A-Z_]+`", paragraph):
                continue
            for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?= ?%)|(?<![\w.])\d+\.\d+(?![\w.])", text):
                if float(number) not in settings and float(number) / 100 not in settings:
                    loose.append(f"{cell.id}: {number}")
    assert loose == []


def test_it_has_exercises_with_checkers_left_for_the_reader_to_solve(path):
    text = "\n".join(code(path))
    exercises = re.findall(r"^## Exercise (\d)", prose(path), flags=re.MULTILINE)
    assert [int(n) for n in exercises] == list(range(1, len(exercises) + 1))
    assert len(exercises) >= 2
    checks = set(re.findall(r"\b(check_(?!environment)\w+)\(", text))
    assert len(checks) == len(exercises)
    stubs = [s for s in code(path) if re.search(r"(^|[=:({ ])\.\.\.", s, flags=re.MULTILINE)]
    assert len(stubs) >= len(exercises)


def test_it_ends_with_a_summary_of_three_lines_and_where_to_go_next(path):
    last = cells(path)[-1]
    assert last.cell_type == "markdown"
    assert last.source.startswith("## Summary\n")
    assert len(re.findall(r"^- ", last.source, flags=re.MULTILINE)) == 3
    assert "**Where next?**" in last.source


def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", prose(path)):
        if not target.startswith("https://"):
            assert (FOLDER / target).exists(), target


def test_paths_and_installs_stay_out(path):
    text = prose(path) + "\n".join(code(path))
    assert "pip install" not in text
    assert not re.search(r"(^|[\s\"'(])/(home|work|root|tmp|usr)/", text)


def test_names_of_the_library_exist(path):
    for tree in trees(path):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course_lib"):
                module = __import__(node.module, fromlist=["x"])
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


def test_paper_is_cited_by_its_number_and_nothing_is_quoted_from_inside_it(path):
    text = prose(path)
    assert not re.search(r"\b(Theorem|Table|Eq\.|Equation|Section|Figure|Fig\.) ?\d", text)
