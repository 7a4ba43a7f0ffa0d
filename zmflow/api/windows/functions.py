"""Functions of windows: aggregates, and what is called with the contents of a window. Names are PyFlink's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from zmflow.api.functions import Function
from zmflow.api.windows.window import Window

if TYPE_CHECKING:
    from zmflow.state.keyed_state_store import KeyedStateStore

__all__ = [
    "AllWindowFunction",
    "MapPartitionFunction",
    "ProcessAllWindowFunction",
    "ProcessWindowFunction",
    "WindowFunction",
]

IN = TypeVar("IN")
OUT = TypeVar("OUT")
KEY = TypeVar("KEY")
W = TypeVar("W", bound=Window)
W2 = TypeVar("W2", bound=Window)  # of the contexts: a class inside a class has its own


class MapPartitionFunction(Function, ABC, Generic[IN, OUT]):
    """Called once with all records of a partition, at the end of the input."""

    @abstractmethod
    def map_partition(self, values: Iterable[IN]) -> Iterable[OUT] | None:
        """Any number of results: return an iterable or be a generator."""


class WindowFunction(Function, ABC, Generic[IN, OUT, KEY, W]):
    """Called with the key, the window and its records when the window fires."""

    @abstractmethod
    def apply(self, key: KEY, window: W, inputs: Iterable[IN]) -> Iterable[OUT] | None:
        """Any number of results: return an iterable or be a generator."""


class AllWindowFunction(Function, ABC, Generic[IN, OUT, W]):
    """Called with the window and its records when a window over all keys fires."""

    @abstractmethod
    def apply(self, window: W, inputs: Iterable[IN]) -> Iterable[OUT] | None:
        """Any number of results: return an iterable or be a generator."""


class ProcessWindowFunction(Function, ABC, Generic[IN, OUT, KEY, W]):
    """Called with a context, which has the window, the times, and state, when the window fires."""

    class Context(ABC, Generic[W2]):
        """The window that fires, and state. Valid until the function returns."""

        @abstractmethod
        def window(self) -> W2:
            """The window."""

        @abstractmethod
        def current_processing_time(self) -> int:
            """The clock, milliseconds since 1970."""

        @abstractmethod
        def current_watermark(self) -> int:
            """How far event time has come."""

        @abstractmethod
        def window_state(self) -> KeyedStateStore:
            """State of this key and window, for windows that fire more than once: ``clear`` clears it."""

        @abstractmethod
        def global_state(self) -> KeyedStateStore:
            """State of this key, the same in all its windows."""

    @abstractmethod
    def process(self, key: KEY, context: Context[W], elements: Iterable[IN]) -> Iterable[OUT] | None:
        """Any number of results: return an iterable or be a generator."""

    def clear(self, context: Context[W]) -> None:
        """The window is over: clear what was kept in ``window_state``."""


class ProcessAllWindowFunction(Function, ABC, Generic[IN, OUT, W]):
    """Like ``ProcessWindowFunction``, for windows over all keys."""

    class Context(ProcessWindowFunction.Context[W2], Generic[W2]):
        """The window that fires, and state."""

    @abstractmethod
    def process(self, context: Context[W], elements: Iterable[IN]) -> Iterable[OUT] | None:
        """Any number of results: return an iterable or be a generator."""

    def clear(self, context: Context[W]) -> None:
        """The window is over: clear what was kept in ``window_state``."""
