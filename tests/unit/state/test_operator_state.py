"""Operator state: lists and maps of a subtask that belong to no key, and how they are shared out anew."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmflow.errors import StateError
from zmflow.state.checkpointed_function import (
    CheckpointedFunction,
    FunctionInitializationContext,
    FunctionSnapshotContext,
)
from zmflow.state.descriptors import ListStateDescriptor, MapStateDescriptor, ValueStateDescriptor
from zmflow.state.heap import HeapKeyedStateBackend
from zmflow.state.keyed_state_store import KeyedStateStore
from zmflow.state.operator_state import (
    OperatorStateMode,
    OperatorStateSnapshot,
    OperatorStateStore,
    redistribute,
)
from zmflow.state.ttl import StateTtlConfig

OFFSETS = ListStateDescriptor[int]("offsets")
RULES = MapStateDescriptor[str, int]("rules")


def test_a_state_is_made_once_and_found_again() -> None:
    """By its name, whoever asks."""
    store = OperatorStateStore()
    store.get_list_state(OFFSETS).add_all([1, 2])
    store.get_list_state(ListStateDescriptor[int]("offsets")).add(3)
    store.get_broadcast_state(RULES).put("a", 1)
    assert list(store.get_list_state(OFFSETS)) == [1, 2, 3]
    assert store.get_broadcast_state(RULES)["a"] == 1
    assert store.get_registered_state_names() == {"offsets"}
    assert store.get_registered_broadcast_state_names() == {"rules"}


def test_broadcast_state_is_a_map_that_may_change_while_it_is_read() -> None:
    """PyFlink's methods; what was read stays as it was."""
    state = OperatorStateStore().get_broadcast_state(RULES)
    assert (state.is_empty(), state.get("a"), "a" in state) == (True, None, False)
    state.put_all({"a": 1, "b": 2})
    state["c"] = 3
    for key, value in state.items():
        state.put(key + key, value)
    del state["a"]
    state.remove("not there")
    assert sorted(state) == sorted(state.keys()) == ["aa", "b", "bb", "c", "cc"]
    assert sorted(state.values()) == [1, 2, 2, 3, 3]
    state.clear()
    assert state.is_empty()


@pytest.mark.parametrize("restored", [True, False])
def test_a_name_stands_for_one_state(restored: bool) -> None:
    """Of one mode; a changed program is told, before it loses something."""
    old = OperatorStateStore()
    old.get_list_state(OFFSETS).add(1)
    store = OperatorStateStore(old.snapshot()) if restored else old
    with pytest.raises(StateError, match="split, not union"):
        store.get_union_list_state(OFFSETS)
    with pytest.raises(StateError, match="split, not broadcast"):
        store.get_broadcast_state(MapStateDescriptor[str, int]("offsets"))
    assert list(store.get_list_state(OFFSETS)) == [1]


def test_operator_state_cannot_expire() -> None:
    """Only keyed state can; the descriptor is refused rather than not followed."""
    descriptor = ListStateDescriptor[int]("offsets")
    descriptor.enable_time_to_live(StateTtlConfig.new_builder(1).build())
    with pytest.raises(StateError, match="cannot expire"):
        OperatorStateStore().get_list_state(descriptor)


def test_a_snapshot_is_of_one_moment_and_keeps_what_nobody_asked_for() -> None:
    """A state that the function declares later survives a second restart."""
    store = OperatorStateStore()
    store.get_list_state(OFFSETS).add(1)
    store.get_broadcast_state(RULES).put("a", 1)
    snapshot = store.snapshot()
    store.get_list_state(OFFSETS).add(2)
    store.get_broadcast_state(RULES).put("a", 2)
    restored = OperatorStateStore(OperatorStateStore(snapshot).snapshot())
    assert list(restored.get_list_state(OFFSETS)) == [1]
    assert list(restored.get_broadcast_state(RULES).items()) == [("a", 1)]


@given(st.lists(st.lists(st.integers()), min_size=1, max_size=5), st.integers(1, 5))
def test_elements_are_shared_out_by_mode(held: list[list[int]], parallelism: int) -> None:
    """SPLIT: every element once, evenly. UNION: everybody gets all. BROADCAST: everybody gets a copy."""
    subtasks = [
        [OperatorStateSnapshot(mode.value, mode, list(elements)) for mode in OperatorStateMode]
        for elements in held
    ]
    shares = redistribute(subtasks, parallelism)
    everything = [element for elements in held for element in elements]
    by_mode: dict[OperatorStateMode, list[list[Any]]] = {
        mode: [state.elements for share in shares for state in share if state.mode is mode]
        for mode in OperatorStateMode
    }
    assert len(shares) == parallelism
    split = by_mode[OperatorStateMode.SPLIT]
    assert sorted(element for part in split for element in part) == sorted(everything)
    assert max(map(len, split)) - min(map(len, split)) <= 1
    assert by_mode[OperatorStateMode.UNION] == [everything] * parallelism
    assert all(part in held for part in by_mode[OperatorStateMode.BROADCAST])


class Buffering:
    """Keeps records back, as a sink does."""

    def initialize_state(self, context: FunctionInitializationContext) -> None:
        """Take up where the last attempt left off."""
        self.saved = context.get_operator_state_store().get_list_state(ListStateDescriptor[str]("buffer"))
        self.buffer = list(self.saved.get()) if context.is_restored() else []

    def snapshot_state(self, context: FunctionSnapshotContext) -> None:
        """Save what is kept back."""
        self.saved.update([*self.buffer, f"checkpoint {context.get_checkpoint_id()}"])


def test_a_checkpointed_function_takes_up_where_it_left_off() -> None:
    """Any object with the two methods is one."""
    store = OperatorStateStore()
    function = Buffering()
    assert isinstance(function, CheckpointedFunction)
    function.initialize_state(FunctionInitializationContext(store))
    function.buffer.append("record")
    function.snapshot_state(FunctionSnapshotContext(7, 1_000))
    restarted = Buffering()
    context = FunctionInitializationContext(OperatorStateStore(store.snapshot()), restored_checkpoint_id=7)
    restarted.initialize_state(context)
    assert (restarted.buffer, context.get_restored_checkpoint_id()) == (["record", "checkpoint 7"], 7)


def test_keyed_state_can_be_declared_where_there_are_keys() -> None:
    """And is refused with a hint where there are none."""
    backend = HeapKeyedStateBackend(8, range(8), lambda: 0)
    keyed = FunctionInitializationContext(OperatorStateStore(), KeyedStateStore(backend))
    state = keyed.get_keyed_state_store().get_state(ValueStateDescriptor[int]("count"))
    backend.set_current_key("a")
    state.update(1)
    assert keyed.get_keyed_state_store().get_state(ValueStateDescriptor[int]("count")) is state
    with pytest.raises(StateError, match="no keys"):
        FunctionInitializationContext(OperatorStateStore()).get_keyed_state_store()
