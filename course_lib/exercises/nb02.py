"""Exercises of notebook 02: a rule for verdicts, a control, and the claims that a table supports."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from course_lib import checks
from course_lib.exercises.checking import NotYet, Wrong, call, checker, judge_claims, judge_rule, known_word
from course_lib.models import GROUPS
from course_lib.runs import RunConfig, preset
from course_lib.runs.verdict import LOW_ENTROPY, LOW_RANK

_NAMES = ("healthy", "benign collapse", "malignant collapse", "stalled")
_CASES = tuple(product((True, False), (0.02, 0.24, 0.26, 0.9), (0.4, 0.95, 1.05, 2.1)))


def _rule(learnt: bool, entropy: float, rank: float) -> str:
    """The course's rule for a run with a single layer."""
    sharp = entropy < LOW_ENTROPY
    if learnt:
        return "benign collapse" if sharp else "healthy"
    return "malignant collapse" if sharp and rank < LOW_RANK else "stalled"


def _rule_mistakes(learnt: bool, entropy: float, rank: float) -> dict[str, str]:
    sharp = entropy < LOW_ENTROPY
    by_rank = "malignant collapse" if rank < LOW_RANK else "benign collapse"
    blunt = "healthy" if learnt else "stalled"
    solved = "benign collapse" if sharp else "healthy"
    return {
        "it calls every sharp run malignant. "
        "Entropy alone does not tell: a solved run is sharp too.": "malignant collapse" if sharp else blunt,
        "it never asks about the loss when attention is sharp. Malignant takes three things: "
        "not learnt, low entropy, low rank; and benign means that it has learnt.": by_rank
        if sharp
        else blunt,
        "it calls every failed run malignant. With high entropy nothing has collapsed: stalled.": solved
        if learnt
        else "malignant collapse",
        "it does not look at the rank: "
        "a run that has not learnt yet may be sharp and still of high rank.": _rule(learnt, entropy, 0),
        "is the rank compared the right way round? Malignant is *below* uniform attention's.": _rule(
            learnt, entropy, 2 * LOW_RANK - rank
        ),
        "is the entropy compared the right way round? Sharp is *below* LOW_ENTROPY.": _rule(
            learnt, 2 * LOW_ENTROPY - entropy, rank
        ),
        "is `learnt` the wrong way round? A run that has learnt is healthy or benign.": _rule(
            not learnt, entropy, rank
        ),
    }


def _verdict(value: Any) -> str:
    return known_word(value, _NAMES, f"it returns {value!r}: expected one of {', '.join(_NAMES)}.")


@checker("A rule for verdicts")
def check_rule(answer: Any) -> str:
    """A function (learnt, entropy, rank) → verdict of a run with one layer."""
    given = [_verdict(call(answer, *case)) for case in _CASES]
    where = judge_rule(given, _rule, _rule_mistakes, _CASES)
    if where is None:
        return "the rule of `course_lib.runs.verdict`, for one layer."
    learnt, entropy, rank = _CASES[where]
    raise Wrong(
        f"learnt={learnt}, entropy={entropy}, rank={rank} gives “{given[where]}”: "
        f"expected “{_rule(*_CASES[where])}”."
    )


_WARMUP = 100
_SHOCKED = "mlp"


@checker("One thing changed")
def check_control(answer: Any) -> str:
    """Settings for `preset("live", …)` that leave out warmup for the MLPs and for nothing else."""
    if not isinstance(answer, Mapping):
        raise Wrong("expected a dictionary of settings, such as dict(warmup=100, groups={…}).")
    if not answer or "Ellipsis" in repr(answer):
        raise NotYet
    groups = answer.get("groups", {})
    for group in groups if isinstance(groups, Mapping) else ():
        try:
            checks.choice("group", group, GROUPS)
        except ValueError as error:
            raise Wrong(f"{error}.".replace("?.", "?")) from None
    try:
        config, normal = preset("live", **answer), preset("live")
    except (ValueError, TypeError, AttributeError) as error:
        raise Wrong(f"no run can be made of these settings: {error}.") from None
    allowed = {"warmup", "groups", "seed", "device", "probe_every"}
    if others := [n for n in answer if n not in allowed and getattr(config, n) != getattr(normal, n)]:
        raise Wrong(
            f"{', '.join(others)} changes too: then two things differ, and nobody knows which one did it."
        )
    for group, own in config.groups.items():
        if more := set(own) - {"warmup"}:
            raise Wrong(
                f"group {group!r} changes {', '.join(sorted(more))} too: only its warmup should differ."
            )
    _check_warmups(config)
    return "one thing changed. Run it below: what it costs is what the MLPs' warmup is worth."


def _check_warmups(config: RunConfig) -> None:
    """Refuse a control in which not just the MLPs start without warmup."""
    warmup = {g: config.groups.get(g, {}).get("warmup", config.warmup) for g in GROUPS}
    cold = {group for group, steps in warmup.items() if steps == 0}
    if not cold:
        raise Wrong("every group is warmed up, the MLPs too: nothing is shocked.")
    if cold == set(GROUPS):
        raise Wrong("no group is warmed up: that is “no warmup at all”. The others need warmup=100.")
    if cold == set(GROUPS) - {_SHOCKED}:
        raise Wrong("the other way round: the MLPs are warmed up, and everything else is shocked.")
    if _SHOCKED not in cold:
        raise Wrong(f"{', '.join(sorted(cold))} is shocked: the question was about the MLPs (group 'mlp').")
    if len(cold) > 1:
        extra = ", ".join(sorted(cold - {_SHOCKED}))
        raise Wrong(f"{extra} is shocked as well: then it may have been that.")
    if any(steps != _WARMUP for group, steps in warmup.items() if group != _SHOCKED):
        raise Wrong(f"the arm to compare with has warmup={_WARMUP}: the other groups need the same.")


CLAIMS = {
    "a": "Leaving out the warmup of W_q and W_k alone is enough to wreck a run on text.",
    "b": "If only W_q and W_k are warmed up, the run on text is safe.",
    "c": "QK-norm saves a run on text that has no warmup at all.",
    "d": "On text, after the shock to W_q and W_k, attention is worth less than uniform attention.",
    "e": "Leaving out the warmup of W_q and W_k alone does harm in every task.",
    "f": "With the steps of W_q and W_k bounded, shocked runs on text end better, but not as well as "
    "with warmup and no bound.",
}
"""Claims that one might draw from the table of controls; some hold."""

_SUPPORTED = "adf"
_EVIDENCE = {
    "a": "look at “no warmup for W_q, W_k only”; all else is warmed up there.",
    "b": "look at “no warmup for all but W_q, W_k”: it ends as badly as no warmup at all.",
    "c": "look at “no warmup at all, QK-norm”: it ends worse than uniform attention.",
    "d": "compare “no warmup for W_q, W_k only” with “uniform attention, warmup”.",
    "e": "look at recall, where the same shock does no harm at all.",
    "f": "compare “no warmup for W_q, W_k only” with the same, bounded, and with warmup.",
}


@checker("What the table supports")
def check_claims(answer: Any) -> str:
    """The letters of the claims in `CLAIMS` that the controls support."""
    judge_claims(answer, CLAIMS, _SUPPORTED, _EVIDENCE)
    return "one cause shown by a single change, three tempting generalisations refused."
