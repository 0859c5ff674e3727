"""Ctrl-C is deferred to the end of a block."""

import signal
import threading

import pytest

from course_lib.runs.interrupt import DeferredInterrupt


@pytest.fixture(autouse=True)
def handler():
    """Python's own handler, also where the tests were started with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def test_the_block_comes_to_its_end():
    done = []

    def block():
        with DeferredInterrupt() as interrupt:
            ctrl_c()
            ctrl_c()
            done.append(interrupt.asked)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == [True]


def test_a_consumed_one_is_not_passed_on():
    with DeferredInterrupt(consume=True) as interrupt:
        assert not interrupt.asked
        ctrl_c()
    assert interrupt.asked


def test_an_inner_block_tells_the_outer_one():
    with DeferredInterrupt(consume=True) as outer:
        with DeferredInterrupt():
            ctrl_c()
            assert not outer.asked
        assert outer.asked


@pytest.mark.parametrize("breaks", [False, True])
def test_a_second_one(breaks):
    reached = []
    try:
        with DeferredInterrupt(consume=True, second_breaks=breaks):
            ctrl_c()
            ctrl_c()
            reached.append(True)
    except KeyboardInterrupt:
        assert breaks
    assert bool(reached) is not breaks


def test_other_threads_have_nothing_to_defer():
    asked = []

    def work():
        with DeferredInterrupt() as interrupt:
            asked.append(interrupt.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert asked == [False]
