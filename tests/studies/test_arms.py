"""Arms are data: names, colours and labels agree, and each changes what it says and nothing else."""

from dataclasses import replace

import pytest
from seaborn import color_palette

from course_lib import Run, preset
from course_lib.models import BLOCK_GROUPS, GROUPS
from course_lib.studies.arms import ARMS, COLOURS, LABELS, MAIN_ARMS, TREATMENTS, arm_config, arm_of

BASE = preset("copy", d_model=16, heads=2, layers=1, context=8, batch=4, steps=20, probe_every=0)
TRAINABLE = [arm for arm in ARMS if ARMS[arm].changes is not None]


def test_the_colours_are_seaborns():
    assert list(COLOURS) == color_palette("colorblind").as_hex()


def test_names_labels_and_the_colours_of_the_main_arms_are_each_used_once():
    assert all(name == arm.name for name, arm in ARMS.items())
    assert len(set(LABELS.values())) == len(set(TREATMENTS.values())) == len(ARMS)
    assert len({ARMS[arm].colour for arm in MAIN_ARMS}) == len(MAIN_ARMS)


def test_a_variant_is_dashed_in_the_colour_of_a_main_arm_and_no_two_lines_look_alike():
    variants = [arm for arm in ARMS.values() if arm.relative_of]
    assert {arm.relative_of for arm in variants} <= set(MAIN_ARMS)
    assert all(arm.dash != "-" for arm in variants)
    looks = [(arm.line_colour, arm.dash) for arm in (*variants, *map(ARMS.get, MAIN_ARMS))]
    assert len(set(looks)) == len(looks)


def rates(arm):
    run = Run(arm_config(BASE, arm, warmup=10))
    return {group: run.current_lr(group) / BASE.lr for group in GROUPS}


@pytest.mark.parametrize(
    ("arm", "warm"),
    [
        ("adamw", ()),
        ("adamw-warmup", GROUPS),
        ("adamw-warmup-blocks", BLOCK_GROUPS),
        ("adamw2", ()),
        ("shock-qk", set(GROUPS) - {"qk"}),
        ("warmup-qk-only", {"qk"}),
        ("adamw2-warm-outside", set(GROUPS) - set(BLOCK_GROUPS)),
    ],
)
def test_an_arm_warms_up_these_groups_and_no_others(arm, warm):
    wanted = {group: pytest.approx(0.1 if group in warm else 1) for group in GROUPS}
    assert rates(arm) == wanted


@pytest.mark.parametrize("arm", TRAINABLE)
def test_an_arm_changes_nothing_of_the_model_but_what_it_names(arm):
    made = arm_config(BASE, arm, warmup=10)
    kept = {name: getattr(BASE, name) for name in ("optimizer", "warmup", "tau", "groups")}
    assert replace(made, **kept) == replace(
        BASE, **{k: v for k, v in ARMS[arm].changes.items() if k in ("qk_norm", "attention")}
    )


@pytest.mark.parametrize("arm", [*MAIN_ARMS, "adamw2-warmup"])
def test_a_config_is_known_by_its_arm(arm):
    assert arm_of(arm_config(BASE, arm, warmup=10)) == arm


def test_a_group_keeps_its_own_settings_and_its_tau_under_adamw2_alone():
    own = replace(BASE, optimizer="adamw2", groups={"qk": {"tau": 0.01, "lr_multiplier": 0.5}})
    assert arm_config(own, "adamw2").groups == {"qk": {"tau": 0.01, "lr_multiplier": 0.5}}
    assert arm_config(own, "adamw").groups == {"qk": {"lr_multiplier": 0.5}}


@pytest.mark.parametrize(
    ("arm", "warmup", "words"),
    [
        ("adamw3", 10, "arm is 'adamw3': expected one of adamw,.*did you mean 'adamw'"),
        ("adamw-warmup", 21, "warmup is 21: expected at most 20"),
        ("replayed", 10, "arm is 'replayed', whose schedule .* expected one of adamw,"),
    ],
)
def test_what_is_no_arm_is_refused(arm, warmup, words):
    with pytest.raises(ValueError, match=words):
        arm_config(BASE, arm, warmup)
