"""What is installed is what is named, everywhere the same, and the data come along."""

import gzip
import hashlib
import importlib
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from course_lib.extras import EXTRAS

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = CONFIGURATION["project"]
MANIFEST = json.loads((ROOT / "data" / "manifest.json").read_text(encoding="utf-8"))
ENVIRONMENTS = ["environment.yml", "binder/environment.yml"]
CONDA_NAMES = {
    "torch": "pytorch-cpu",
    "matplotlib": "matplotlib-base",
    "seaborn": "seaborn-base",
}
LOCKED_PYTHON = "3.11"
TESTED_PYTHONS = ["3.11", "3.12", "3.13"]


def requirements(*extras: str) -> list[Requirement]:
    """What the package needs, with the extras; an extra may name others of the package."""
    lines = list(PROJECT["dependencies"])
    todo = list(extras)
    while todo:
        lines += PROJECT["optional-dependencies"][todo.pop()]
        own = [r for r in map(Requirement, lines) if r.name == PROJECT["name"]]
        todo += [extra for requirement in own for extra in sorted(requirement.extras)]  # a set has no order
        lines = [line for line in lines if Requirement(line).name != PROJECT["name"]]
    return [Requirement(line) for line in dict.fromkeys(lines)]


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def conda_dependencies(path: str) -> dict[str, str]:
    entries = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))["dependencies"]
    matches = [re.fullmatch(r"([\w-]+)(.*)", e) for e in entries if isinstance(e, str)]
    return {match[1]: match[2] for match in matches if match}


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: no list of its files")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


# --- names and versions ---------------------------------------------------------------------


def test_the_lock_is_plain_exact_and_sorted():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert f"Python {LOCKED_PYTHON}" in lines[0], "the head says how the lock was made"
    packages = [line for line in lines if not line.startswith("#")]
    odd = [p for p in packages if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", p)]
    assert not odd, "expected name==version, without URL, hash or local suffix; try `make lock`"
    names = [line.split("==")[0] for line in packages]
    assert names == sorted(set(names)), "expected every name once, in order; try `make lock`"


@pytest.mark.parametrize("requirement", requirements("test"), ids=lambda r: r.name)
def test_the_lock_satisfies_every_range(requirement):
    version = locked().get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} is not in requirements.lock; try `make lock`"
    assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_the_lock_is_closed():
    """Every locked package is needed by one that is named, and what they need is locked."""
    lock = locked()
    installed = {canonicalize_name(d.name): d for d in metadata.distributions() if d.name}
    for name, version in lock.items():
        if name not in installed or Version(installed[name].version).public != version:
            pytest.skip(f"this environment was not made from the lock: no {name} {version}")

    needed: set[str] = set()
    todo = [(canonicalize_name(r.name), frozenset(r.extras)) for r in requirements("test")]
    seen = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        needed.add(name)
        if name not in installed:
            continue
        for line in installed[name].requires or []:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": e}) for e in extras | {""}):
                continue
            todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    # torch's CUDA build names its own exact companions; the lock leaves them to it.
    needed = {name for name in needed if not re.match(r"nvidia-|cuda-|triton$", name)}
    assert needed - set(lock) == set(), "needed and not locked; try `make lock`"
    assert set(lock) - needed == set(), "locked and not needed; try `make lock`"


@pytest.mark.parametrize("path", ENVIRONMENTS)
def test_conda_environments_name_what_pyproject_names(path):
    conda = conda_dependencies(path)
    expected = {CONDA_NAMES.get(r.name, r.name): set(map(str, r.specifier)) for r in requirements("lab")}
    ranges = {name: set(filter(None, conda.get(name, "missing").split(","))) for name in expected}
    assert ranges == expected
    more = set(conda) - set(expected)
    assert more <= {"python", "pip", "hatchling"}, "expected only what [project] and lab name"


def test_every_place_names_the_same_python():
    for path in ENVIRONMENTS:
        assert conda_dependencies(path)["python"] == f"={LOCKED_PYTHON}", path
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python-version"] == TESTED_PYTHONS
    supported = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}" for minor in range(30) if supported.contains(f"3.{minor}.0")] == TESTED_PYTHONS
    least, most = (f"({name.replace('.', ', ')})" for name in (TESTED_PYTHONS[0], TESTED_PYTHONS[-1]))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"if not {least} <= sys.version_info[:2] <= {most}" in makefile
    assert CONFIGURATION["tool"]["ruff"]["target-version"] == "py" + TESTED_PYTHONS[0].replace(".", "")


