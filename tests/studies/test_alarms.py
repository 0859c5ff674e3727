"""Alarms and stalls, on invented signals and on a small real run."""

import numpy as np
import pandas as pd
import pytest

from course_lib import Run, preset
from course_lib.studies.alarms import (
    ALARMS,
    first_alarms,
    signals,
    signals_of,
    stall_step,
    track_record,
    warnings_of,
)

TINY = {"d_model": 16, "heads": 2, "layers": 2, "context": 8, "batch": 4, "steps": 12}
QUIET = {"rho_applied": 0.01, "sigma": 1.0, "score": 0.1, "sec": 0.45, "entropy": 1.0, "lowest_rank": 1.0}
LOUD = {"rho_applied": 2.0, "sigma": 9.0, "score": 50.0, "sec": 0.95, "entropy": 0.1, "lowest_rank": 0.2}


@pytest.fixture(scope="module")
def run():
    made = Run(preset("copy", probe_every=3, **TINY))
    list(made)
    return made


def table(at, n=10):
    """Signals that turn from quiet to loud at the given step of each column."""
    columns = {c: [LOUD[c] if t >= at.get(c, n) else QUIET[c] for t in range(n)] for c in ALARMS}
    return pd.DataFrame(columns, index=pd.Index(range(n), name="step"))


# --- signals ------------------------------------------------------------------------------------


def test_signals_have_a_row_per_step_and_values_where_it_was_probed(run):
    made = signals(run)
    assert list(made.index) == list(range(13))
    assert list(made.index[made["entropy"].notna()]) == [0, 3, 6, 9, 12]
    assert made["loss"].notna().all()
    assert np.isnan(made["rho_applied"][12])  # after the last step there is no further one


def test_signals_are_the_worst_over_heads_and_layers(run):
    probes, made = run.records[6].probes, signals(run).loc[6]
    assert made["score"] == probes["max_logit"].max()
    assert made["sigma"] == probes["qk_sigma"].max()
    assert made["sec"] == probes["qk_sec"].max()
    assert made["entropy"] == pytest.approx(probes["entropy"].mean(1).min())
    ranks = probes["attention_rank"].mean(1) / np.array(run.reference_ranks)
    assert made["lowest_rank"] == pytest.approx(ranks.min())
    assert made["rank"] == pytest.approx(ranks[probes["entropy"].mean(1).argmin()])
    qk = [i for i, name in enumerate(run.matrices) if "w_q" in name or "w_k" in name]
    assert made["rho_applied"] == pytest.approx(probes["rho_applied"][qk].max())


@pytest.mark.parametrize("settings", [{"probe_every": 0}, {"attention": "sigmoid", "probe_every": 3}])
def test_without_probes_or_entropy_there_are_gaps_and_no_alarm_of_them(settings):
    run = Run(preset("copy", **TINY, **settings))
    list(run)
    made = signals(run)
    assert made["entropy"].isna().all()
    assert first_alarms(made)["entropy"] is pd.NA


# --- alarms -------------------------------------------------------------------------------------


def test_each_alarm_goes_off_where_its_signal_turns_and_rho_counts_from_the_next_step():
    at = {name: 2 + i for i, name in enumerate(ALARMS)}
    found = first_alarms(table(at))
    assert found.to_dict() == {name: step + (name == "rho_applied") for name, step in at.items()}


def test_a_quiet_run_raises_none():
    assert first_alarms(table({})).isna().all()


def test_thresholds_can_be_moved():
    at = dict.fromkeys(ALARMS, 4)
    deaf = {"rho_applied": 3, "sigma": 10, "score": 60, "sec": 0.99, "entropy": 0.05, "lowest_rank": 0.1}
    assert first_alarms(table(at), deaf).isna().all()


def test_a_relative_alarm_looks_at_multiples_of_the_first_value():
    made = table({"sigma": 4})
    made["sigma"] *= 0.01
    assert first_alarms(made)["sigma"] == 4


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [({"rank": 1.0}, "threshold is 'rank'"), ({"rho_applied": -1}, "threshold of 'rho_applied' is -1")],
)
def test_thresholds_out_of_range_are_refused(thresholds, words):
    with pytest.raises(ValueError, match=words):
        first_alarms(table({}), thresholds)


# --- the stall ----------------------------------------------------------------------------------


def test_a_loss_stalls_where_it_stops_to_fall():
    falling, flat = np.linspace(4, 2, 101), np.full(100, 2.0)
    found = stall_step(np.concatenate([falling, flat]), margin=0.1, window=1)
    assert found == 95  # 0.1 above the end, at 0.02 a step


def test_a_plateau_that_ends_is_no_stall():
    curve = np.concatenate([np.full(50, 4.0), np.linspace(4, 0, 50), np.zeros(20)])
    assert stall_step(curve, window=1) >= 97


def test_a_spike_delays_the_stall_until_it_is_over():
    curve = np.full(100, 4.0)
    curve[5:15] = 9.0
    assert 14 <= stall_step(curve, window=5) <= 15


def test_noise_within_the_margin_does_not_matter():
    curve = 2.5 + 0.02 * np.cos(np.arange(200))
    assert stall_step(curve) == 0


def test_a_curve_shorter_than_the_window_is_one_mean():
    assert stall_step([4.0, 3.0]) == 0
    with pytest.raises(ValueError, match="curve is empty"):
        stall_step([])


# --- many runs ----------------------------------------------------------------------------------


def invented(*runs):
    """Signals of many runs from (arm, seed, learnt, stall, step of each alarm)."""
    return pd.concat(
        [
            table(at).reset_index().assign(arm=arm, seed=seed, learnt=learnt, stall=stall, loss=4.0)
            for arm, seed, learnt, stall, at in runs
        ]
    )


def test_warnings_have_a_row_per_run(run):
    made = warnings_of(signals_of({("adamw", 0): run, ("adamw", 1): run}))
    assert list(made[["arm", "seed"]].itertuples(index=False, name=None)) == [("adamw", 0), ("adamw", 1)]
    assert not made["learnt"].any()  # 12 steps are too few
    assert made["stall"][0] == stall_step([r.loss for r in run.records])
    assert made.loc[0, list(ALARMS)].to_dict() == first_alarms(signals(run)).to_dict()


def test_a_track_record_tells_caught_false_late_and_lead():
    everywhere = dict.fromkeys(ALARMS, 2)
    made = warnings_of(
        invented(
            ("a", 0, False, 8, {**everywhere, "entropy": 9}),
            ("a", 1, False, 6, {"score": 4}),
            ("b", 0, True, np.nan, {"score": 1}),
        )
    )
    record = track_record(made).set_axis(list(ALARMS))
    assert record.loc["score"].to_list() == [1.0, 1.0, 3.0, 4.0]
    assert record.loc["sigma"].to_list() == [0.5, 0.0, 2.0, 6.0]
    assert record.loc["entropy", "caught"] == 0.0  # it came after the stall, or not at all
    assert record.loc["entropy", "false alarms"] == 0.0
