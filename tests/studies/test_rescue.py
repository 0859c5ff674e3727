"""Searches for the last step at which a cure saves a run: small real runs, and invented outcomes."""

import threading

import pytest
import torch

from course_lib import Run, preset
from course_lib.models import parameter_groups
from course_lib.studies import Cure, Rescue, Trial
from course_lib.studies.rescue import _Kept

TINY = {"d_model": 16, "heads": 2, "layers": 1, "context": 8, "batch": 4, "steps": 12, "probe_every": 4}
SNAPSHOT = Run(preset("copy", **TINY)).snapshot()


def config(**overrides):
    return preset("copy", **{**TINY, **overrides})


def losses(run):
    return [record.loss for record in run.records]


# --- cures --------------------------------------------------------------------------------------


def steps(run, n):
    for _ in range(n):
        run.step()
    return run


def finished(run):
    list(run)
    return run


def test_no_cure_repeats_the_run_bit_for_bit():
    run = steps(Run(config()), 5)
    cured = finished(Cure().apply(run))
    assert losses(cured) == losses(finished(run))
    assert cured.changes == []


def test_the_bound_holds_from_the_switch_on_and_not_before():
    run = steps(Run(config(probe_every=1)), 4)
    cured = finished(Cure(tau=0.01).apply(run))
    inside = [i for i, name in enumerate(cured.matrices) if name.startswith("blocks")]
    ratios = [r.probes["rho_applied"][inside].max() for r in cured.records[:-1]]
    assert min(ratios[:4]) > 0.01
    # A hundredth more than τ: σ₁ of the bound is an estimate from below.
    assert max(ratios[4:]) < 0.01 * 1.01


def test_the_bound_carries_adams_moments_over():
    run = steps(Run(config()), 4)
    cured = Cure(tau=1e9).apply(run)
    assert losses(finished(cured)) == pytest.approx(losses(finished(run)), abs=1e-5)


def test_a_bound_on_some_groups_leaves_the_others_free():
    cured = steps(Cure(tau=0.01, groups=("qk",)).apply(steps(Run(config()), 2)), 1)
    taus = {group["name"]: group["tau"] for group in cured.optimizer.param_groups}
    assert taus == {g: 0.01 if g == "qk" else None for g in taus}


def test_the_learning_rate_is_cut_from_what_it_is():
    run = steps(Run(config(lr=0.04)), 2)
    run.lr = 0.02
    assert Cure(lr_factor=0.1).apply(run).lr == pytest.approx(0.002)


def rates(run, until):
    return [r.lr for r in steps(run, until - run.updates).records]


def test_a_warmup_begins_at_the_switch():
    plain = rates(Run(config(lr=0.02)), 12)
    cured = rates(Cure(warmup=4).apply(steps(Run(config(lr=0.02)), 3)), 12)
    factors = [a / b for a, b in zip(cured, plain, strict=True)]
    assert factors == pytest.approx([1, 1, 1, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1])


def test_more_time_is_a_whole_schedule_from_the_switch_on():
    plain = rates(Run(config(lr=0.02)), 12)
    cured = Cure().apply(steps(Run(config(lr=0.02)), 3), more_time=True)
    assert cured.config.steps == 15
    assert rates(cured, 15) == pytest.approx([*plain[:3], *plain])


@pytest.mark.parametrize("optimizer", ["adamw", "adamw2"])
def test_groups_go_back_to_where_they_began_with_moments_forgotten(optimizer):
    first = Run(config())
    run = steps(Run(config(optimizer=optimizer)), 4)
    cured = Cure(put_back=("qk",)).apply(run)
    where = {n: p for members in parameter_groups(cured.model).values() for n, p in members.items()}
    before = dict(first.model.named_parameters())
    back = {name for name, p in where.items() if torch.equal(p, before[name])}
    assert back == set(parameter_groups(cured.model)["qk"])
    assert back == {name for name, p in where.items() if p not in cured.optimizer.state}
    assert cured.changes[-1].setting == "put_back"
    finished(cured)


def test_groups_put_back_survive_a_file(tmp_path):
    cured = Cure(tau=0.05, put_back=("qk",)).apply(steps(Run(config()), 4))
    cured.save(tmp_path / "run.safetensors")
    assert losses(finished(Run.load(tmp_path / "run.safetensors"))) == losses(finished(cured))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"put_back": ("heads",)}, "did you mean 'head'"),
        ({"tau": -0.1}, "tau is -0.1"),
        ({"lr_factor": 0}, "lr_factor is 0"),
        ({"warmup": 1.5}, "warmup is 1.5"),
        ({"groups": ("norm",)}, "group is 'norm'"),
        ({"groups": ("qkv",)}, "did you mean 'qk'"),
    ],
)
def test_a_cure_out_of_range_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Cure(**settings)


@pytest.mark.parametrize(
    ("cure", "text"),
    [
        (Cure(), "no cure"),
        (Cure(tau=0.05), "τ = 0.05"),
        (Cure(tau=0.05, groups=("qk", "vo")), "τ = 0.05 on qk, vo"),
        (Cure(tau=0.05, put_back=("qk",)), "τ = 0.05 and qk put back"),
        (Cure(lr_factor=0.1, warmup=20), "lr × 0.1 and warmup of 20"),
    ],
)
def test_a_cure_says_what_it_does(cure, text):
    assert str(cure) == text


# --- the search, on real runs -------------------------------------------------------------------


def test_a_search_goes_on_where_it_was_left_and_finds_the_same():
    whole = Rescue(config(), first_tries=(6,)).finish()
    parts = Rescue(config(), first_tries=(6,))
    while not parts.finished:
        for _, _ in zip(range(5), parts, strict=False):
            pass
    assert parts.trials == whole.trials
    assert {0, 6} <= {trial.step for trial in whole.trials}
    assert str(parts) == str(whole)


