"""What operators see of keyed state beside what functions see: namespaces.

A state that ``get_state`` was asked for with a namespace holds one thing for each key *and* namespace; the
window operator's namespaces are windows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, TypeVar

from zmflow.state.states import AggregatingState, ListState, MapState, ReducingState, State, ValueState

__all__ = [
    "KeyedAggregatingState",
    "KeyedListState",
    "KeyedMapState",
    "KeyedMergingState",
    "KeyedReducingState",
    "KeyedState",
    "KeyedValueState",
]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
IN = TypeVar("IN")
OUT = TypeVar("OUT")


class KeyedState(State):
    """State of the backend's current key and of this object's current namespace."""

    @abstractmethod
    def set_current_namespace(self, namespace: Any) -> None:
        """From now on this object means this namespace.

        Raises:
            StateError: the state was asked for without a namespace, or the namespace is None.
        """


class KeyedMergingState(KeyedState):
    """Keyed state that can be merged."""

    @abstractmethod
    def merge_namespaces(self, target: Any, sources: Iterable[Any]) -> None:
        """Move what the current key holds in the ``sources`` into ``target``, in their order.

        The current namespace stays.
        """


class KeyedValueState(ValueState[T], KeyedState):
    """One value for each key and namespace."""


class KeyedMapState(MapState[K, V], KeyedState):
    """One map for each key and namespace."""


class KeyedListState(ListState[T], KeyedMergingState):
    """One list for each key and namespace."""


class KeyedReducingState(ReducingState[T], KeyedMergingState):
    """One reduced value for each key and namespace."""


class KeyedAggregatingState(AggregatingState[IN, OUT], KeyedMergingState):
    """One accumulator for each key and namespace."""
