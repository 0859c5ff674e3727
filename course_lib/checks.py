"""Checks of input. Each error is one line: the value, what was expected, what to try."""

import math
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any


def number(name: str, value: Any, expected: str = "a positive number", *, zero: bool = False) -> float:
    """Return `value` as a float if it is finite and positive, or zero if `zero` allows it."""
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            plain = float(value)
        except OverflowError:  # an int too large for a float
            plain = math.inf
        if math.isfinite(plain) and (plain > 0 or (zero and plain == 0)):
            return plain
    raise ValueError(f"{name} is {value!r}: expected {expected}")


def count(name: str, value: Any, *, least: int = 1, hint: str = "") -> int:
    """Return `value` as an int if it is a whole number of at least `least`."""
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least:
        return int(value)
    raise ValueError(f"{name} is {value!r}: expected a whole number of at least {least}{hint}")


def choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`; the error names the nearest one."""
    names = list(choices)
    if value in names:
        return str(value)
    near = get_close_matches(str(value), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name} is {value!r}: expected one of {', '.join(names)}{hint}")


def nearest_divisor(number: int, wanted: int) -> int:
    """Return the divisor of `number` whose ratio to `wanted` is nearest to 1."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return min(divisors, key=lambda d: abs(math.log(d / wanted)))


def flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False."""
    if isinstance(value, bool):
        return value
    raise ValueError(f"{name} is {value!r}: expected True or False")
