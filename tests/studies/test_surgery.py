"""Configs of surgery: what is shocked, what is shielded, and that nothing else changes."""

from dataclasses import replace

import pytest

from course_lib import Run, preset
from course_lib.models import BLOCK_GROUPS, GROUPS
from course_lib.studies.surgery import operate

HEALTHY = preset("copy", warmup=100)
SICK = preset("copy")
TINY = {"d_model": 16, "heads": 2, "layers": 1, "context": 8, "batch": 4, "steps": 20, "probe_every": 0}


def rates(config, step=0):
    run = Run(replace(config, **TINY, warmup=min(config.warmup, 20)))
    for _ in range(step):
        run.step()
    return {group: run.current_lr(group) for group in GROUPS}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("factor", [1, 3])
def test_a_shock_gives_one_group_the_full_rate_at_once_and_no_other(group, factor):
    before, after = rates(HEALTHY), rates(operate(HEALTHY, shock=group, lr_multiplier=factor))
    changed = {name for name in GROUPS if before[name] != after[name]}
    assert changed == {group}
    assert after[group] == pytest.approx(factor * HEALTHY.lr)


@pytest.mark.parametrize("groups", ["qk", ("qk", "mlp"), BLOCK_GROUPS, ("embedding", "head")])
def test_a_shield_bounds_these_groups_and_no_other(groups):
    run = Run(replace(operate(SICK, shield=groups, tau=0.02), **TINY))
    run.step()
    taus = {group["name"]: group["tau"] for group in run.optimizer.param_groups}
    wanted = {groups} if isinstance(groups, str) else set(groups)
    assert taus == {name: 0.02 if name in wanted else None for name in taus}


def test_shock_and_shield_go_together_and_keep_the_groups_own_settings():
    patient = replace(HEALTHY, groups={"qk": {"lr_multiplier": 0.5}, "vo": {"warmup": 7}})
    made = operate(patient, shock="vo", shield="qk")
    assert made.groups == {
        "qk": {"lr_multiplier": 0.5, "tau": 0.05},
        "vo": {"warmup": 0, "lr_multiplier": 1.0},
    }
    assert patient.groups == {"qk": {"lr_multiplier": 0.5}, "vo": {"warmup": 7}}


def test_an_operation_on_nothing_changes_nothing():
    assert operate(HEALTHY) == HEALTHY


@pytest.mark.parametrize(
    ("patient", "operation", "words"),
    [
        (SICK, {"shock": "kq"}, "shock is 'kq'"),
        (SICK, {"shield": "norm"}, "holds no matrix"),
        (SICK, {"shock": "qk", "shield": ("qk",)}, "one or the other"),
        (SICK, {"shock": "qk", "lr_multiplier": 0}, "lr_multiplier is 0"),
        (SICK, {"shield": "qk", "tau": 0}, "tau"),
        (replace(SICK, optimizer="adamw2"), {"shield": "qk"}, "shield the others"),
    ],
)
def test_what_cannot_be_operated_is_refused(patient, operation, words):
    with pytest.raises(ValueError, match=words):
        operate(patient, **operation)
