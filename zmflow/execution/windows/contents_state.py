"""The contents of windows in keyed state: the window is the namespace."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Protocol

from zmflow.api.windows.evictors import TimestampedValue
from zmflow.api.windows.window import Window
from zmflow.execution.windows.accumulation import Accumulation
from zmflow.state.backend import KeyedStateBackend
from zmflow.state.descriptors import ListStateDescriptor, ValueStateDescriptor

__all__ = ["AccumulatorState", "ContentsState", "RecordsState", "TimestampedRecordsState"]

CONTENTS = "window-contents"
"""The name of the state that contents are in: Flink's."""


class ContentsState(Protocol):
    """What a window of the current key holds; ``use`` says which window."""

    def use(self, window: Window) -> None:
        """From now on this window is meant."""
        ...

    def add(self, value: Any, timestamp: int) -> None:
        """One more record."""
        ...

    def clear(self) -> None:
        """Forget the contents."""
        ...

    def merge(self, target: Window, sources: Iterable[Window]) -> None:
        """Move the contents of windows into another one."""
        ...


class _Held(Enum):
    """An accumulator that is None, told from no accumulator."""

    NONE = "none"


class AccumulatorState:
    """Of windows that aggregate: one accumulator."""

    def __init__(self, accumulation: Accumulation, backend: KeyedStateBackend, window: Window) -> None:
        self._accumulation = accumulation
        descriptor: ValueStateDescriptor[Any] = ValueStateDescriptor(CONTENTS)
        self._state = backend.get_state(descriptor, window)
        self.use = self._state.set_current_namespace
        self.clear = self._state.clear

    def add(self, value: Any, timestamp: int) -> None:  # noqa: ARG002 - of the interface
        """One more record."""
        state = self._state
        held = state.value()
        accumulator = None if held is _Held.NONE else held
        accumulator = self._accumulation.including(value, accumulator, held is None)
        state.update(_Held.NONE if accumulator is None else accumulator)

    def get(self) -> Any:
        """The accumulator; None also where there is none, see ``is_empty``."""
        held = self._state.value()
        return None if held is _Held.NONE else held

    def is_empty(self) -> bool:
        """Whether the window holds nothing."""
        return self._state.value() is None

    def put(self, accumulator: Any) -> None:
        """Hold this."""
        self._state.update(_Held.NONE if accumulator is None else accumulator)

    def merge(self, target: Window, sources: Iterable[Window]) -> None:
        """Move the contents of windows into another one."""
        parts = []
        for source in sources:
            self.use(source)
            if not self.is_empty():
                parts.append(self.get())
                self.clear()
        self.use(target)
        for part in parts:
            self.put(part if self.is_empty() else self._accumulation.merge(self.get(), part))


class RecordsState:
    """Of windows that keep their records: a list."""

    def __init__(self, backend: KeyedStateBackend, window: Window) -> None:
        descriptor: ListStateDescriptor[Any] = ListStateDescriptor(CONTENTS)
        self._state = backend.get_state(descriptor, window)
        self.use = self._state.set_current_namespace
        self.clear = self._state.clear

    def add(self, value: Any, timestamp: int) -> None:  # noqa: ARG002 - of the interface
        """One more record."""
        self._state.add(value)

    def get(self) -> list[Any]:
        """The records, in order of arrival, in a list of the caller's own."""
        return list(self._state.get() or ())

    def is_empty(self) -> bool:
        """Whether the window holds nothing."""
        return not self.get()

    def merge(self, target: Window, sources: Iterable[Window]) -> None:
        """Move the contents of windows into another one."""
        self._state.merge_namespaces(target, sources)
        self.use(target)


class TimestampedRecordsState(RecordsState):
    """Of windows with an evictor, which may ask for the timestamps of records."""

    def add(self, value: Any, timestamp: int) -> None:
        self._state.add(TimestampedValue(value, timestamp))

    def replace(self, records: list[TimestampedValue[Any]]) -> None:
        """Hold these."""
        if records:
            self._state.update(records)
        else:
            self.clear()
