"""Old module paths and the top level."""

import importlib
import subprocess
import sys

import pytest

import course_lib
from course_lib.moved import MOVED


@pytest.mark.parametrize("old", [*MOVED, "course_lib.training.run", "course_lib.training.verdict"])
def test_an_old_path_warns_and_gives_what_the_new_one_has(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=rf"^{old} is now course_lib\.\w+"):
        module = importlib.import_module(old)
    for path in MOVED.get(old, old.replace("training", "runs")).split():
        new = importlib.import_module(path)
        own = {name: value for name, value in vars(new).items() if getattr(value, "__module__", "") == path}
        assert own or path in ("course_lib.runs", "course_lib.figures")
        assert all(getattr(module, name) is value for name, value in own.items())


@pytest.mark.slow
def test_the_names_of_an_old_package_can_be_imported_from_it():
    code = "from course_lib.training import Cure, Rescue, Run, Score, Trial, preset\n"
    code += "from course_lib.training.compare import compare"
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_a_path_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError), pytest.warns(DeprecationWarning, match="is now course_lib.runs"):
        importlib.import_module("course_lib.training.nothing")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("course_lib.nothing")


def test_the_top_level_has_what_it_names():
    for name in course_lib.__all__:
        assert getattr(course_lib, name) is not None
        assert name in dir(course_lib)
    assert callable(course_lib.compare)
    with pytest.raises(AttributeError, match="has no attribute 'Rnu'"):
        course_lib.Rnu  # noqa: B018


def test_the_version_is_the_packages():
    from importlib import metadata

    assert course_lib.__version__ == metadata.version("course-lib")
