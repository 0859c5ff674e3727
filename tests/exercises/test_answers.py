"""Every checker accepts right answers in several forms, and names the likely wrong ones."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from course_lib.data import Baseline
from course_lib.exercises import (
    CLAIMS,
    MAP_TOKENS,
    VERDICT_CASES,
    check_claims,
    check_control,
    check_effective_rank,
    check_entropy,
    check_rule,
    check_softmax,
    check_two_maps,
    check_verdicts,
    check_warmup,
)
from course_lib.exercises.nb00 import _RIGHT
from course_lib.exercises.nb02 import _SUPPORTED
from course_lib.models import GROUPS
from course_lib.probes import uniform_rank
from course_lib.runs import Record, judge, preset
from course_lib.studies.arms import arm_config
from course_lib.studies.results import read_results


def assert_names(result, words):
    assert result.status == "not quite", result
    assert words in result.message, result


# --- softmax ------------------------------------------------------------------------------------


def softmax(z, t):
    e = np.exp((z - np.max(z)) / t)
    return e / e.sum()


@pytest.mark.parametrize(
    "answer",
    [
        softmax,
        lambda z, t: softmax(z, t).tolist(),
        lambda z, t: softmax(z, t).astype(np.float32),
        lambda z, t: (torch.as_tensor(z) / t).softmax(0),
        lambda z, t: torch.softmax(z / t, dim=0),  # fails with an array, is given a tensor
        lambda z, t: torch.nn.functional.softmax(z / t, dim=-1).requires_grad_(),
        lambda z, t: [math.exp((a - max(z)) / t) / sum(math.exp((b - max(z)) / t) for b in z) for a in z],
    ],
)
def test_softmax_is_accepted_in_any_form(answer):
    assert check_softmax(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda z, t: softmax(z, 1), "temperature changes nothing"),
        (lambda z, t: softmax(z * t, 1), "multiplied"),
        (lambda z, t: softmax(-z, t), "minus"),
        (lambda z, t: np.exp(z / t), "sum"),
        (lambda z, t: softmax(z, 1) / t, "before exp"),
        (lambda z, t: np.exp(z / t) / np.exp(z).sum(), "both sums"),
        (lambda z, t: np.log(softmax(z, t)), "log-probabilities"),
        (lambda z, t: z / t / (z / t).sum(), "no exp"),
        (lambda z, t: 1 / (1 + np.exp(-z / t)), "sigmoid"),
        (lambda z, t: np.exp(z / t) / np.exp(z / t).sum(), "overflow"),
        (lambda z, t: softmax(z, t)[:2], "shape"),
        (lambda z, t: softmax(z, t)[None], "shape"),
        (lambda z, t: 2 * softmax(z, t), "sum to 2"),
        (lambda z, t: softmax(z, t**2), "not as expected"),
        (lambda z, t: z * np.nan, "not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_softmax_mistakes_are_named(answer, words):
    assert_names(check_softmax(answer), words)


# --- entropy ------------------------------------------------------------------------------------


def nats(a):
    a = np.asarray(a)
    return -(a[a > 0] * np.log(a[a > 0])).sum()


@pytest.mark.parametrize(
    "answer",
    [
        lambda a, n: nats(a) / math.log(n),
        lambda a, n: float(nats(a) / np.log(n)),
        lambda a, n: -(a * np.log2(a + 1e-12)).sum() / np.log2(n),
        lambda a, n: -(a * np.log(np.clip(a, 1e-9, None))).sum() / np.log(n),
        lambda a, n: torch.special.entr(a).sum() / math.log(n),
        lambda a, n: torch.distributions.Categorical(probs=a).entropy() / math.log(n),
        lambda a, n: [nats(a) / math.log(n)],
    ],
)
def test_entropy_is_accepted_in_any_form(answer):
    result = check_entropy(answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda a, n: nats(a), "divided by the log of the number of visible keys"),
        (lambda a, n: nats(a) / math.log(2), "to base 2"),
        (lambda a, n: -nats(a) / math.log(n), "sign"),
        (lambda a, n: -nats(a), "sign"),
        (lambda a, n: nats(a) / math.log(len(a)), "all keys"),
        (lambda a, n: nats(a) / n, "not by visible"),
        (lambda a, n: nats(a) / math.log2(n), "bases are mixed"),
        (lambda a, n: nats(a) / math.log(2) / math.log(n), "bases are mixed"),
        (lambda a, n: 1 - nats(a) / math.log(n), "1 − H"),
        (lambda a, n: math.exp(nats(a)), "exp(H)"),
        (lambda a, n: -(a * np.log(a)).sum() / math.log(n), "0·log 0"),
        (lambda a, n: -a * np.log(a + 1e-9) / math.log(n), "a single number"),
        (lambda a, n: 0.3, "expected"),
        (lambda a, n: -(a * np.log(a)).sum(), "visible"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_entropy_mistakes_are_named(answer, words):
    assert_names(check_entropy(answer), words)


# --- effective rank -----------------------------------------------------------------------------


def shares(m):
    s = np.linalg.svd(m, compute_uv=False)
    return s / s.sum()


def sigma(m):
    return np.linalg.svd(m, compute_uv=False)


@pytest.mark.parametrize(
    "answer",
    [
        lambda m: np.exp(nats(shares(m))),
        lambda m: 2 ** (nats(shares(m)) / math.log(2)),
        lambda m: float(np.exp(-(shares(m) * np.log(shares(m) + 1e-12)).sum())),
        lambda m: torch.special.entr(torch.linalg.svdvals(m) / torch.linalg.svdvals(m).sum()).sum().exp(),
    ],
)
def test_rank_is_accepted_in_any_form(answer):
    result = check_effective_rank(answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda m: nats(shares(m)), "exp of it"),
        (lambda m: nats(shares(m)) / math.log(len(m)), "no division"),
        (lambda m: math.exp(nats(shares(m)) / math.log(len(m))), "no division"),
        (lambda m: math.exp(nats(sigma(m) ** 2 / (sigma(m) ** 2).sum())), "σ²"),
        (lambda m: math.exp(nats(shares(m)) / math.log(2)), "bases"),
        (lambda m: np.linalg.matrix_rank(m), "exact rank"),
        (lambda m: (sigma(m) ** 2).sum() / sigma(m)[0] ** 2, "stable rank"),
        (lambda m: 1 / (shares(m) ** 2).sum(), "1/Σp²"),
        (lambda m: math.exp(nats(sigma(m))), "divided by their sum"),
        (lambda m: math.exp(-nats(shares(m))), "sign"),
        (lambda m: np.exp(nats(np.abs(np.linalg.eigvals(m)) / np.abs(np.linalg.eigvals(m)).sum())), "eigen"),
        (lambda m: np.exp(-(shares(m) * np.log(shares(m))).sum()), "0·log 0"),
        (lambda m: sigma(m), "a single number"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rank_mistakes_are_named(answer, words):
    assert_names(check_effective_rank(answer), words)


# --- two maps -----------------------------------------------------------------------------------

SINK = np.eye(MAP_TOKENS)[[0] * MAP_TOKENS]
SELF = np.eye(MAP_TOKENS)
UNIFORM = np.tril(np.ones((MAP_TOKENS, MAP_TOKENS)))
UNIFORM = UNIFORM / UNIFORM.sum(1, keepdims=True)


@pytest.mark.parametrize(
    "answer",
    [
        (SINK, SELF),
        [torch.tensor(SINK), torch.tensor(SELF)],
        (SINK.tolist(), SELF.tolist()),
        np.stack([SINK, SELF]),
        (0.97 * SINK + 0.03 * UNIFORM, 0.97 * SELF + 0.03 * UNIFORM),
    ],
)
def test_two_maps_are_accepted_in_any_form(answer):
    result = check_two_maps(answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((SELF, SINK), "swapped"),
        ((UNIFORM, SELF), "malignant map has entropy 1.00"),
        ((SINK, UNIFORM), "benign map has entropy 1.00"),
        ((SELF, SELF), "same key"),
        ((SINK, SINK), "key of its own"),
        ((SINK, 2 * SELF), "sums to 2.00"),
        ((SINK.T, SELF), "rows and columns"),
        ((SINK, np.eye(MAP_TOKENS)[[*range(1, MAP_TOKENS), 0]]), "looks ahead"),
        ((np.full_like(SINK, np.nan), SELF), "not finite"),
        ((SINK, 2 * SELF - UNIFORM), "negative"),
        ((np.eye(4), np.eye(4)), "shape (4, 4)"),
        (SINK[0, 0], "two maps"),
    ],
)
def test_two_maps_mistakes_are_named(answer, words):
    assert_names(check_two_maps(answer), words)


def test_half_an_answer_is_not_yet_one():
    assert check_two_maps((..., ...)).status == "not yet"
    assert check_two_maps((SINK, ...)).status == "not yet"


# --- warmup and verdicts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        lambda step, warmup: min(1.0, (step + 1) / warmup) if warmup else 1.0,
        lambda step, warmup: min(1, (step + 1) / max(1, warmup)),
        lambda step, warmup: np.clip((step + 1) / max(1, warmup), 0, 1),
        lambda step, warmup: torch.tensor(min(1.0, (step + 1) / max(1, warmup))),
    ],
)
def test_warmup_is_accepted_in_any_form(answer):
    assert check_warmup(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda s, w: min(1, s / max(1, w)), "(step + 1)"),
        (lambda s, w: (s + 1) / max(1, w), "stay at 1"),
        (lambda s, w: min(1, (s + 1) // max(1, w)), "//"),
        (lambda s, w: max(0, 1 - s / max(1, w)), "decay"),
        (lambda s, w: 1.0, "at every step"),
        (lambda s, w: 0.05 * min(1, (s + 1) / max(1, w)), "not a learning rate"),
        (lambda s, w: min(1, ((s + 1) / max(1, w)) ** 2), "straight line"),
        (lambda s, w: min(1, (s + 1) / (w + 1)), "Off by one"),
        (lambda s, w: min(1, (s + 1) / w), "ZeroDivisionError"),
        (lambda s, w: min(1, (s + 1) / w) if w else 0, "warmup=0"),
        (lambda s, w: float("nan"), "not finite"),
    ],
)
def test_warmup_mistakes_are_named(answer, words):
    assert_names(check_warmup(answer), words)


RIGHT = {"A": "benign collapse", "B": "malignant collapse", "C": "healthy", "D": "stalled"}


@pytest.mark.parametrize(
    "answer",
    [
        RIGHT,
        {k.lower(): f" {v.upper()} " for k, v in RIGHT.items()},
        {"A": "benign", "B": "malignant", "C": "healthy", "D": "stalled"},
        {"A": "bening collapse", "B": "malignant colapse", "C": "helthy", "D": "staled"},
    ],
)
def test_verdicts_are_accepted_in_any_form(answer):
    assert check_verdicts(answer).passed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"A": "malignant collapse"}, "Low entropy alone"),
        ({"A": "healthy"}, "which word"),
        ({"B": "benign collapse"}, "entropy alone"),
        ({"B": "stalled"}, "attention has collapsed"),
        ({"C": "benign collapse"}, "nothing is sharp"),
        ({"C": "stalled"}, "Ask first"),
        ({"D": "malignant collapse"}, "nothing has collapsed"),
        ({"D": "healthy"}, "learnt nothing"),
        ({"D": ...}, "no verdict yet"),
        ({"A": 17}, "no verdict: expected"),
    ],
)
def test_wrong_verdicts_are_named(change, words):
    assert_names(check_verdicts(RIGHT | change), words)


def test_an_empty_table_of_verdicts_is_not_yet_an_answer():
    assert check_verdicts(dict.fromkeys("ABCD", ...)).status == "not yet"


def test_the_invented_runs_have_the_verdicts_that_the_rule_gives():
    for name, case in VERDICT_CASES.iterrows():
        probes = {
            "entropy": np.full((1, 1), case["entropy"], dtype=np.float32),
            "attention_rank": np.full((1, 1), case["rank"] * uniform_rank(32), dtype=np.float32),
        }
        records = [Record(0, 0.05, 4.13, probes), Record(1, 0.05, case["loss"], probes, case["loss"])]
        verdict = judge(records, Baseline("a line", case["reference"]), (uniform_rank(32),), finished=True)
        assert verdict.name == RIGHT[name] == _RIGHT[name]


# --- a rule, a control, claims ------------------------------------------------------------------


def rule(learnt, entropy, rank):
    if learnt:
        return "benign collapse" if entropy < 0.25 else "healthy"
    return "malignant collapse" if entropy < 0.25 and rank < 1 else "stalled"


@pytest.mark.parametrize("answer", [rule, lambda *case: rule(*case).split()[0].title()])
def test_a_rule_is_accepted_in_any_form(answer):
    assert check_rule(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda ok, h, r: "malignant" if h < 0.25 else "healthy" if ok else "stalled", "Entropy alone"),
        (
            lambda ok, h, r: (
                ("malignant" if r < 1 else "benign") if h < 0.25 else "healthy" if ok else "stalled"
            ),
            "three things",
        ),
        (lambda ok, h, r: rule(ok, h, r) if ok else "malignant", "every failed run"),
        (lambda ok, h, r: rule(ok, h, 0), "does not look at the rank"),
        (lambda ok, h, r: rule(ok, h, 2 - r), "right way round"),
        (lambda ok, h, r: rule(ok, 0.5 - h, r), "right way round"),
        (lambda ok, h, r: rule(not ok, h, r), "wrong way round"),
        (lambda ok, h, r: "healthy", "gives “healthy”"),
        (lambda ok, h, r: True, "expected one of"),
        (lambda ok, h, r: "", "expected one of"),
    ],
)
def test_wrong_rules_are_named(answer, words):
    assert_names(check_rule(answer), words)


@pytest.mark.parametrize(
    "answer",
    [
        {"warmup": 100, "groups": {"mlp": {"warmup": 0}}},
        {"warmup": 0, "groups": {g: {"warmup": 100} for g in GROUPS if g != "mlp"}},
        {"warmup": 100, "groups": {"mlp": {"warmup": 0}}, "seed": 3},
        {"warmup": 100, "groups": {"mlp": {"warmup": 0}}, "lr": 1e-2},
    ],
)
def test_a_control_is_accepted_in_any_form(answer):
    result = check_control(answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"warmup": 100}, "nothing is shocked"),
        ({"warmup": 0}, "no warmup at all"),
        ({"groups": {"mlp": {"warmup": 100}}}, "other way round"),
        ({"warmup": 100, "groups": {"qk": {"warmup": 0}}}, "about the MLPs"),
        ({"warmup": 100, "groups": {"qk": {"warmup": 0}, "mlp": {"warmup": 0}}}, "as well"),
        ({"warmup": 100, "groups": {"mlp": {"warmup": 0}}, "lr": 0.1}, "two things differ"),
        ({"warmup": 100, "groups": {"mlp": {"warmup": 0, "lr_multiplier": 2.0}}}, "lr_multiplier"),
        ({"warmup": 50, "groups": {"mlp": {"warmup": 0}}}, "warmup=100"),
        ({"warmup": 100, "groups": {"mpl": {"warmup": 0}}}, "did you mean 'mlp'?"),
        ({"warmup": 100, "group": {"mlp": {"warmup": 0}}}, "did you mean 'groups'"),
        ({"warmup": 100, "groups": {"mlp": 0}}, "no run can be made"),
        ({"warmup": 100, "groups": "mlp"}, "no run can be made"),
        ({"warmup": -1, "groups": {"mlp": {"warmup": 0}}}, "warmup is -1"),
        ([1], "a dictionary"),
    ],
)
def test_wrong_controls_are_named(answer, words):
    assert_names(check_control(answer), words)


def test_a_control_with_gaps_is_not_yet_one():
    assert check_control({"warmup": ..., "groups": ...}).status == "not yet"
    assert check_control({"warmup": 100, "groups": {"mlp": {"warmup": ...}}}).status == "not yet"


@pytest.mark.parametrize("answer", [set("adf"), "adf", ["F", "a ", "d"], ("a", "d", "f"), "a, d, f"])
def test_claims_are_accepted_in_any_form(answer):
    assert check_claims(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("abdf", "b: look at"),
        ("acdf", "c: look at"),
        ("adef", "e: look at recall"),
        ("ad", "f is missing"),
        ("af", "d is missing"),
        ("df", "a is missing"),
        ("xyz", "no claim"),
        (3, "expected letters"),
    ],
)
def test_wrong_claims_are_named(answer, words):
    assert_names(check_claims(answer), words)


def test_placeholders_are_not_yet_an_answer():
    assert check_claims({...}).status == "not yet"
    assert check_claims([]).status == "not yet"


def test_the_claims_called_supported_are_those_that_the_recorded_runs_support():
    controls = read_results("controls")
    live = controls[controls["preset"] == "live"]
    loss = {arm: rows["final_val_loss"] for arm, rows in live.groupby("arm")}
    shocked = loss["shock-qk"]
    uniform = loss["uniform-warmup"]
    warm = loss["adamw-warmup"]
    bounded = loss["shock-qk-bound-qk"]
    elsewhere = controls[controls["preset"].isin(["copy", "recall"])]
    alone = elsewhere[elsewhere["arm"] == "shock-qk"]
    true = {
        "a": not live[live["arm"] == "shock-qk"]["learnt"].any(),
        "b": loss["warmup-qk-only"].max() < uniform.min(),
        "c": loss["qk-norm"].min() < uniform.max(),
        "d": shocked.min() > uniform.max(),
        "e": not alone["learnt"].any(),
        "f": warm.max() < bounded.min() and bounded.max() < shocked.min(),
    }
    assert set(true) == set(CLAIMS)
    assert {letter for letter, holds in true.items() if holds} == set(_SUPPORTED)


def test_every_recorded_run_can_be_made_again_from_its_row():
    controls = read_results("controls")
    for row in controls.itertuples():
        base = preset(row.preset, lr=row.lr, seed=row.seed)
        assert replace(base, **json.loads(row.settings)) == arm_config(base, row.arm)
    assert set(controls.groupby(["preset", "lr", "arm"])["seed"].nunique()) == {3}
