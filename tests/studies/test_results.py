"""Results are made run by run, whole or not at all, and never twice; old files are refused."""

import shutil

import pandas as pd
import pytest

from course_lib import preset
from course_lib.studies import results
from course_lib.studies.arms import ARMS
from course_lib.studies.rescue import CURES
from course_lib.studies.results import (
    PROVENANCE,
    TRAINING,
    Work,
    code_version,
    fill,
    read_results,
    rooms_of,
    settings_of,
)
from course_lib.studies.surgery import OPERATIONS

KEY = ("arm", "lr", "seed")
BOUND = (*TRAINING, "optim")


@pytest.fixture
def asked():
    return []


@pytest.fixture
def plan(asked):
    def work(arm, lr, seed, rooms):
        def make():
            asked.append((arm, seed))
            return {"loss": 0.1 + lr, "learnt": seed > 0, "step": None}

        return (arm, lr, seed), Work(make, rooms)

    return [
        work(arm, 1e-3, seed, rooms)
        for seed in (0, 1)
        for arm, rooms in (("adamw", TRAINING), ("adamw2", BOUND))
    ]


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl"])
def test_a_later_call_makes_what_is_missing_and_keeps_the_rest_as_it_is(tmp_path, plan, asked, name):
    path = tmp_path / name
    fill(path, KEY, plan, most=3)
    first = path.read_text()
    frame = fill(path, KEY, plan)
    assert asked == [("adamw", 0), ("adamw2", 0), ("adamw", 1), ("adamw2", 1)]
    assert path.read_text().startswith(first)
    assert frame["loss"].tolist() == [0.101] * 4
    assert frame["learnt"].tolist() == [False, False, True, True]
    assert frame["step"].isna().all()
    assert frame["code"].tolist() == [code_version(TRAINING), code_version(BOUND)] * 2
    assert set(PROVENANCE) <= set(frame.columns)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_run_that_is_killed_leaves_the_finished_ones(tmp_path, plan, asked):
    def killed():
        raise KeyboardInterrupt

    broken = [*plan[:2], (plan[2][0], Work(killed)), plan[3]]
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "r.csv", KEY, broken)
    assert len(read_results(tmp_path / "r.csv")) == 2
    fill(tmp_path / "r.csv", KEY, plan)
    assert len(asked) == len(set(asked)) == 4


def test_what_depends_on_a_room_is_made_again_and_nothing_else(tmp_path, plan, asked, capsys):
    path = tmp_path / "r.csv"
    fill(path, KEY, plan)
    path.write_text(path.read_text().replace(code_version(TRAINING), "unknown"))
    asked.clear()
    frame = fill(path, KEY, plan, redo="optim")
    assert asked == [("adamw2", 0), ("adamw2", 1)]
    assert len(frame) == 4
    assert "0 of 4 entries are missing, 2 made by other code" in capsys.readouterr().out


def test_an_entry_may_have_many_rows_and_values_that_are_lists(tmp_path):
    entry = (("swin", {"depths": [2, 2]}), Work(lambda: [{"step": t, "ranks": [1.0, t]} for t in range(3)]))
    path = tmp_path / "r.jsonl"
    for _ in range(2):
        frame = fill(path, ("preset", "config"), [entry])
    assert frame["ranks"].tolist() == [[1.0, 0], [1.0, 1], [1.0, 2]]
    assert frame["config"].tolist() == [{"depths": [2, 2]}] * 3


def test_a_version_is_that_of_the_rooms_a_run_depends_on(tmp_path, monkeypatch):
    library = tmp_path / "course_lib"
    shutil.copytree(
        results.Path(results.__file__).parents[1], library, ignore=shutil.ignore_patterns("*.pyc")
    )
    monkeypatch.setattr(results, "__file__", str(library / "studies" / "results.py"))
    version = code_version.__wrapped__
    before = version(TRAINING), version(BOUND)
    assert before == (code_version(TRAINING), code_version(BOUND))
    (library / "optim" / "bound.py").write_text("")
    assert version(TRAINING) == before[0]
    assert version(BOUND) != before[1]
    assert rooms_of(preset("copy")) == TRAINING
    assert rooms_of(preset("copy", optimizer="adamw2")) == BOUND


def test_settings_make_the_config_again():
    config = preset("live", optimizer="adamw2", tau=0.02, groups={"qk": {"warmup": 3}}, lr=0.1, seed=2)
    text = settings_of("live", config)
    assert text == '{"optimizer": "adamw2", "tau": 0.02, "groups": {"qk": {"warmup": 3}}}'


@pytest.mark.parametrize("name", ["alpha", "controls", "images", "rescue", "signals", "surgery", "taming"])
def test_the_records_of_the_course_are_read_and_say_what_made_them(name):
    frame = read_results(name)
    assert len(frame) > 50
    assert frame[list(PROVENANCE)].notna().all(axis=None)
    known = {"arm": ARMS, "cure": CURES, "operation": OPERATIONS}
    for column, values in known.items():
        if column in frame:
            assert set(frame[column]) <= set(values)


def test_what_is_missing_or_old_is_refused_in_one_line(tmp_path, plan, asked, monkeypatch):
    with pytest.raises(ValueError, match="results is 'tamin': expected one of .*did you mean 'taming'"):
        read_results("tamin")
    old = tmp_path / "taming.csv"
    old.write_text("# python bench/taming.py\narm,lr,seed\nadamw,0.1,0\n")
    for call in (lambda: read_results(old), lambda: fill(old, KEY, plan)):
        with pytest.raises(ValueError, match="no column 'code'.* `python experiments/taming.py`"):
            call()
    with pytest.raises(ValueError, match="expected a folder .* make it first"):
        fill(tmp_path / "none" / "r.csv", KEY, plan)
    with pytest.raises(ValueError, match="redo is 'optin': expected one of .*did you mean 'optim'"):
        fill(tmp_path / "r.csv", KEY, plan, redo="optin")
    monkeypatch.setattr(results, "RECORDS", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="expected a checkout of the course"):
        read_results("taming")
    assert not asked
    assert isinstance(pd.read_csv(old, comment="#"), pd.DataFrame)  # as it was
