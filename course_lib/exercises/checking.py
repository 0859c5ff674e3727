"""How checkers look at answers: in any form, with a time limit, never failing themselves."""

import contextlib
import copy
import ctypes
import functools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
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
"""How long an answer may compute: far longer than any right one does. Other programs' work does not count."""
PATIENCE = 60.0
"""Seconds after which an answer that computes nothing is given up."""

Array = npt.NDArray[np.float64]


class NotYet(Exception):
    """There is no answer yet."""


class Wrong(Exception):
    """The answer is wrong; the message says why, most likely."""


class _Stop(BaseException):
    """Raised inside an answer that takes too long (no `except Exception` holds it up)."""


def checker(
    exercise: str, prepare: Callable[[], object] | None = None
) -> Callable[[Callable[..., str]], Callable[..., Result]]:
    """Make a checker of a function that returns praise, or raises `NotYet` or `Wrong`.

    Its first argument is the answer; others are handed on as they are.

    The checker returns a `Result` whatever the answer is: it runs in a thread of its own, is given up after
    `SECONDS` of computing, and what it raises becomes the message. That it has passed is kept as progress.

    What `prepare` does is done before, without a limit: torch loads for seconds before the first optimizer of
    a process, and must not be interrupted in that.
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
                return _kept(outcome[0], check.__name__)
            _stop(thread)
            message = f"no answer within {SECONDS:.0f} seconds of computing. Is there a loop that never ends?"
            return Result(exercise, NOT_QUITE, message)

        return checked

    return decorate


def _kept(result: Result, name: str) -> Result:
    """The result, once a reader's success is kept; with a line about it if that failed."""
    problem = record(name) if result.passed else ""
    return replace(result, message=f"{result.message} {problem}") if problem else result


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
        message = f"the answer cannot be read ({_named(error)})."
        return Result(exercise, NOT_QUITE, message)


def _stopwatch() -> Callable[[], float]:
    """A function that tells how many seconds this thread has computed since; on macOS, the whole process."""
    clock = time.process_time
    if hasattr(time, "pthread_getcpuclockid"):
        clock = functools.partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))
    start = clock()
    return lambda: clock() - start


def _wait(thread: threading.Thread, stopwatch: list[Callable[[], float]]) -> None:
    """Wait for a thread to end, but not for ever; `stopwatch` is its own, once it has begun."""
    end = time.monotonic() + PATIENCE
    with contextlib.suppress(OSError):  # it has ended, and its clock with it
        while thread.is_alive() and time.monotonic() < end:
            thread.join(0.05)
            if stopwatch and stopwatch[0]() > SECONDS:
                return


def _stop(thread: threading.Thread) -> None:
    """Raise `_Stop` in a thread; Python code ends at its next instruction, code in C goes on."""
    for patience in (0.5, 1.0):
        ident = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_Stop))
        thread.join(patience)
        if not thread.is_alive():
            return


def call(function: Any, *arguments: Any, kept: tuple[Any, ...] = ()) -> Any:
    """The reader's function on copies of the arguments: numpy arrays, or tensors if it wants those.

    What is `kept` follows behind them as it is, for functions that are meant to change it.

    Raises:
        NotYet: it returns None or `...`.
        Wrong: it is no function, or it fails.
    """
    if not callable(function):
        raise Wrong(f"this is {_short(function)}: expected the function itself, without parentheses.")
    try:
        answer = function(*copy.deepcopy(arguments), *kept)
    except _Stop:
        raise
    except BaseException as error:
        answer = _with_tensors(function, arguments, kept, error)
    if answer is None or answer is Ellipsis:
        raise NotYet
    return answer


def _with_tensors(
    function: Callable[..., Any], arguments: tuple[Any, ...], kept: tuple[Any, ...], error: BaseException
) -> Any:
    tensors = [torch.tensor(a) if isinstance(a, np.ndarray) else copy.deepcopy(a) for a in arguments]
    try:
        return function(*tensors, *kept)
    except _Stop:
        raise
    except BaseException:
        name = getattr(function, "__name__", "the function")
        given = ", ".join(map(_short, arguments + kept))
        raise Wrong(f"{name}({given}) fails with {_named(error)}.") from error


