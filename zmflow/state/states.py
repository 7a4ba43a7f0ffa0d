"""What functions see of their state: PyFlink's interfaces, generic in what they hold.

Keyed state is that of the current key, always: the engine sets the key before it calls a function. Whether a
backend keeps the very object that it is given, or a copy of it, is its own affair: an object that was changed
must be put back with ``update`` or ``put``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

__all__ = [
    "AggregatingState",
    "AppendingState",
    "BroadcastState",
    "ListState",
    "MapState",
    "MergingState",
    "ReadOnlyBroadcastState",
    "ReducingState",
    "State",
    "ValueState",
]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
IN = TypeVar("IN")
OUT = TypeVar("OUT")


class State(ABC):
    """What all kinds of state can do."""

    @abstractmethod
    def clear(self) -> None:
        """Forget what is held, for the current key where the state is keyed."""


class ValueState(State, Generic[T]):
    """One value."""

    @abstractmethod
    def value(self) -> T | None:
        """The value; None where there is none."""

    @abstractmethod
    def update(self, value: T | None) -> None:
        """Hold this value from now on; None forgets it."""


class AppendingState(State, Generic[IN, OUT]):
    """State that things are added to."""

    @abstractmethod
    def get(self) -> OUT | None:
        """What has become of all that was added."""

    @abstractmethod
    def add(self, value: IN) -> None:
        """Take one more in."""


class MergingState(AppendingState[IN, OUT]):
    """Appending state of which two can become one, as windows that merge need it."""


class ReducingState(MergingState[T, T]):
    """One value: all that was added, combined by a reduce function. None where nothing was added."""


class AggregatingState(MergingState[IN, OUT]):
    """One accumulator of an aggregate function; ``get`` is its result, None where nothing was added."""


class ListState(MergingState[T, Iterable[T]]):
    """A list. What ``get`` returns stays as it is when the state changes."""

    @abstractmethod
    def get(self) -> Iterable[T]:
        """The elements in order; none where there is no list."""

    @abstractmethod
    def add_all(self, values: Iterable[T]) -> None:
        """Append these."""

    @abstractmethod
    def update(self, values: Iterable[T]) -> None:
        """Hold these in place of what was there; nothing at all clears the state."""

    def __iter__(self) -> Iterator[T]:
        return iter(self.get())


class MapState(State, Generic[K, V]):
    """A map. What ``items``, ``keys`` and ``values`` return stays as it is when the state changes.

    A map without entries and no map at all are the same.
    """

    @abstractmethod
    def get(self, key: K) -> V | None:
        """The value of a key; None where there is none."""

    @abstractmethod
    def put(self, key: K, value: V) -> None:
        """Give a key this value."""

    @abstractmethod
    def put_all(self, dict_value: Mapping[K, V]) -> None:
        """Put all entries of a map; the others stay."""

    @abstractmethod
    def remove(self, key: K) -> None:
        """Take a key out; nothing happens where it is not in."""

    @abstractmethod
    def contains(self, key: K) -> bool:
        """Whether a key has a value."""

    @abstractmethod
    def items(self) -> Iterable[tuple[K, V]]:
        """All entries."""

    @abstractmethod
    def keys(self) -> Iterable[K]:
        """All keys."""

    @abstractmethod
    def values(self) -> Iterable[V]:
        """All values."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there are no entries."""

    def __getitem__(self, key: K) -> V | None:
        return self.get(key)

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def __delitem__(self, key: K) -> None:
        self.remove(key)

    def __contains__(self, key: K) -> bool:
        return self.contains(key)

    def __iter__(self) -> Iterator[K]:
        return iter(self.keys())


class ReadOnlyBroadcastState(State, Generic[K, V]):
    """The map that all subtasks hold alike, for the side that may only read it."""

    @abstractmethod
    def get(self, key: K) -> V | None:
        """The value of a key; None where there is none."""

    @abstractmethod
    def contains(self, key: K) -> bool:
        """Whether a key has a value."""

    @abstractmethod
    def items(self) -> Iterable[tuple[K, V]]:
        """All entries."""

    @abstractmethod
    def keys(self) -> Iterable[K]:
        """All keys."""

    @abstractmethod
    def values(self) -> Iterable[V]:
        """All values."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there are no entries."""

    def __getitem__(self, key: K) -> V | None:
        return self.get(key)

    def __contains__(self, key: K) -> bool:
        return self.contains(key)

    def __iter__(self) -> Iterator[K]:
        return iter(self.keys())


class BroadcastState(ReadOnlyBroadcastState[K, V]):
    """The map that all subtasks hold alike, for the broadcast side.

    It is alike because every subtask gets the same records: the function must do the same with them
    everywhere.
    """

    @abstractmethod
    def put(self, key: K, value: V) -> None:
        """Give a key this value."""

    @abstractmethod
    def put_all(self, dict_value: Mapping[K, V]) -> None:
        """Put all entries of a map; the others stay."""

    @abstractmethod
    def remove(self, key: K) -> None:
        """Take a key out; nothing happens where it is not in."""

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def __delitem__(self, key: K) -> None:
        self.remove(key)
