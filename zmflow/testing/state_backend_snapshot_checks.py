"""The checks of state backends that are about snapshots of key groups."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from zmflow.errors import StateError
from zmflow.state.backend import KeyedStateBackend
from zmflow.state.descriptors import (
    ListStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    StateKind,
    ValueStateDescriptor,
)
from zmflow.state.keys import key_group, key_group_range
from zmflow.state.snapshots import KeyGroupSnapshot, StateSnapshot
from zmflow.testing.state_backend_checks import (
    MAX_PARALLELISM,
    MakeBackend,
    StateBackendChecks,
    VirtualClock,
    holding,
)

__all__ = ["SnapshotChecks"]


class SnapshotChecks(StateBackendChecks):
    """Snapshots are exact, of one moment, and can be shared out anew."""

    def test_a_snapshot_says_what_it_holds(self, backend: KeyedStateBackend) -> None:
        """The form is public: a savepoint can be read by tools, and restored into another backend."""
        value = backend.get_state(ValueStateDescriptor[int]("value"))
        elements = backend.get_state(ListStateDescriptor[int]("list"), "window")
        entries = backend.get_state(MapStateDescriptor[str, int]("map"))
        backend.get_state(ReducingStateDescriptor[int]("nothing in it", operator.add))
        backend.set_current_key("a")
        value.update(1)
        elements.add_all([1, 2])
        entries.put("x", 3)
        snapshot = backend.snapshot(backend.current_key_group)
        assert snapshot.group == key_group("a", MAX_PARALLELISM)
        assert {state.name: state for state in snapshot.states} == {
            "value": StateSnapshot("value", StateKind.VALUE, False, False, [("a", None, 1)]),
            "list": StateSnapshot("list", StateKind.LIST, True, False, [("a", "window", [1, 2])]),
            "map": StateSnapshot("map", StateKind.MAP, False, False, [("a", None, {"x": 3})]),
        }

    def test_a_snapshot_is_of_one_moment(self, backend: KeyedStateBackend) -> None:
        """It is written down while the task goes on: what comes later is not in it."""
        value = backend.get_state(ValueStateDescriptor[int]("value"))
        elements = backend.get_state(ListStateDescriptor[int]("list"))
        entries = backend.get_state(MapStateDescriptor[str, int]("map"))
        backend.set_current_key("a")
        group = backend.current_key_group
        value.update(1)
        elements.add(1)
        entries.put("x", 1)
        snapshot = backend.snapshot(group)
        value.update(2)
        elements.add(2)
        entries.put("x", 2)
        entries.put("y", 2)
        for _again in range(2):  # restoring does not use a snapshot up, nor bind it to the backend
            backend.restore(group, snapshot)
            assert (value.value(), list(elements.get()), dict(entries.items())) == (1, [1], {"x": 1})
            elements.add(3)
            entries.put("z", 3)
        assert backend.current_key == "a"

    def test_restoring_is_exact(self, backend: KeyedStateBackend) -> None:
        """What a group got after the snapshot is gone, in states that the snapshot does not know, too."""
        one = backend.get_state(ValueStateDescriptor[int]("one"))
        backend.set_current_key("a")
        group = backend.current_key_group
        snapshot = backend.snapshot(group)
        one.update(1)
        two = backend.get_state(ListStateDescriptor[int]("two"), "w")
        two.add(2)
        backend.restore(group, snapshot)
        assert (one.value(), list(two.get())) == (None, [])
        assert list(backend.keys("one")) == list(backend.keys("two", "w")) == []

    def test_key_groups_are_restored_one_by_one(self, backend: KeyedStateBackend) -> None:
        """The other groups stay as they are."""
        state = backend.get_state(ValueStateDescriptor[int]("value"))
        holding(backend, state, dict.fromkeys(range(100), 1))
        group = key_group(0, MAX_PARALLELISM)
        snapshot = backend.snapshot(group)
        holding(backend, state, dict.fromkeys(range(100), 2))
        backend.restore(group, snapshot)
        for key in range(100):
            backend.set_current_key(key)
            assert state.value() == (1 if key_group(key, MAX_PARALLELISM) == group else 2)

    @pytest.mark.parametrize("parallelism", [1, 2, 3, MAX_PARALLELISM])
    def test_key_groups_move_to_other_subtasks(
        self, make_backend: MakeBackend, clock: VirtualClock, parallelism: int
    ) -> None:
        """A job is restored at another parallelism: each subtask reads the groups it owns, before or after
        its functions declare their state."""
        old = make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock)
        holding(old, old.get_state(ValueStateDescriptor[int]("value")), {key: key for key in range(300)})
        found: list[int] = []
        for subtask in range(parallelism):
            groups = key_group_range(subtask, MAX_PARALLELISM, parallelism)
            new = make_backend(MAX_PARALLELISM, groups, clock)
            for group in groups:
                if group % 2:
                    new.restore(group, old.snapshot(group))
            state = new.get_state(ValueStateDescriptor[int]("value"))
            for group in groups:
                if not group % 2:
                    new.restore(group, old.snapshot(group))
            for key in new.keys("value"):
                new.set_current_key(key)
                assert state.value() == key
                found.append(key)
        assert sorted(found) == list(range(300))

    def test_state_that_nobody_declares_is_kept(self, make_backend: MakeBackend, clock: VirtualClock) -> None:
        """A function that declares its state only when it needs it does not lose it at a second restart."""
        old = make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock)
        holding(old, old.get_state(ValueStateDescriptor[int]("value")), {"a": 1})
        group = old.current_key_group
        middle = make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock)
        middle.restore(group, old.snapshot(group))
        new = make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock)
        new.restore(group, middle.snapshot(group))
        new.set_current_key("a")
        assert new.get_state(ValueStateDescriptor[int]("value")).value() == 1

    def test_every_kind_comes_back(self, make_backend: MakeBackend, clock: VirtualClock) -> None:
        """Also with keys and values that are None, tuples, or large."""
        old, new = (make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock) for _ in range(2))
        keys: list[Any] = [None, ("a", 1), 2**70, "text", b"bytes"]
        for backend in (old, new):
            elements = backend.get_state(ListStateDescriptor[Any]("list"), ("w", 0))
            entries = backend.get_state(MapStateDescriptor[Any, Any]("map"))
            total = backend.get_state(ReducingStateDescriptor[int]("sum", operator.add))
            for number, key in enumerate(keys if backend is old else ()):
                backend.set_current_key(key)
                elements.add_all([None, key])
                entries.put(None, key)
                total.add(number)
                total.add(number)
        for group in range(MAX_PARALLELISM):
            new.restore(group, old.snapshot(group))
        for number, key in enumerate(keys):
            new.set_current_key(key)
            assert list(elements.get()) == [None, key]
            assert (entries.get(None), total.get()) == (key, 2 * number)

    def test_a_snapshot_of_another_group_is_refused(self, backend: KeyedStateBackend) -> None:
        """Keys in a group that is not theirs would never be found again."""
        with pytest.raises(StateError):
            backend.restore(1, KeyGroupSnapshot(0, ()))

    def test_groups_of_other_subtasks_are_refused(
        self, make_backend: MakeBackend, clock: VirtualClock
    ) -> None:
        """Nobody takes part in a snapshot for somebody else."""
        backend = make_backend(MAX_PARALLELISM, range(4), clock)
        with pytest.raises(StateError):
            backend.snapshot(4)
        with pytest.raises(StateError):
            backend.restore(4, KeyGroupSnapshot(4, ()))

    def test_a_state_of_another_kind_is_refused(self, make_backend: MakeBackend, clock: VirtualClock) -> None:
        """A changed program says so, whether it declares its state before it is restored or after; what it
        holds stays as it is."""
        old = make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock)
        holding(old, old.get_state(ValueStateDescriptor[int]("state")), {"a": 1})
        group = old.current_key_group
        snapshot = old.snapshot(group)
        restored_first = make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock)
        restored_first.restore(group, snapshot)
        with pytest.raises(StateError, match="state"):
            restored_first.get_state(ListStateDescriptor[int]("state"))
        declared_first = make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock)
        elements = declared_first.get_state(ListStateDescriptor[int]("state"))
        declared_first.set_current_key("a")
        elements.add(5)
        with pytest.raises(StateError, match="state"):
            declared_first.restore(group, snapshot)
        assert list(elements.get()) == [5]
