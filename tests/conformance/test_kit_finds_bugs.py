"""The conformance kit finds what it is there to find: backends with a bug planted in them do not pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zmflow.state import heap_states
from zmflow.state.backend import KeyedStateBackend
from zmflow.state.descriptors import StateKind
from zmflow.state.expiry import Expiry
from zmflow.state.heap import HeapKeyedStateBackend
from zmflow.state.heap_ttl_states import TtlListState
from zmflow.state.snapshots import KeyGroupSnapshot
from zmflow.testing.state_backend_machine import TTL_MS, _BackendMachine, check_random_use
from zmflow.testing.state_backend_tests import StateBackendTests

Plant = Callable[[pytest.MonkeyPatch], None]


def restore_keeps_later_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restoring adds to what is there."""
    original = HeapKeyedStateBackend.restore

    def restore(self: HeapKeyedStateBackend, group: int, snapshot: KeyGroupSnapshot) -> None:
        before = {name: dict(table.groups[group]) for name, table in self._tables.items()}
        original(self, group, snapshot)
        for name, entries in before.items():
            self._tables[name].groups[group] = entries | self._tables[name].groups[group]

    monkeypatch.setattr(HeapKeyedStateBackend, "restore", restore)


def snapshot_shares_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot goes on changing with the state."""
    monkeypatch.setattr("zmflow.state.heap._Table._copied", lambda self, held: held)


def empty_maps_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last removal from a map leaves an empty one."""

    def remove(self: Any, key: Any) -> None:
        self._map().pop(key, None)

    monkeypatch.setattr(heap_states.HeapMapState, "remove", remove)


def expires_a_moment_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """An element is seen in the millisecond in which it expires."""
    original = Expiry.living
    monkeypatch.setattr(Expiry, "living", lambda self, held, deadline: original(self, held, deadline - 1))


def merging_turns_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes from the sources is put before what was there."""
    monkeypatch.setattr(heap_states.HeapListState, "_merged", lambda self, before, held: held + before)


def adding_makes_all_elements_young(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list expires as a whole."""
    original = TtlListState.add_all

    def add_all(self: Any, values: Any) -> None:
        values = list(values)
        if values:
            self.update(self.get())
        original(self, values)

    monkeypatch.setattr(TtlListState, "add_all", add_all)


def clearing_takes_the_whole_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clearing one key clears its neighbours."""

    def clear(self: Any) -> None:
        self._groups[self._backend.current_key_group].clear()

    monkeypatch.setattr(heap_states.HeapState, "clear", clear)


BUGS: list[tuple[Plant, StateKind, bool]] = [
    (restore_keeps_later_writes, StateKind.VALUE, False),
    (restore_keeps_later_writes, StateKind.AGGREGATING, True),
    (snapshot_shares_lists, StateKind.LIST, False),
    (snapshot_shares_lists, StateKind.MAP, True),
    (empty_maps_stay, StateKind.MAP, False),
    (expires_a_moment_late, StateKind.LIST, True),
    (expires_a_moment_late, StateKind.MAP, True),
    (merging_turns_round, StateKind.LIST, False),
    (adding_makes_all_elements_young, StateKind.LIST, True),
    (clearing_takes_the_whole_group, StateKind.REDUCING, False),
]


@pytest.mark.parametrize(("plant", "kind", "expires"), BUGS)
def test_random_use_finds_it(
    plant: Plant, kind: StateKind, expires: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state machine alone finds each of these bugs."""
    plant(monkeypatch)
    with pytest.raises((AssertionError, ExceptionGroup)):
        check_random_use(HeapKeyedStateBackend, kind, expires=expires, examples=1000, shrink=False)


def test_a_check_that_was_taken_out_is_named() -> None:
    """A plugin that overrides a check does not pass quietly."""

    class Evasive(StateBackendTests):
        def test_ten_thousand_keys(self, backend: KeyedStateBackend) -> None:
            """Not for us."""

    with pytest.raises(AssertionError, match="test_ten_thousand_keys"):
        Evasive().test_no_check_was_taken_out()
    StateBackendTests().test_no_check_was_taken_out()


def test_expired_state_may_be_moved_by_merging() -> None:
    """What has expired is nobody's: a backend may list it where it was and where it was merged to."""
    machine = _BackendMachine(HeapKeyedStateBackend, StateKind.LIST, expires=True)
    machine.change([(1, (0, 0), 0, 0)])
    machine.time_passes(TTL_MS)
    machine.merge(1, (0, 1), [0])
    machine.keys(1, 0)
    machine.keys(1, 1)
    machine.teardown()


def test_expired_entries_may_outlive_the_last_removal() -> None:
    """A map whose one entry expired unseen may be listed, also when another entry is removed."""
    machine = _BackendMachine(HeapKeyedStateBackend, StateKind.MAP, expires=True)
    machine.change([(0, (0, 0), 0, 0)])
    machine.time_passes(TTL_MS)
    machine.change([(0, (0, 0), 2, 1)])
    machine.keys(0, 0)
    machine.teardown()
