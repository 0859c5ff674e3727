"""Checkers read an answer in any form, limit its time, and never fail themselves."""

import contextlib
import copy
import ctypes
import functools
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from course_lib.exercises.progress import record
from course_lib.exercises.result import NOT_QUITE, NOT_YET, PASSED, Result

SECONDS = 5.0
"""Seconds that an answer may compute, far more than a right one needs; the work of others does not count."""
PATIENCE = 60.0
"""Seconds after which the checker stops an answer that only waits."""

Array = npt.NDArray[np.floating[Any]]


class NotYet(Exception):
    """There is no answer yet."""


class Wrong(Exception):
    """The answer is wrong; the message says why, most likely."""


class _Stop(BaseException):
    """Ends an answer that takes too long; no `except Exception` stops it."""


def checker(
    exercise: str, prepare: Callable[[], object] | None = None
) -> Callable[[Callable[..., str]], Callable[..., Result]]:
    """Make a checker of a function that takes the answer and returns praise, or raises `NotYet` or `Wrong`.

    The checker always returns a `Result`. It runs in its own thread and stops after `SECONDS` of computing.
    Any other exception becomes the message. A pass is recorded as progress.

    `prepare` runs first, without a limit: torch loads for seconds before a process's first optimizer, and
    must not be interrupted.
    """

    def decorate(check: Callable[..., str]) -> Callable[..., Result]:
        @functools.wraps(check)
        def checked(answer: Any = None, *given: Any, **named: Any) -> Result:
            outcome: list[Result] = []
            stopwatch: list[Callable[[], float]] = []
            if prepare is not None and answer is not None:
                prepare()

            def work() -> None:
                stopwatch.append(_stopwatch())
                # Twice: a second one may arrive while the first is still on its way out.
                with contextlib.suppress(_Stop), contextlib.suppress(_Stop):
                    outcome.append(
                        _judge(exercise, functools.partial(check, answer, *given, **named), answer)
                    )

            thread = threading.Thread(target=work, daemon=True, name=f"check {exercise}")
            thread.start()
            _wait(thread, stopwatch)
            if outcome:
                problem = record(check.__name__) if outcome[0].passed else ""
                return replace(outcome[0], message=f"{outcome[0].message} {problem}".rstrip())
            _stop(thread)
            message = f"no answer within {SECONDS:.0f} seconds of computing. Is there a loop that never ends?"
            return Result(exercise, NOT_QUITE, message)

        return checked

    return decorate


def _judge(exercise: str, check: Callable[[], str], answer: Any) -> Result:
    try:
        if answer is None or answer is Ellipsis:
            raise NotYet
        return Result(exercise, PASSED, check())
    except NotYet:
        return Result(exercise, NOT_YET, "replace the … in the cell above, then run this cell again.")
    except Wrong as wrong:
        return Result(exercise, NOT_QUITE, str(wrong))
    except _Stop:
        raise
    except BaseException as error:
        return Result(exercise, NOT_QUITE, f"the answer cannot be read ({_named(error)}).")


def _stopwatch() -> Callable[[], float]:
    """A function that returns the seconds this thread has computed since now; on macOS, the whole process."""
    clock = time.process_time
    if hasattr(time, "pthread_getcpuclockid"):
        clock = functools.partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))
    start = clock()
    return lambda: clock() - start


def _wait(thread: threading.Thread, stopwatch: list[Callable[[], float]]) -> None:
    """Wait until a thread ends or its time is up; it puts its stopwatch into the list when it starts."""
    end = time.monotonic() + PATIENCE
    with contextlib.suppress(OSError):  # a thread's clock ends with the thread
        while thread.is_alive() and time.monotonic() < end:
            thread.join(0.05)
            if stopwatch and stopwatch[0]() > SECONDS:
                return


def _stop(thread: threading.Thread) -> None:
    """Raise `_Stop` in a thread: Python code ends at its next instruction, C code goes on."""
    for patience in (0.5, 1.0):
        ident = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_Stop))
        thread.join(patience)
        if not thread.is_alive():
            return


def call(function: Any, *arguments: Any, kept: tuple[Any, ...] = ()) -> Any:
    """Call the reader's function with copies of the arguments: first numpy arrays, then tensors if it fails.

    The arguments in `kept` come last and are not copied, because the function may change them.

    Raises:
        NotYet: the function returns None or `...`.
        Wrong: this is no function, or it fails.
    """
    if not callable(function):
        raise Wrong(f"this is {_short(function)}: expected the function itself, without parentheses.")
    try:
        answer = function(*copy.deepcopy(arguments), *kept)
    except _Stop:
        raise
    except BaseException as error:
        tensors = [torch.tensor(a) if isinstance(a, np.ndarray) else copy.deepcopy(a) for a in arguments]
        try:
            answer = function(*tensors, *kept)
        except _Stop:
            raise
        except BaseException:
            name = getattr(function, "__name__", "the function")
            given = ", ".join(map(_short, arguments + kept))
            raise Wrong(f"{name}({given}) fails with {_named(error)}.") from error
    if answer is None or answer is Ellipsis:
        raise NotYet
    return answer