def test_binder_can_build_what_it_does_not_download():
    """postBuild installs without build isolation, so the build backend must be there."""
    build = CONFIGURATION["build-system"]
    conda = conda_dependencies("binder/environment.yml")
    for requirement in map(Requirement, build["requires"]):
        assert conda.get(requirement.name) == str(requirement.specifier)
    post_build = (ROOT / "binder/postBuild").read_text(encoding="utf-8")
    assert re.search(r"^set -e", post_build, re.MULTILINE)
    assert "pip install --no-deps --no-build-isolation -e ." in post_build


def test_no_file_names_a_registry_or_this_machine():
    hosts = [
        "pypi" + ".org",
        "pythonhosted" + ".org",
        "download.pytorch" + ".org",
        "anaconda" + ".org",
        "npmjs" + ".org",
        "deb.debian" + ".org",
        "index-" + "url",
    ]
    here = str(ROOT) + os.sep
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        found += [f"{path.name}: {host}" for host in hosts if host.encode() in content]
        if ROOT.parts[1:] and here.encode() in content:
            found.append(f"{path.name}: {here}")
    assert not found


def test_the_address_of_the_repository_stands_in_one_place():
    """Whoever publishes the course puts its owner there, and nowhere else."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    address = re.search(r"mybinder\.org/v2/gh/([\w.-]+/[\w.-]+)/", readme)
    assert address, "README.md: expected Binder's address, with owner and name of the repository"
    contents = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in tracked_files()}
    for variable in (address[1], "OWNER" + "/"):
        places = {name: n for name, c in contents.items() if (n := c.count(variable.encode()))}
        assert places in ({"README.md": 1}, {}), variable


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", *(f"book/pages/{p.name}" for p in (ROOT / "book/pages").glob("*.md"))],
)
def test_a_path_that_a_page_names_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    folders = "app|bench|binder|book|course_lib|data|experiments|notebooks|tests"
    named = set(re.findall(rf"(?<![\w/.-])(?:{folders})/[\w./-]*\w", text))
    if page == "README.md":
        named |= set(re.findall(r"\]\(([^):]+)\)", text))
        assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "book/pages/index.md"])
def test_a_command_of_make_that_a_page_names_exists(page):
    targets = re.search(
        r"^\.PHONY: (help .*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    named = re.findall(r"(?:^    |`)make ([a-z]+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    assert set(named) - set(targets[1].split()) == set()


# --- scripts --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [".ci/run", "binder/postBuild", "binder/start"])
def test_scripts_are_executable_and_parse(path):
    assert os.access(ROOT / path, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / path)], check=True)


@pytest.mark.parametrize(
    ("limit", "threads"),
    [
        (None, "1"),
        ("", "1"),
        ("1.0", "1"),
        ("2", "2"),
        ("2.5", "2"),
        ("0.5", "1"),
        (".5", "1"),
        ("many", "1"),
    ],
)
def test_a_binder_session_starts_as_many_threads_as_it_may(limit, threads):
    environment = {k: v for k, v in os.environ.items() if k != "CPU_LIMIT"}
    if limit is not None:
        environment["CPU_LIMIT"] = limit
    ran = subprocess.run(
        [str(ROOT / "binder/start"), "bash", "-c", 'echo "$OMP_NUM_THREADS $*"', "_", "a b", "c"],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ran.stdout == f"{threads} a b c\n"


class Sandbox:
    """A copy of the Makefile with a Python that only pretends to install."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a copy"
        self.folder.mkdir()
        for name in ["Makefile", "requirements.lock", "pyproject.toml"]:
            shutil.copy(ROOT / name, self.folder)
        self.stamp = self.folder / ".venv" / ".installed"
        self.log = self.folder / "log"
        self.python = self.folder / "python"
        self.write_python()

    def write_python(self, pip_status: int = 0) -> None:
        """`-c` runs the real one, `-m venv` copies this script, `-m pip install` is logged."""
        self.python.write_text(
            f"""#!/bin/bash
case "$1 $2 $3" in
    "-c "*) exec '{sys.executable}' "$@" ;;
    "-m venv "*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip --version") ;;
    "-m pip install") echo "$@" >> log; exit {pip_status} ;;
    *) exit 99 ;;
esac
"""
        )
        self.python.chmod(0o755)

    def make(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        return subprocess.run(
            ["make", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )

    def installs(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture
def sandbox(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("no make here")
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        pytest.skip("the Makefile refuses this Python")
    return Sandbox(tmp_path)


def test_make_installs_once_and_again_when_something_changed(sandbox):
    assert sandbox.make("install", "PYTHON=./python").returncode == 0
    assert sandbox.installs() == 2  # the lock, and course_lib
    assert sandbox.make("install").returncode == 0
    assert sandbox.installs() == 2
    newer = sandbox.stamp.stat().st_mtime + 10
    os.utime(sandbox.folder / "requirements.lock", (newer, newer))
    assert sandbox.make("install", "PYTHON=./python").returncode == 0
    assert sandbox.installs() == 4


def test_make_installs_again_in_a_checkout_that_was_moved(sandbox):
    assert sandbox.make("install", "PYTHON=./python").returncode == 0
    sandbox.folder = sandbox.folder.rename(sandbox.folder.with_name("moved"))
    sandbox.log = sandbox.folder / "log"
    assert sandbox.make("install", "PYTHON=./python").returncode == 0
    assert sandbox.installs() == 4


def test_a_failed_install_is_tried_again(sandbox):
    sandbox.write_python(pip_status=1)
    assert sandbox.make("install", "PYTHON=./python").returncode != 0
    assert not sandbox.stamp.exists()
    shutil.rmtree(sandbox.folder / ".venv")
    sandbox.write_python()
    assert sandbox.make("install", "PYTHON=./python").returncode == 0
    assert sandbox.stamp.exists()


@pytest.mark.parametrize(
    ("script", "value", "advice"),
    [
        (None, "no ./python", "try make lab PYTHON="),
        ("import sys; sys.version_info = (3, 9, 2)", "Python 3.9", "try make lab PYTHON="),
        ("import sys; sys.modules['venv'] = None", "no venv module", "try sudo apt-get install"),
    ],
    ids=["missing", "too old", "without venv"],
)
def test_a_python_that_will_not_do_is_answered_in_one_line(sandbox, script, value, advice):
    if script is None:
        sandbox.python.unlink()
    else:
        sandbox.python.write_text(f'''#!/bin/bash\nexec '{sys.executable}' -c "{script}; $2" "${{@:3}}"\n''')
    ran = sandbox.make("lab", "PYTHON=./python")
    assert ran.returncode != 0
    lines = [line for line in ran.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1
    assert value in lines[0]
    assert "expected" in lines[0]
    assert advice in lines[0]
    assert not (sandbox.folder / ".venv").exists()


# --- the data -------------------------------------------------------------------------------


def test_the_manifest_describes_the_files():
    for name, entry in MANIFEST.items():
        content = (ROOT / "data" / name).read_bytes()
        assert len(content) == entry["bytes"], name
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], name
        for key in ["licence", "source", "restore"]:
            assert entry[key], name
            assert "\n" not in entry[key], name
    kept = {p.name for p in (ROOT / "data").iterdir() if not p.name.startswith((".", "_"))}
    scripts = {"make_kjv.py", "make_fashion_mnist.py", "vendoring.py"}
    assert kept - set(MANIFEST) == {"README.md", "LICENSE-fashion-mnist", "manifest.json", *scripts}


def test_the_text_is_the_whole_king_james():
    entry = MANIFEST["kjv.txt.xz"]
    raw = lzma.decompress((ROOT / "data/kjv.txt.xz").read_bytes())
    assert hashlib.sha256(raw).hexdigest() == entry["text_sha256"]
    text = raw.decode("ascii")
    assert len(text) == entry["characters"]
    lines = text.split("\n")
    assert len(lines) == 31_102 + 1
    assert lines[0] == "In the beginning God created the heaven and the earth."
    assert lines[-1] == "", "every verse ends with a line's end"
    assert not any(re.match(r"\w+\d+:\d+", line) for line in lines), "a reference was left"


@pytest.fixture
def make_kjv(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "data")
    return importlib.import_module("make_kjv")


@pytest.mark.slow
def test_make_kjv_makes_the_text_again(make_kjv, tmp_path, capsys):
    """From the text with references put back; Debian's `bible` need not be installed."""
    verses = lzma.decompress((ROOT / "data/kjv.txt.xz").read_bytes()).decode().splitlines()
    printed = tmp_path / "printed"
    printed.write_text("".join(f"1Sm{i}:{i} {verse}\n" for i, verse in enumerate(verses)))
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text('{"other": {"bytes": 1}}')
    assert make_kjv.main(["--printed", str(printed), "--out", str(out)]) == 0
    assert MANIFEST["kjv.txt.xz"]["text_sha256"] in capsys.readouterr().out
    entries = json.loads((out / "manifest.json").read_text())
    assert entries["kjv.txt.xz"]["text_sha256"] == MANIFEST["kjv.txt.xz"]["text_sha256"]
    assert entries["other"] == {"bytes": 1}, "another file's entry is left alone"


@pytest.mark.skipif(shutil.which("bible") is None, reason="Debian's bible-kjv is not installed")
def test_make_kjv_reads_what_bible_prints(make_kjv):
    text = "\n".join(make_kjv.verses(make_kjv.printed_text(None))) + "\n"
    assert hashlib.sha256(text.encode()).hexdigest() == MANIFEST["kjv.txt.xz"]["text_sha256"]


@pytest.fixture
def make_fashion_mnist(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "data")
    return importlib.import_module("make_fashion_mnist")


def test_make_fashion_mnist_takes_turns_between_classes(make_fashion_mnist):
    labels = bytes([3, 3, 0, 1, 2, 4, 5, 6, 7, 8, 9, 0, 1, 2, 4, 5, 6, 7, 8, 9, 9])
    assert make_fashion_mnist.chosen(labels, 1) == [2, 3, 4, 0, 5, 6, 7, 8, 9, 10]
    assert make_fashion_mnist.chosen(labels, 2)[10:] == [11, 12, 13, 1, 14, 15, 16, 17, 18, 19]


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(),
    reason="Debian's dataset-fashion-mnist is not installed",
)
@pytest.mark.slow
def test_make_fashion_mnist_makes_the_images_again(make_fashion_mnist, tmp_path):
    assert make_fashion_mnist.main(["--out", str(tmp_path)]) == 0
    entries = json.loads((tmp_path / "manifest.json").read_text())
    assert len(entries) == 4
    for name, entry in entries.items():
        assert entry["content_sha256"] == MANIFEST[name]["content_sha256"], name


# mtime: the same bytes, so the same test names, in every process that collects them.
OTHER = gzip.compress(b"other", mtime=0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "try `sudo apt-get install dataset-fashion-mnist`, or --source FOLDER"),
        (OTHER[:-4], "cannot be unpacked"),
        (b"no gzip at all", "cannot be unpacked"),
        (OTHER, "holds other content (SHA-256 d9298a10d1b0…), expected c59f468a2f67…"),
    ],
)
def test_make_fashion_mnist_refuses_other_files_in_one_line(
    make_fashion_mnist, tmp_path, capsys, content, said
):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    if content is not None:
        (source / "train-images-idx3-ubyte.gz").write_bytes(content)
    assert make_fashion_mnist.main(["--source", str(source), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(out.iterdir()) == [], "nothing is written"


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("Ge1:1 In the beginning\n", "found 1 verses, expected 31102"),
        ("In the beginning\n", "line 1 is 'In the beginning': expected a reference"),
        ("Ge1:1 Göd\n", "expected ASCII"),
    ],
)
def test_make_kjv_refuses_another_text_in_one_line(make_kjv, tmp_path, capsys, printed, said):
    (tmp_path / "printed").write_text(printed, encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    assert make_kjv.main(["--printed", str(tmp_path / "printed"), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(out.iterdir()) == [], "nothing is written"


# --- the wheel ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the checkout, built by the backend itself: no index, no isolation."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_data_and_its_licences(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.split("/")[0] for name in names}
    version = PROJECT["version"]
    assert folders == {"course_lib", f"course_lib-{version}.dist-info"}
    for name in ["manifest.json", "README.md", "LICENSE-fashion-mnist", *MANIFEST]:
        assert f"course_lib/data/files/{name}" in names
    for name in ["LICENSE", "LICENSE-prose"]:
        assert f"course_lib-{version}.dist-info/licenses/{name}" in names
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "course_lib").rglob("*.py")}
    assert modules == {n for n in names if n.startswith("course_lib/") and n.endswith(".py")}
    assert "course_lib/py.typed" in names, "type checkers would not look at the library"


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_message_names_the_extra_that_brings_the_package(extra):
    imported = {"pillow": "PIL"}
    brought = {imported.get(r.name, r.name) for r in requirements(extra)} - {"torch", "numpy", "safetensors"}
    assert set(EXTRAS[extra]) <= brought
    said = {package for packages in EXTRAS.values() for package in packages}
    assert brought <= said


@pytest.mark.slow
def test_an_installed_wheel_reads_its_data_outside_the_checkout(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    program = """
import hashlib, course_lib
from course_lib.data import load_images, load_text
print(course_lib.__file__)
print(hashlib.sha256(load_text().encode()).hexdigest())
print(len(load_images().train_images))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    place, digest, images = ran.stdout.split()
    assert Path(place).is_relative_to(site), "the checkout was imported, not the wheel"
    assert digest == MANIFEST["kjv.txt.xz"]["text_sha256"]
    assert images == "10000"
