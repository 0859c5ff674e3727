"""The rooms of the library and what may import what: the contracts stand in pyproject.toml."""

import re
from collections import Counter
from pathlib import Path

import pytest
from importlinter.application.use_cases import lint_imports, read_user_options
from importlinter.cli import configuration  # noqa: F401 (it tells the use case how to read and print)

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_no_room_imports_from_a_room_above_it(capsys):
    assert lint_imports(cache_dir=None), capsys.readouterr().out


def test_a_file_name_is_used_once():
    names = Counter(path.name for path in (ROOT / "course_lib").rglob("*.py"))
    assert {name: n for name, n in names.items() if n > 1 and name != "__init__.py"} == {}


def test_the_page_on_the_architecture_names_the_rooms_of_the_contract_in_its_order():
    (contract,) = (c for c in read_user_options().contracts_options if c["id"] == "rooms")
    rooms = re.findall(r"\w+", " ".join(contract["layers"]))
    rooms.remove("__main__")  # two lines that call cli
    page = (ROOT / "book/pages/architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    assert re.findall(r"\w+", " ".join(listed)) == rooms
    drawing = (ROOT / "book/static/rooms.svg").read_text(encoding="utf-8")
    assert re.findall(r'class="room[^>]*>(\w+)<', drawing) == rooms


def test_an_import_that_runs_upwards_is_found(tmp_path, monkeypatch, capsys):
    """The contract would be worth nothing if it passed whatever the rooms import."""
    package = tmp_path / "upside_down"
    package.mkdir()
    for room, line in {"__init__": "", "low": "from upside_down import high", "high": ""}.items():
        (package / f"{room}.py").write_text(line)
    (tmp_path / "contracts.toml").write_text(
        '[tool.importlinter]\nroot_package = "upside_down"\n'
        '[[tool.importlinter.contracts]]\nname = "layers"\ntype = "layers"\n'
        'containers = ["upside_down"]\nlayers = ["high", "low"]\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert not lint_imports(config_filename=str(tmp_path / "contracts.toml"), cache_dir=None)
    assert "upside_down.low is not allowed to import upside_down.high" in capsys.readouterr().out
