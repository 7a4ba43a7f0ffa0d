"""The contexts of functions with a broadcast side: one object for all calls of an operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from zmflow.api.process_functions import (
    BroadcastContext,
    KeyedBroadcastContext,
    KeyedReadOnlyOnTimerContext,
    ReadOnlyContext,
)
from zmflow.api.timer_service import TimeDomain, TimerService
from zmflow.execution.broadcast_states import BroadcastStates
from zmflow.state.backend import NO_KEY_GROUP, KeyedStateBackend
from zmflow.state.descriptors import MapStateDescriptor, StateDescriptor
from zmflow.state.states import BroadcastState, ReadOnlyBroadcastState

__all__ = ["BroadcastSide", "DataSide", "KeyedBroadcastSide", "KeyedDataSide"]


K = TypeVar("K")
V = TypeVar("V")


class _Side:
    """What all these contexts share."""

    def __init__(self, states: BroadcastStates, time: TimerService) -> None:
        self._states = states
        self._time = time
        self.record_timestamp: int | None = None

    def timestamp(self) -> int | None:
        return self.record_timestamp

    def current_processing_time(self) -> int:
        return self._time.current_processing_time()

    def current_watermark(self) -> int:
        return self._time.current_watermark()


class DataSide(_Side, ReadOnlyContext):
    """For a record of the side that is not broadcast."""

    def get_broadcast_state(self, state_descriptor: MapStateDescriptor[K, V]) -> ReadOnlyBroadcastState[K, V]:
        return self._states.read_only(state_descriptor)


class BroadcastSide(_Side, BroadcastContext):
    """For a record of the broadcast side."""

    def get_broadcast_state(self, state_descriptor: MapStateDescriptor[K, V]) -> BroadcastState[K, V]:
        return self._states.changeable(state_descriptor)


class KeyedDataSide(DataSide, KeyedReadOnlyOnTimerContext[Any]):
    """For a record, or a timer, of the keyed side."""

    domain = TimeDomain.EVENT_TIME

    def __init__(self, states: BroadcastStates, time: TimerService, keyed_state: KeyedStateBackend) -> None:
        super().__init__(states, time)
        self._keyed_state = keyed_state

    def timer_service(self) -> TimerService:
        return self._time

    def get_current_key(self) -> Any:
        return self._keyed_state.current_key

    def time_domain(self) -> TimeDomain:
        return self.domain


class KeyedBroadcastSide(BroadcastSide, KeyedBroadcastContext):
    """For a record of the broadcast side, where the other side has keys."""

    def __init__(self, states: BroadcastStates, time: TimerService, keyed_state: KeyedStateBackend) -> None:
        super().__init__(states, time)
        self._keyed_state = keyed_state

    def apply_to_keyed_state(
        self, state_descriptor: StateDescriptor, function: Callable[[Any, Any], object]
    ) -> None:
        state = self._keyed_state.get_state(state_descriptor)
        # A list: the function may clear the state of a key or give it to another.
        for key in list(self._keyed_state.keys(state_descriptor.name)):
            self._keyed_state.set_current_key(key)
            function(key, state)
        self.forget_key()

    def forget_key(self) -> None:
        """Let no key be current: keyed state that is used then says so."""
        self._keyed_state.current_key = None
        self._keyed_state.current_key_group = NO_KEY_GROUP