def test_a_trial_ends_as_the_same_fork_made_by_hand():
    search = Rescue(config(), first_tries=(6,)).finish()
    by_hand = finished(Cure(tau=0.05).apply(steps(Run(config()), 6)))
    assert search.trials[0].loss == by_hand.verdict().loss
    assert search.trials[0].verdict == by_hand.verdict().name


def test_a_small_memory_changes_what_is_trained_again_and_no_outcome():
    few = Rescue(config(), first_tries=(5, 7), memory=1)
    assert few.finish().trials == Rescue(config(), first_tries=(5, 7)).finish().trials
    assert len(few._kept.snapshots) == 1


def test_a_run_that_learns_has_nothing_to_rescue():
    easy = preset("copy", steps=120, warmup=30, d_model=32, heads=2, layers=1, context=16)
    search = Rescue(easy)
    search.finish()
    assert search.crash.learnt
    assert search.trials == []
    assert "Nothing to rescue" in str(search)


def test_it_says_what_it_is_doing():
    search = Rescue(config())
    next(iter(search))
    assert str(search) == "Training the run without the cure: step 1 of 12."
    while search.trying is None:
        next(iter(search))
    assert "Trying step 0: at 1 of 12" in str(search)


def test_it_can_be_driven_by_a_thread():
    search = Rescue(config())
    thread = threading.Thread(target=search.finish)
    thread.start()
    thread.join()
    assert search.finished


# --- runs with snapshots ------------------------------------------------------------------------


def kept(run, at):
    made = []
    while not run.finished:
        if run.updates in at:
            made.append(run.snapshot())
        run.step()
    return made


def test_a_run_is_rescued_from_its_snapshots_and_not_trained_again():
    run = Run(config())
    snapshots = kept(run, (0, 4, 8))
    search = Rescue(run, snapshots=snapshots, first_tries=(6,))
    assert search.run.finished
    assert search.finish().trials == Rescue(config(), first_tries=(6,)).finish().trials


def test_of_a_run_changed_by_hand_only_kept_moments_are_tried():
    run = Run(config())
    steps(run, 2)
    run.lr = 0.001
    snapshots = kept(run, (4, 8))
    search = Rescue(run, snapshots=snapshots, first_tries=(8,)).finish()
    assert {trial.step for trial in search.trials} <= {4, 8}
    with pytest.raises(ValueError, match="first_tries has 6: expected a kept moment from 4 to 8"):
        Rescue(run, snapshots=snapshots, first_tries=(6,))


def test_snapshots_from_before_a_fork_are_left_out():
    run = steps(Run(config()), 2)
    before = run.snapshot()
    fork = run.fork(lr=0.001)
    with pytest.raises(ValueError, match="snapshots has none of this run"):
        Rescue(fork, snapshots=[before])


def test_a_run_without_snapshots_is_refused():
    with pytest.raises(ValueError, match="give Rescue the config instead"):
        Rescue(Run(config()))


def test_a_step_out_of_range_is_refused():
    with pytest.raises(ValueError, match="first_tries has 12: expected a step from 0 to 11"):
        Rescue(config(), first_tries=(12,))


# --- the search, on invented outcomes -----------------------------------------------------------


class Invented(Rescue):
    """A search whose trials are answered at once: the steps that are saved are given."""

    def __init__(self, saved, **options):
        super().__init__(config(steps=100), **options)
        self.saved = saved

    def _try(self, step):
        self.trials.append(Trial(step, step in self.saved, 0.0, "invented"))
        yield from ()


@pytest.mark.parametrize("border", [0, 1, 2, 3, 7, 50, 98, 99])
def test_the_border_is_found(border):
    search = Invented(range(border + 1)).finish()
    assert search.last_saved == border
    assert search.first_lost == (border + 1 if border < 99 else None)
    assert search.ordered
    assert len(search.trials) <= 16  # twice log₂ of 100, and two


def test_a_border_at_the_start_takes_few_trials():
    assert [t.step for t in Invented([0, 1]).finish().trials] == [0, 1, 2]


def test_a_cure_that_never_helps_takes_one_trial():
    search = Invented([]).finish()
    assert (search.last_saved, search.first_lost, len(search.trials)) == (None, 0, 1)
    assert "not even from step 0" in str(search)


def test_outcomes_out_of_order_are_seen_by_first_tries_and_told():
    search = Invented([0, 1, 2, 40, 41, 42], first_tries=(10, 40)).finish()
    assert not search.ordered
    assert (search.last_saved, search.first_lost) == (42, 43)
    assert "failed from 10 on, too" in str(search)


def test_a_coarse_search_stops_within_its_resolution():
    search = Invented(range(38), resolution=8).finish()
    assert search.last_saved < 38 <= search.first_lost
    assert search.first_lost - search.last_saved <= 8


def test_the_table_is_in_the_order_of_steps():
    frame = Invented(range(5), first_tries=(50, 20)).finish().to_frame()
    assert list(frame.columns) == ["step", "saved", "loss", "verdict"]
    assert frame["step"].is_monotonic_increasing


def test_memory_is_bounded():
    size = sum(t.nbytes for t in SNAPSHOT.tensors.values())
    store = _Kept(memory=20 * size)  # with AdamW's moments a snapshot is three times the first one
    run = Run(config(steps=40))
    for _ in run:
        if not run.finished:
            store.offer(run)
            assert store._bytes() <= 20 * size
    assert store.every > 1
    assert torch.equal(store.latest(17).model.head.weight, store.latest(16).model.head.weight)
