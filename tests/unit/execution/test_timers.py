"""Timers: identity, order, registration from callbacks, key groups, and how much the queue holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.errors import StateError
from zmflow.execution.stream_operator import MAX_WATERMARK, MIN_WATERMARK
from zmflow.execution.timers import EMPTY_TIMES_MIN, TimerService
from zmflow.state.heap import HeapKeyedStateBackend
from zmflow.state.keys import key_group

GROUPS = 8


class Timers:
    """A service, its backend, and a record of what fired."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.backend = HeapKeyedStateBackend(GROUPS, range(GROUPS), lambda: self.now_ms)
        self.service = TimerService(self.backend, lambda: self.now_ms)
        self.fired: list[tuple[int, Any, Any]] = []

    def set(self, key: Any, *times: int, namespace: Any = None) -> None:
        """Event-time timers of a key."""
        self.backend.set_current_key(key)
        for time in times:
            self.service.register_event_time_timer(time, namespace)

    def fire(self, timestamp: int, key: Any, namespace: Any) -> None:
        """Writes down a timer."""
        assert self.backend.current_key == key
        self.fired.append((timestamp, key, namespace))

    def advance(self, watermark_ms: int) -> list[tuple[int, Any, Any]]:
        """What fires."""
        self.fired = []
        self.service.advance_watermark(watermark_ms, self.fire)
        return self.fired


def test_timers_fire_in_order_of_time_then_of_registration() -> None:
    """Up to and including the watermark; nobody else's key decides the order of one time."""
    timers = Timers()
    timers.set("b", 5, 3)
    timers.set("a", 5, 7)
    timers.set(1, 5)
    assert timers.advance(2) == []
    assert timers.advance(5) == [(3, "b", None), (5, "b", None), (5, "a", None), (5, 1, None)]
    assert timers.advance(MAX_WATERMARK) == [(7, "a", None)]
    assert timers.advance(MAX_WATERMARK) == []


def test_a_timer_is_key_namespace_and_time() -> None:
    """The same three are one timer; another namespace is another timer."""
    timers = Timers()
    timers.set("a", 5, 5)
    timers.set("a", 5, namespace="w")
    timers.set("a", 5, namespace="w")
    assert timers.advance(5) == [(5, "a", None), (5, "a", "w")]


def test_deletion_is_by_the_same_three() -> None:
    """What is not there is no error; a timer that is set again comes last."""
    timers = Timers()
    timers.set("a", 5)
    timers.set("b", 5)
    timers.service.delete_event_time_timer(6)
    timers.service.delete_event_time_timer(5, "w")
    timers.backend.set_current_key("a")
    timers.service.delete_event_time_timer(5)
    timers.service.delete_event_time_timer(5)
    timers.service.register_event_time_timer(5)
    assert timers.advance(5) == [(5, "b", None), (5, "a", None)]


def test_the_watermark_is_set_before_timers_fire() -> None:
    """A callback sees the new watermark; before the first one it is the least there is."""
    timers = Timers()
    timers.set("a", 5)
    seen = [timers.service.current_watermark()]
    timers.service.advance_watermark(9, lambda *_: seen.append(timers.service.current_watermark()))
    assert seen == [MIN_WATERMARK, 9]


def test_what_callbacks_set_fires_in_the_same_pass_in_its_place() -> None:
    """Before the rest when it is earlier, even than the timer that set it; not before a later pass beyond the
    watermark."""
    timers = Timers()
    timers.set("a", 5)
    timers.set("b", 5, 8)

    def fire(timestamp: int, key: Any, namespace: Any) -> None:
        timers.fire(timestamp, key, namespace)
        if (timestamp, key, namespace) == (5, "a", None):
            for time in (3, 5, 9, 11):
                timers.service.register_event_time_timer(time, "set by a")

    timers.service.advance_watermark(10, fire)
    assert timers.fired == [
        (5, "a", None),
        (3, "a", "set by a"),
        (5, "b", None),
        (5, "a", "set by a"),
        (8, "b", None),
        (9, "a", "set by a"),
    ]
    assert timers.service.event_time_timers() == [(11, "a", "set by a")]


def test_a_callback_can_take_back_what_is_about_to_fire() -> None:
    """Also when it has the same time, and when that leaves none."""
    timers = Timers()
    for key in ("a", "b", "c"):
        timers.set(key, 5)

    def fire(timestamp: int, key: Any, namespace: Any) -> None:
        timers.fire(timestamp, key, namespace)
        for other in ("b", "c"):
            timers.backend.set_current_key(other)
            timers.service.delete_event_time_timer(5)

    timers.service.advance_watermark(5, fire)
    assert timers.fired == [(5, "a", None)]
    assert timers.service.event_time_timers() == []


def test_a_late_timer_waits_for_the_next_watermark() -> None:
    """It does not fire where it is set."""
    timers = Timers()
    timers.advance(10)
    timers.set("a", 5)
    assert timers.advance(10) == [(5, "a", None)]


