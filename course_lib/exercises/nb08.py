"""Exercises of notebook 08: find a border, choose an alarm, and judge claims about the surgery."""

import math
from collections.abc import Mapping
from typing import Any

from course_lib import checks
from course_lib.exercises.checking import NotYet, Wrong, call, checker, judge_claims
from course_lib.extras import pandas as pd
from course_lib.studies.alarms import ALARMS, warnings_of
from course_lib.studies.arms import LABELS

_STEPS = 300
_BORDERS = (3, 1, 0, 97, 298, 150)
_MOST_TRIALS = 2 * math.ceil(math.log2(_STEPS)) + 2


@checker("Find the border")
def check_border(answer: Any) -> str:
    """A function (saves, steps) → the last step that `saves` accepts, or None, after few calls."""
    most = 0
    for border in _BORDERS:
        found, trials = _searched(answer, border)
        if found != border:
            raise Wrong(_border_mistake(found, border))
        if trials > _MOST_TRIALS:
            raise Wrong(
                f"with {_STEPS} steps and the border at {border} it takes {trials} trials, and each is a "
                f"whole run. Halving needs {math.ceil(math.log2(_STEPS))} or so: do you go step by step?"
            )
        most = max(most, trials)
    found, _ = _searched(answer, -1)
    if found is not None:
        raise Wrong(f"where not even step 0 is saved it returns {found}: expected None.")
    found, _ = _searched(answer, _STEPS - 1)
    if found != _STEPS - 1:
        raise Wrong(
            f"where every step is saved it returns {found}: expected {_STEPS - 1}, the last one there is."
        )
    return f"at most {most} trials for {_STEPS} steps. `Rescue` doubles first, because runs crash early."


def _searched(answer: Any, border: int) -> tuple[int | None, int]:
    """The border that the answer finds if steps up to `border` are saved, and how often it asks."""
    asked: list[int] = []

    def saves(step: int) -> bool:
        asked.append(step)
        return step <= border

    try:
        found = call(answer, saves, _STEPS)
    except NotYet:  # None is an answer only after a question
        if not asked:
            raise NotYet from None
        found = None
    if outside := [step for step in asked if not 0 <= step < _STEPS]:
        raise Wrong(f"it tries step {outside[0]}: the steps go from 0 to {_STEPS - 1}.")
    if broken := [step for step in asked if step != int(step)]:
        raise Wrong(f"it tries step {broken[0]}: whole steps only (// instead of /?).")
    return (None if found is None else _whole(found)), len(asked)


def _whole(found: Any) -> int:
    try:
        number = float(found)
    except (TypeError, ValueError):
        raise Wrong(f"it returns {found!r}: expected a step, or None.") from None
    if number != round(number):
        raise Wrong(f"it returns {found!r}: expected a whole step.")
    return round(number)


def _border_mistake(found: int | None, border: int) -> str:
    if found is None:
        return f"where step {border} is the last that is saved it returns None."
    if found == border + 1:
        return f"it returns {found}, the first step that is too late: expected {border}, the last in time."
    if found == border - 1:
        return f"it returns {found}: step {border} is still in time. Does the search stop one too early?"
    return f"it returns {found}: expected {border}, the last step that is saved."


@checker("Choose an alarm")
def check_alarm(answer: Any, unseen: pd.DataFrame, by: int) -> str:
    """One alarm with its threshold, such as {"score": 10}, which the checker tries on unseen runs.

    Args:
        answer: a column of `course_lib.studies.alarms.ALARMS` and its threshold.
        unseen: signals of runs that the reader did not use to choose.
        by: the last step at which an alarm comes in time.
    """
    name, threshold = _chosen(answer)
    label = ALARMS[name].label
    seen = warnings_of(unseen, {name: threshold})
    failed, learnt = seen[~seen["learnt"]], seen[seen["learnt"]]
    false = learnt[learnt[name].notna()]
    if len(false):
        run = false.iloc[0]
        arm = LABELS.get(run["arm"], run["arm"])
        raise Wrong(
            f"{label}: false alarm at step {run[name]} of “{arm}”, seed {run['seed']}, a run that learns "
            f"({len(false)} of {len(learnt)} such runs)."
        )
    missed = failed[failed[name].isna()]
    if len(missed):
        raise Wrong(f"{label}: it keeps still in {len(missed)} of {len(failed)} runs that fail.")
    late = failed[failed[name] > by]
    if len(late):
        raise Wrong(
            f"{label}: no false alarm, but it goes off at step {late[name].max()}; after step {by} no bound "
            "saved the run any more. Which probe looks at the step itself?"
        )
    return (
        f"{label} beyond {threshold:g}: by step {failed[name].max()} in all {len(failed)} runs that fail, "
        f"never in the {len(learnt)} that learn."
    )


def _chosen(answer: Any) -> tuple[str, float]:
    if not isinstance(answer, Mapping):
        raise Wrong('expected one alarm and its threshold, such as {"score": 10}.')
    if not answer or any(value is Ellipsis or key is Ellipsis for key, value in answer.items()):
        raise NotYet
    if len(answer) > 1:
        raise Wrong(f"expected one alarm, these are {len(answer)}.")
    ((name, threshold),) = answer.items()
    try:
        return checks.choice("alarm", name, ALARMS), checks.number("threshold", threshold)
    except ValueError as error:
        raise Wrong(f"{error}.") from None


CARRIER_CLAIMS = {
    "a": "On copy, bounding the steps of W_q and W_k alone saves a run without warmup.",
    "b": "On copy, leaving out the warmup of W_q and W_k alone wrecks the run.",
    "c": "On copy, a crashed run can be saved at step 20: put W_q and W_k back, and bound the blocks.",
    "d": "On copy, putting back everything else instead saves it just as well.",
    "e": "On text, too, bounding the steps of W_q and W_k alone saves a run without warmup.",
    "f": "On copy, embeddings can be shocked at ten times the learning rate and the run still learns.",
}
"""Claims that one might draw from the table of surgery; some hold."""

_SUPPORTED = "acf"
_EVIDENCE = {
    "a": "look at “bounded alone” of W_q, W_k on copy.",
    "b": "look at “shocked, lr × 1” of W_q, W_k: those runs learn. It takes three times the rate.",
    "c": "look at put-back of qk on copy.",
    "d": "look at put-back-all-but of qk: those runs end far from where put-back of qk does.",
    "e": "look at “bounded alone” of W_q, W_k on live: those runs stay above the bigram line.",
    "f": "look at “shocked, lr × 10” of the embeddings on copy.",
}


@checker("Who carries the crash")
def check_carriers(answer: Any) -> str:
    """The letters of the claims in `CARRIER_CLAIMS` that the surgery supports."""
    judge_claims(answer, CARRIER_CLAIMS, _SUPPORTED, _EVIDENCE)
    return "on copy W_q and W_k carry the crash; on text it is not theirs alone."