def numbers(value: Any, shape: tuple[int, ...], what: str) -> Array:
    """An answer as an array of `shape`: from numbers, lists, arrays, tensors.

    Raises:
        NotYet: there is no answer.
        Wrong: these are no numbers, or not as many as expected.
    """
    if value is None or value is Ellipsis:
        raise NotYet
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.numpy() if value.is_complex() else value.double().numpy()
    try:
        array = np.asarray(value)
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


def close(a: Array | float, b: Array | float, tolerance: float = 2e-3) -> bool:
    """Whether two answers agree everywhere, up to `tolerance`; NaN agrees with nothing."""
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance))


Diagnosis = tuple[Callable[..., Any], str]
"""A known mistake, as a function of the arguments, and what to say about it."""


def diagnose(wrong: tuple[Diagnosis, ...], arguments: tuple[Any, ...], given: Array) -> str | None:
    """The message of the first known mistake that gives the same numbers."""
    with np.errstate(all="ignore"):
        for mistake, message in wrong:
            if close(np.asarray(mistake(*arguments), dtype=float), given):
                return message
    return None


def letters(answer: Any, choices: Iterable[str]) -> set[str]:
    """The letters of an answer such as {"a", "c"}, in any case and collection.

    Raises:
        NotYet: there is none.
        Wrong: these are no letters, or one is not among the choices.
    """
    if not isinstance(answer, Iterable):
        raise Wrong("expected letters, such as {'a', 'b'}.")
    given = {str(letter).strip().lower() for letter in islice(answer, 99) if letter is not Ellipsis}
    given -= {"", "…", "...", ",", "."}
    if not given:
        raise NotYet
    unknown = sorted(given - set(choices))
    if unknown:
        raise Wrong(f"{unknown[0]!r} is no claim: expected letters from a to {max(choices)}.")
    return given


def judge_claims(
    answer: Any, claims: Mapping[str, str], refuted: Mapping[str, str], missed: Mapping[str, str]
) -> None:
    """Whether an answer has the letters of those claims that hold, and no others.

    Args:
        answer: letters, in any collection.
        claims: letter → claim.
        refuted: letter → what speaks against it, of the claims that do not hold.
        missed: letter → what shows it, of those that do.

    Raises:
        NotYet: there is no answer.
        Wrong: a claim too many, or one too few.
    """
    given = letters(answer, claims)
    if wrong := sorted(given & set(refuted)):
        raise Wrong(refuted[wrong[0]])
    if missing := sorted(set(missed) - given):
        raise Wrong("nothing wrong so far, but " + missed[missing[0]])


def judge_cases(
    answer: Any,
    right: Mapping[str, str],
    read: Callable[[Any], str],
    why: Mapping[tuple[str, str], str],
    what: str,
    otherwise: str = "",
) -> None:
    """Whether an answer has the right word for each of several cases.

    Args:
        answer: a dictionary case → word.
        right: case → its word.
        read: makes one of the known words of what a reader wrote.
        why: (case, word) → what speaks against this word there.
        what: what a word is called, such as "verdict".
        otherwise: a message for words that `why` does not have; {case} and {word} are filled in.

    Raises:
        NotYet: there is no answer.
        Wrong: a word is wrong, unknown or missing.
    """
    if not isinstance(answer, Mapping):
        example = next(iter(right.values()))
        raise Wrong(f"expected a dictionary such as {{'A': {example!r}, …}}.")
    given = {str(case).strip().upper(): word for case, word in answer.items()}
    missing = [case for case in right if given.get(case) in (None, Ellipsis, "", "…", "...")]
    if len(missing) == len(right):
        raise NotYet
    for case, expected in right.items():
        if case in missing:
            raise Wrong(f"run {case} has no {what} yet.")
        word = read(given[case])
        if word != expected:
            raise Wrong(why.get((case, word)) or otherwise.format(case=case, word=word))


def known_word(value: Any, words: Iterable[str], message: str) -> str:
    """The word that a reader means: written out, begun, or with a slip.

    Raises:
        Wrong: it is none of them; `message` says so.
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
