"""Permits: a producer waits for room, unless a checkpoint that must not wait lends it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmflow.runtime.channels import Permits, TaskCanceledError

WAIT_S = 20.0


def in_thread(step: Callable[[], object]) -> threading.Thread:
    """A thread that does one thing."""
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> bool:
    """Whether a thread comes to its end in time."""
    thread.join(WAIT_S)
    return not thread.is_alive()


def waits(permits: Permits) -> None:
    """Until somebody waits for a permit."""
    while permits.blocked_s == 0:
        threading.Event().wait(0.001)


def never() -> None:
    raise AssertionError("nothing was repaid")


def test_lending_lets_go_on_who_waits_and_who_comes() -> None:
    """What was borrowed is owed, and paid by what comes back first."""
    permits = Permits(1)
    permits.take()
    waiting = in_thread(permits.take)
    waits(permits)
    permits.lend()
    assert ended(waiting)
    permits.take()
    repaid: list[bool] = []
    assert permits.owes(lambda: repaid.append(True))
    permits.end_lending()
    permits.give()
    assert repaid == []
    permits.give()
    assert repaid == [True]
    assert not permits.owes(never)
    after = in_thread(permits.take)
    permits.give()
    assert ended(after)


def test_after_lending_a_producer_waits_again() -> None:
    """What was put in to wake it is no permit."""
    permits = Permits(0)
    permits.lend()
    permits.end_lending()
    waiting = in_thread(permits.take)
    waits(permits)
    assert waiting.is_alive()
    permits.give()
    assert ended(waiting)


def test_waiting_for_all_is_broken_by_lending_and_goes_on() -> None:
    """Whoever waits for the last frames has an order to follow, and waits on."""
    permits = Permits(2)
    permits.take()
    answers: list[bool] = []
    waiting = in_thread(lambda: answers.append(permits.take_all()))
    waits(permits)
    permits.lend()
    assert ended(waiting)
    permits.end_lending()
    permits.give()
    assert answers == [False]
    assert permits.take_all()


def test_cancelling_beats_lending() -> None:
    """A cancelled task ends, whichever came first."""
    permits = Permits(0)
    permits.cancel()
    permits.lend()
    with pytest.raises(TaskCanceledError):
        permits.take()
    permits = Permits(0)
    permits.lend()
    permits.cancel()
    permits.take()
    with pytest.raises(TaskCanceledError):
        permits.take()


@given(st.integers(0, 3), st.lists(st.sampled_from(["take", "give", "lend", "end"]), max_size=60))
def test_permits_are_neither_lost_nor_made(count: int, steps: list[str]) -> None:
    """However lending is mixed in: what was taken is owed as far as it was not there, and all comes back."""
    permits = Permits(count)
    taken = lent = 0
    for step in steps:
        if step == "take" and (taken < count or lent):
            permits.take()
            taken += 1
        elif step == "give" and taken:
            permits.give()
            taken -= 1
        elif step == "lend":
            permits.lend()
            lent += 1
        elif step == "end" and lent:
            permits.end_lending()
            lent -= 1
        assert max(0, taken - count) <= permits._owed <= taken
    for _ in range(taken):
        permits.give()
    assert permits._owed == 0
    for _ in range(count):
        permits.take()