def numbers(
    value: Any, shape: tuple[int, ...], what: str, hints: Mapping[tuple[int, ...], str] | None = None
) -> Array:
    """An answer (a number, list, array or tensor) as an array of `shape`; `hints`: wrong shape → message.

    Raises:
        NotYet: there is no answer.
        Wrong: the answer is not made of real numbers, or has another shape.
    """
    if value is None or value is Ellipsis:
        raise NotYet
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.numpy() if value.is_complex() else value.double().numpy()
    try:
        array = np.asarray(value)
        if hints and array.shape in hints:
            raise Wrong(hints[array.shape])
        if not np.iscomplexobj(array):
            array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise Wrong(f"{what} is {_short(value)}: expected numbers of shape {shape}.") from None
    if np.iscomplexobj(array):
        raise Wrong(f"{what} is complex: expected real numbers. Are these eigenvalues?")
    if array.shape != shape and array.size == 1 and shape == ():
        array = array.reshape(())
    if array.shape != shape:
        expected = "a single number" if shape == () else f"shape {shape}"
        raise Wrong(f"{what} has shape {array.shape}: expected {expected}.")
    return array


def close(a: npt.ArrayLike, b: npt.ArrayLike, tolerance: float = 2e-3) -> bool:
    """Whether two answers agree everywhere, up to `tolerance`; NaN agrees with nothing."""
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance))


Mistakes = Callable[..., Mapping[str, Any]]
"""A function of an answer's arguments: message → the result of that mistake, or a tuple of results."""


def diagnose(
    mistakes: Mistakes, case: Sequence[Any], given: Any, agree: Callable[[Any, Any], Any] = close
) -> str | None:
    """The message of the first known mistake whose result agrees with the given one."""
    with np.errstate(all="ignore"):
        for message, results in mistakes(*case).items():
            results = results if isinstance(results, tuple) else (results,)
            if any(agree(np.asarray(result, dtype=float), given) for result in results):
                return message
    return None


def judge_numbers(
    given: Array,
    right: Any,
    otherwise: str,
    mistakes: Mistakes = dict,
    case: Sequence[Any] = (),
    tolerance: float = 2e-3,
) -> None:
    """Raise `Wrong`, with a known mistake's message or `otherwise`, unless the numbers are right."""
    if not close(given, right, tolerance):
        raise Wrong(diagnose(mistakes, case, given) or otherwise)


def judge_rule(
    given: list[Any], right: Callable[..., Any], mistakes: Mistakes, cases: Sequence[tuple[Any, ...]]
) -> int | None:
    """The index of the first case answered differently from `right`, None if there is none.

    Raises:
        Wrong: a known mistake gives the same answers in all cases.
    """
    if given == [right(*case) for case in cases]:
        return None
    made = [mistakes(*case) for case in cases]
    for message in made[0]:
        if given == [results[message] for results in made]:
            raise Wrong(message)
    return next(i for i, case in enumerate(cases) if given[i] != right(*case))


def judge_claims(answer: Any, claims: Mapping[str, str], supported: str, evidence: Mapping[str, str]) -> None:
    """Whether an answer has the letters of the `supported` claims, and no others.

    Args:
        answer: letters such as {"a", "c"}, upper or lower case, in any collection.
        claims: letter → claim.
        supported: the letters of the claims that hold.
        evidence: letter → what shows or refutes the claim.

    Raises:
        NotYet: there is no answer.
        Wrong: this is no collection of the claims' letters, or it has a letter too many, or lacks one.
    """
    if not isinstance(answer, Iterable):
        raise Wrong("expected letters, such as {'a', 'b'}.")
    given = {str(letter).strip().lower() for letter in islice(answer, 99) if letter is not Ellipsis}
    given -= {"", "…", "...", ",", "."}
    if not given:
        raise NotYet
    if unknown := sorted(given - set(claims)):
        raise Wrong(f"{unknown[0]!r} is no claim: expected letters from a to {max(claims)}.")
    if wrong := sorted(given - set(supported)):
        raise Wrong(f"{wrong[0]}: {evidence[wrong[0]]}")
    if missing := sorted(set(supported) - given):
        raise Wrong(f"nothing wrong so far, but {missing[0]} is missing: {evidence[missing[0]]}")


def judge_cases(
    answer: Any,
    right: Mapping[str, str],
    words: Iterable[str],
    why: Mapping[str, Mapping[str, str]],
    what: str,
    otherwise: str = "",
) -> None:
    """Whether an answer has the right word for each of several cases.

    Args:
        answer: a dictionary case → word.
        right: case → its word.
        words: all words that may be chosen.
        why: case → word → the reason why this word is wrong there.
        what: what a word is called, such as "verdict".
        otherwise: a message for words that `why` does not have; {case} and {word} are filled in.

    Raises:
        NotYet: there is no answer.
        Wrong: a word is wrong, unknown or missing.
    """
    if not isinstance(answer, Mapping):
        raise Wrong(f"expected a dictionary such as {{'A': {next(iter(right.values()))!r}, …}}.")
    given = {str(case).strip().upper(): word for case, word in answer.items()}
    missing = [case for case in right if given.get(case) in (None, Ellipsis, "", "…", "...")]
    if len(missing) == len(right):
        raise NotYet
    for case, expected in right.items():
        if case in missing:
            raise Wrong(f"run {case} has no {what} yet.")
        unknown = f"{given[case]!r} is no {what}: expected one of {', '.join(words)}."
        word = known_word(given[case], words, unknown)
        if word != expected:
            raise Wrong(why[case].get(word) or otherwise.format(case=case, word=word))


def known_word(value: Any, words: Iterable[str], message: str) -> str:
    """The word that a reader means: written out, abbreviated, or misspelt.

    Raises:
        Wrong: no word is close; `message` says so.
    """
    text = str(value).strip().lower().replace("τ", "tau")
    names = tuple(words)
    near = [name for name in names if text and name.startswith(text)] or get_close_matches(text, names, n=1)
    if not near:
        raise Wrong(message)
    return near[0]


def _short(value: Any) -> str:
    text = np.array2string(value, precision=3) if isinstance(value, np.ndarray) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "…"


def _named(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