def test_processing_time_timers_wait_for_the_clock() -> None:
    """The next one is known, so that a task can sleep. Event time has nothing to do with it."""
    timers = Timers()
    timers.set("a", 5)
    service = timers.service
    assert service.next_processing_time_ms() is None
    service.register_processing_time_timer(20)
    service.register_processing_time_timer(10)
    assert service.next_processing_time_ms() == 10
    service.delete_processing_time_timer(10)
    assert service.next_processing_time_ms() == 20
    timers.now_ms = 25
    assert service.current_processing_time() == 25

    def fire(timestamp: int, key: Any, namespace: Any) -> None:
        timers.fire(timestamp, key, namespace)
        if timestamp < 24:
            service.register_processing_time_timer(timestamp + 2)

    service.advance_processing_time(25, fire)
    assert timers.fired == [(20, "a", None), (22, "a", None), (24, "a", None)]
    assert (service.next_processing_time_ms(), service.event_time_timers()) == (None, [(5, "a", None)])


def test_an_error_in_a_callback_goes_through() -> None:
    """The timer is gone, the others are there."""
    timers = Timers()
    timers.set("a", 5)
    timers.set("b", 5, 6)
    with pytest.raises(ZeroDivisionError):
        timers.service.advance_watermark(10, lambda *_: 1 // 0)
    assert timers.service.event_time_timers() == [(5, "b", None), (6, "b", None)]


@pytest.mark.parametrize("time", [1.5, "soon", None])
def test_times_are_whole_milliseconds(time: Any) -> None:
    """Others would stand in the queue beside them until a snapshot fails."""
    timers = Timers()
    timers.set("a", True)
    assert timers.advance(1) == [(1, "a", None)]
    with pytest.raises(StateError, match="whole milliseconds"):
        timers.service.register_event_time_timer(time)


def test_a_timer_needs_a_key() -> None:
    """There is none in ``open``."""
    with pytest.raises(StateError, match="no key is current"):
        Timers().service.register_event_time_timer(1)


def test_many_timers_of_one_time_are_one_entry_of_the_heap() -> None:
    """Windows of all keys end together; that is not a sort of them."""
    timers = Timers()
    for key in range(1000):
        timers.set(key, 100, 200)
    assert len(timers.service._event_time._heap) == 2
    assert [key for _, key, _ in timers.advance(100)] == list(range(1000))


def test_timers_that_are_moved_again_and_again_leave_nothing_behind() -> None:
    """A session's time-out is deleted and set anew with each record."""
    timers = Timers()
    timers.set("a", 0)
    for time in range(10_000):
        timers.service.delete_event_time_timer(time)
        timers.service.register_event_time_timer(time + 1)
    assert len(timers.service._event_time._heap) <= 2 * EMPTY_TIMES_MIN
    assert timers.advance(MAX_WATERMARK) == [(10_000, "a", None)]


def test_snapshots_are_by_key_group() -> None:
    """Every timer is in the group of its key; a group that is restored has exactly what it had."""
    timers = Timers()
    for key in range(20):
        timers.set(key, 5, 100 - key, namespace="w")
        timers.service.register_processing_time_timer(50)
    snapshot = timers.service.snapshot()
    for group, (event_time, clock) in snapshot.items():
        assert {key_group(key, GROUPS) for _, key, _ in event_time + clock} == {group}
    everything = timers.service.event_time_timers()
    assert sorted(timer for groups in snapshot.values() for timer in groups[0]) == sorted(everything)

    moved = Timers()
    for group, of_group in snapshot.items():
        moved.service.restore(group, of_group)
    assert sorted(moved.service.event_time_timers()) == sorted(everything)
    assert moved.service.next_processing_time_ms() == 50

    group = key_group(0, GROUPS)
    timers.set(0, 1, 2, 3)
    timers.backend.set_current_key(0)
    timers.service.delete_event_time_timer(5, "w")
    timers.service.restore(group, snapshot[group])
    assert sorted(timers.service.event_time_timers()) == sorted(everything)


actions = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "set", "delete", "advance"]),
        st.sampled_from("abc"),
        st.integers(0, 12),
        st.sampled_from([None, "w"]),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(actions)
def test_random_timers_fire_as_in_a_sorted_list(steps: list[tuple[str, str, int, Any]]) -> None:
    """Against the plainest model there is: a list in order of registration, sorted by time when time
    advances. Timers at even times set another one three later."""
    timers = Timers()
    model: list[tuple[int, str, Any]] = []
    expected: list[tuple[int, str, Any]] = []

    def fire(timestamp: int, key: Any, namespace: Any) -> None:
        timers.fire(timestamp, key, namespace)
        if timestamp % 2 == 0:
            timers.service.register_event_time_timer(timestamp + 3, namespace)

    for action, key, time, namespace in steps:
        timers.backend.set_current_key(key)
        timer = (time, key, namespace)
        if action == "set":
            timers.service.register_event_time_timer(time, namespace)
            model.extend([timer] if timer not in model else [])
        elif action == "delete":
            timers.service.delete_event_time_timer(time, namespace)
            model = [other for other in model if other != timer]
        else:
            timers.service.advance_watermark(time, fire)
            while due := sorted((other for other in model if other[0] <= time), key=lambda other: other[0]):
                model.remove(due[0])
                expected.append(due[0])
                following = (due[0][0] + 3, *due[0][1:])
                model.extend([following] if due[0][0] % 2 == 0 and following not in model else [])
    assert timers.fired == expected
    assert timers.service.event_time_timers() == sorted(model, key=lambda timer: timer[0])
