"""``KeyedStateStore``: keyed state by descriptor, for contexts that functions ask again and again."""

from __future__ import annotations

from typing import Any, TypeVar

from zmflow.state.backend import KeyedStateBackend
from zmflow.state.descriptors import (
    AggregatingStateDescriptor,
    ListStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    StateDescriptor,
    ValueStateDescriptor,
)
from zmflow.state.states import AggregatingState, ListState, MapState, ReducingState, ValueState

__all__ = ["KeyedStateStore"]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
IN = TypeVar("IN")
ACC = TypeVar("ACC")
OUT = TypeVar("OUT")


class KeyedStateStore:
    """The states of a backend; each is made once, and found again by its name."""

    def __init__(self, backend: KeyedStateBackend) -> None:
        self._backend = backend
        self._states: dict[str, Any] = {}

    def get_state(self, state_descriptor: ValueStateDescriptor[T]) -> ValueState[T]:
        """One value for each key."""
        state: ValueState[T] = self._state(state_descriptor)
        return state

    def get_list_state(self, state_descriptor: ListStateDescriptor[T]) -> ListState[T]:
        """A list for each key."""
        state: ListState[T] = self._state(state_descriptor)
        return state

    def get_map_state(self, state_descriptor: MapStateDescriptor[K, V]) -> MapState[K, V]:
        """A map for each key."""
        state: MapState[K, V] = self._state(state_descriptor)
        return state

    def get_reducing_state(self, state_descriptor: ReducingStateDescriptor[T]) -> ReducingState[T]:
        """A reduced value for each key."""
        state: ReducingState[T] = self._state(state_descriptor)
        return state

    def get_aggregating_state(
        self, state_descriptor: AggregatingStateDescriptor[IN, ACC, OUT]
    ) -> AggregatingState[IN, OUT]:
        """An accumulator for each key."""
        state: AggregatingState[IN, OUT] = self._state(state_descriptor)
        return state

    def _state(self, descriptor: StateDescriptor) -> Any:
        state = self._states.get(descriptor.name)
        if state is None:
            state = self._states[descriptor.name] = self._backend.get_state(descriptor)
        return state
