"""The checks of state backends that are about state that expires."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from zmflow.errors import StateError
from zmflow.state.backend import KeyedStateBackend
from zmflow.state.descriptors import (
    AggregatingStateDescriptor,
    ListStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    StateDescriptor,
    ValueStateDescriptor,
)
from zmflow.state.ttl import StateTtlConfig
from zmflow.testing.state_backend_checks import (
    MAX_PARALLELISM,
    MakeBackend,
    StateBackendChecks,
    VirtualClock,
    holding,
)
from zmflow.testing.state_backend_machine import Average

__all__ = ["TtlChecks"]

TTL_MS = 100


def _builder() -> Any:
    """Without cleanup in the background, so that what is there does not depend on what else is used."""
    return StateTtlConfig.new_builder(TTL_MS).disable_cleanup_in_background()


class TtlChecks(StateBackendChecks):
    """State expires in processing time, each value, element and entry on its own."""

    @pytest.fixture(autouse=True)
    def _only_with_ttl(self, request: pytest.FixtureRequest, make_backend: MakeBackend) -> None:
        """The checks of this class are for backends that say they can do it."""
        if hasattr(TtlChecks, request.function.__name__):
            backend = make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), VirtualClock())
            if not backend.capabilities.ttl:
                with pytest.raises(StateError):
                    backend.get_state(_expiring(ValueStateDescriptor[int]("value"), _builder().build()))
                pytest.skip("The backend does not claim to do it, and refuses to.")

    def test_a_value_expires(self, backend: KeyedStateBackend, clock: VirtualClock) -> None:
        """At its time to live, not before; a write makes it young again, a read does not."""
        state = backend.get_state(_expiring(ValueStateDescriptor[int]("value"), _builder().build()))
        holding(backend, state, {"a": 1})
        clock.now_ms += TTL_MS - 1
        assert state.value() == 1
        state.update(2)
        clock.now_ms += TTL_MS - 1
        assert state.value() == 2
        clock.now_ms += 1
        assert state.value() is None
        assert list(backend.keys("value")) == [], "reading removes what has expired"

    def test_reads_count_where_they_shall(self, backend: KeyedStateBackend, clock: VirtualClock) -> None:
        """With OnReadAndWrite what is used stays."""
        config = _builder().update_ttl_on_read_and_write().build()
        value = backend.get_state(_expiring(ValueStateDescriptor[int]("value"), config))
        elements = backend.get_state(_expiring(ListStateDescriptor[int]("list"), config))
        entries = backend.get_state(_expiring(MapStateDescriptor[str, int]("map"), config))
        backend.set_current_key("a")
        value.update(1)
        elements.add_all([1, 2])
        entries.put_all({"read": 1, "not read": 2})
        for _ in range(3):
            clock.now_ms += TTL_MS - 1
            assert (value.value(), list(elements.get()), entries.get("read")) == (1, [1, 2], 1)
        assert list(entries.items()) == [("read", 1)]

    def test_expired_state_may_be_seen_once(self, backend: KeyedStateBackend, clock: VirtualClock) -> None:
        """ReturnExpiredIfNotCleanedUp: the read that finds it expired shows it, and removes it."""
        config = _builder().return_expired_if_not_cleaned_up().build()
        value = backend.get_state(_expiring(ValueStateDescriptor[int]("value"), config))
        elements = backend.get_state(_expiring(ListStateDescriptor[int]("list"), config))
        entries = backend.get_state(_expiring(MapStateDescriptor[str, int]("map"), config))
        backend.set_current_key("a")
        value.update(1)
        elements.add(1)
        entries.put_all({"x": 1, "y": 2})
        clock.now_ms += TTL_MS
        elements.add(2)
        assert (value.value(), value.value()) == (1, None)
        assert (list(elements.get()), list(elements.get())) == ([1, 2], [2])
        assert (entries.get("x"), entries.get("x"), list(entries), list(entries)) == (1, None, ["y"], [])

    def test_elements_of_a_list_expire_one_by_one(
        self, backend: KeyedStateBackend, clock: VirtualClock
    ) -> None:
        """The last minutes of a stream, without a timer."""
        state = backend.get_state(_expiring(ListStateDescriptor[int]("list"), _builder().build()))
        backend.set_current_key("a")
        for element in range(4):
            state.add(element)
            clock.now_ms += TTL_MS // 4
        assert list(state.get()) == [1, 2, 3]
        clock.now_ms += TTL_MS // 2
        assert list(state.get()) == [3]
        clock.now_ms += TTL_MS
        assert list(state.get()) == []
        assert list(backend.keys("list")) == []

    def test_entries_of_a_map_expire_one_by_one(
        self, backend: KeyedStateBackend, clock: VirtualClock
    ) -> None:
        """An entry that is put again is young again, the others are not; an expired one is in no view."""
        state = backend.get_state(_expiring(MapStateDescriptor[str, int]("map"), _builder().build()))
        backend.set_current_key("a")
        state.put_all({"x": 1, "y": 2})
        clock.now_ms += TTL_MS - 1
        state.put("x", 3)
        clock.now_ms += 1
        assert (state.get("y"), "y" in state, "x" in state) == (None, False, True)
        assert (list(state.items()), list(state.values()), list(state)) == ([("x", 3)], [3], ["x"])
        clock.now_ms += TTL_MS
        assert state.is_empty()
        assert list(backend.keys("map")) == []

    def test_expired_results_are_begun_anew(self, backend: KeyedStateBackend, clock: VirtualClock) -> None:
        """Adding to an expired sum gives what was added."""
        config = _builder().build()
        total = backend.get_state(_expiring(ReducingStateDescriptor[int]("sum", operator.add), config))
        average = backend.get_state(
            _expiring(AggregatingStateDescriptor[int, Any, float]("average", Average()), config)
        )
        backend.set_current_key("a")
        for number in (2, 4):
            total.add(number)
            average.add(number)
        assert (total.get(), average.get()) == (6, 3.0)
        clock.now_ms += TTL_MS
        total.add(7)
        average.add(7)
        assert (total.get(), average.get()) == (7, 7.0)
        clock.now_ms += TTL_MS
        assert (total.get(), average.get()) == (None, None)

    def test_expired_namespaces_bring_nothing_into_a_merge(
        self, backend: KeyedStateBackend, clock: VirtualClock
    ) -> None:
        """What nobody can see any more does not come back by merging."""
        config = _builder().build()
        total = backend.get_state(_expiring(ReducingStateDescriptor[int]("sum", operator.add), config), "old")
        elements = backend.get_state(_expiring(ListStateDescriptor[int]("list"), config), "old")
        backend.set_current_key("a")
        total.add(1)
        elements.add(1)
        clock.now_ms += TTL_MS
        for state in (total, elements):
            state.set_current_namespace("new")
        total.add(2)
        elements.add(2)
        total.merge_namespaces("new", ["old"])
        elements.merge_namespaces("new", ["old"])
        assert (total.get(), list(elements.get())) == (2, [2])

    def test_disabled_means_that_nothing_expires(
        self, backend: KeyedStateBackend, clock: VirtualClock
    ) -> None:
        """``UpdateType.Disabled`` is as good as no configuration."""
        config = _builder().set_update_type(StateTtlConfig.UpdateType.Disabled).build()
        state = backend.get_state(_expiring(ValueStateDescriptor[int]("value"), config))
        holding(backend, state, {"a": 1})
        clock.now_ms += TTL_MS * 1000
        assert state.value() == 1

    def test_cleanup_finds_what_nobody_reads(self, backend: KeyedStateBackend, clock: VirtualClock) -> None:
        """Else keys that never come again would stay for ever. Any access of the state may do a little."""
        config = StateTtlConfig.new_builder(TTL_MS).cleanup_incrementally(10, False).build()
        state = backend.get_state(_expiring(ValueStateDescriptor[int]("value"), config))
        holding(backend, state, {key: key for key in range(200)})
        clock.now_ms += TTL_MS
        backend.set_current_key("used")
        for _ in range(200):
            state.update(1)
        assert list(backend.keys("value")) == ["used"]

    def test_cleanup_for_every_record(self, backend: KeyedStateBackend, clock: VirtualClock) -> None:
        """Where it is asked for, records that do not touch the state clean up, too."""
        config = StateTtlConfig.new_builder(TTL_MS).cleanup_incrementally(10, True).build()
        state = backend.get_state(_expiring(ValueStateDescriptor[int]("value"), config))
        holding(backend, state, {key: key for key in range(200)})
        clock.now_ms += TTL_MS
        for _ in range(200):
            backend.set_current_key("used")
        assert list(backend.keys("value")) == []

    def test_full_snapshots_leave_expired_state_out(
        self, backend: KeyedStateBackend, clock: VirtualClock
    ) -> None:
        """With ``cleanup_full_snapshot`` a checkpoint does not grow with what is dead."""
        config = _builder().cleanup_full_snapshot().build()
        elements = backend.get_state(_expiring(ListStateDescriptor[int]("list"), config))
        value = backend.get_state(_expiring(ValueStateDescriptor[int]("value"), config))
        backend.set_current_key("a")
        value.update(1)
        elements.add(1)
        clock.now_ms += TTL_MS
        elements.add(2)
        (snapshot,) = backend.snapshot(backend.current_key_group).states
        assert (snapshot.name, snapshot.entries) == ("list", [("a", None, [(2, clock.now_ms)])])

    def test_age_is_restored(self, make_backend: MakeBackend, clock: VirtualClock) -> None:
        """A restart makes nothing young. How long state lives is the new job's to say."""
        old = make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock)
        state = old.get_state(_expiring(ValueStateDescriptor[int]("value"), _builder().build()))
        holding(old, state, {"a": 1})
        group = old.current_key_group
        clock.now_ms += TTL_MS - 1
        for ttl_ms, expected in ((TTL_MS, 1), (TTL_MS - 1, None), (TTL_MS * 2, 1)):
            new = make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock)
            new.restore(group, old.snapshot(group))
            config = _builder().set_ttl(ttl_ms).build()
            state = new.get_state(_expiring(ValueStateDescriptor[int]("value"), config))
            new.set_current_key("a")
            assert state.value() == expected

    @pytest.mark.parametrize("restored_first", [True, False])
    def test_expiry_can_be_added_and_taken_away(
        self, make_backend: MakeBackend, clock: VirtualClock, restored_first: bool
    ) -> None:
        """A job restored with a time to live it had not, or without, keeps its state: touched now."""
        config = _builder().build()
        for with_ttl in (True, False):
            old, new = (make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock) for _ in range(2))
            descriptor = MapStateDescriptor[str, int]("map")
            changed = MapStateDescriptor[str, int]("map")
            (changed if with_ttl else descriptor).enable_time_to_live(config)
            state = old.get_state(descriptor)
            old.set_current_key("a")
            state.put("x", 1)
            group = old.current_key_group
            clock.now_ms += TTL_MS // 2
            if restored_first:
                new.restore(group, old.snapshot(group))
            state = new.get_state(changed)
            if not restored_first:
                new.restore(group, old.snapshot(group))
            new.set_current_key("a")
            clock.now_ms += TTL_MS - 1
            assert list(state.items()) == [("x", 1)]
            clock.now_ms += 1
            assert list(state.items()) == ([] if with_ttl else [("x", 1)])

    def test_one_state_has_one_time_to_live(self, backend: KeyedStateBackend) -> None:
        """Two descriptors of one name that disagree are a mistake that says what it is."""
        backend.get_state(_expiring(ValueStateDescriptor[int]("value"), _builder().build()))
        backend.get_state(_expiring(ValueStateDescriptor[int]("value"), _builder().build()))
        with pytest.raises(StateError, match="value"):
            backend.get_state(ValueStateDescriptor[int]("value"))


def _expiring(descriptor: Any, config: StateTtlConfig) -> Any:
    assert isinstance(descriptor, StateDescriptor)
    descriptor.enable_time_to_live(config)
    return descriptor
