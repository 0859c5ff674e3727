"""Schedules: factors of the base learning rate, step by step."""

import math
from collections.abc import Callable, Sequence

from course_lib import checks

SCHEDULES = ("constant", "cosine")
COSINE_END = 0.1
"""Factor at the end of a cosine."""

Schedule = str | Sequence[float] | Callable[[int], float]


def tabulate(schedule: Schedule, steps: int) -> str | tuple[float, ...]:
    """Convert a schedule to what a config keeps: a name, or one factor per step.

    A function is evaluated once for every step, so that a run can be saved, restored and forked.
    """
    if isinstance(schedule, str):
        return checks.choice("schedule", schedule, SCHEDULES)
    if not callable(schedule) and not isinstance(schedule, Sequence):
        raise ValueError(
            f"schedule is {schedule!r}: expected {' or '.join(SCHEDULES)}, a function of the step, or a list"
        )
    factors = [schedule(t) for t in range(steps)] if callable(schedule) else list(schedule)
    if len(factors) < steps:
        raise ValueError(f"schedule has {len(factors)} factors: expected one for each of the {steps} steps")
    return tuple(
        checks.number(f"schedule[{t}]", f, "a factor of at least 0", zero=True)
        for t, f in enumerate(factors[:steps])
    )


def schedule_factor(schedule: Schedule, step: int, steps: int) -> float:
    """Factor of the learning rate at update `step` (from 0) of `steps`."""
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return COSINE_END + (1 - COSINE_END) * 0.5 * (1 + math.cos(math.pi * step / steps))
    return float(schedule(step) if callable(schedule) else schedule[step])


def warmup_factor(step: int, warmup: int) -> float:
    """Linear warmup: 1/warmup at the first update, 1 from update `warmup` − 1 on."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0
