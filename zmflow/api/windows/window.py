"""Windows: the finite groups that records are put into. Names are PyFlink's.

Windows are namespaces of state, looked up for each record: they are tuples, so that hashing, comparing
and sorting them runs in C.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from zmflow.api.watermark_strategy import NO_TIMESTAMP

__all__ = [
    "MAX_TIMESTAMP",
    "NO_TIMESTAMP",
    "CountWindow",
    "GlobalWindow",
    "MergeCallback",
    "TimeWindow",
    "Window",
]

MAX_TIMESTAMP = 2**63 - 1
"""The last instant there is: Flink's Long.MAX_VALUE."""


class Window(ABC):
    """A finite group of records. Subclasses are hashable, comparable and can be pickled."""

    __slots__ = ()

    @abstractmethod
    def max_timestamp(self) -> int:
        """The last instant that belongs to the window, in milliseconds: what its results are stamped with."""


class _Interval(NamedTuple):
    start: int
    end: int


class TimeWindow(_Interval, Window):
    """The instants from ``start`` to before ``end``, in milliseconds since 1970.

    >>> TimeWindow(0, 10).max_timestamp()
    9
    """

    __slots__ = ()

    def max_timestamp(self) -> int:
        return self.end - 1

    def intersects(self, other: TimeWindow) -> bool:
        """Whether the two overlap or touch: those that touch are merged, too, as in Flink."""
        return self.start <= other.end and self.end >= other.start

    def cover(self, other: TimeWindow) -> TimeWindow:
        """The smallest window that both are in."""
        return TimeWindow(min(self.start, other.start), max(self.end, other.end))

    @staticmethod
    def get_window_start_with_offset(timestamp: int, offset: int, window_size: int) -> int:
        """Where the window that an instant is in begins, also before 1970.

        >>> TimeWindow.get_window_start_with_offset(-1, 0, 10)
        -10
        """
        return timestamp - (timestamp - offset) % window_size

    @staticmethod
    def merge_windows(windows: Iterable[TimeWindow], callback: MergeCallback) -> None:
        """Tell the callback of each group of windows that overlap or touch, and what covers it."""
        group: set[TimeWindow] = set()
        covering: TimeWindow | None = None
        for window in sorted(windows):
            if covering is not None and covering.intersects(window):
                covering = covering.cover(window)
                group.add(window)
                continue
            if covering is not None and len(group) > 1:
                callback.merge(group, covering)
            group, covering = {window}, window
        if covering is not None and len(group) > 1:
            callback.merge(group, covering)

    def __repr__(self) -> str:
        return f"TimeWindow(start={self.start}, end={self.end})"


class MergeCallback(Protocol):
    """Is told which windows become one."""

    def merge(self, to_be_merged: Iterable[TimeWindow], merge_result: TimeWindow) -> None:
        """These windows become this one."""
        ...


class _Identified(NamedTuple):
    id: int


class CountWindow(_Identified, Window):
    """The window of a key with this number, from 0; time does not end it."""

    __slots__ = ()

    def max_timestamp(self) -> int:
        return MAX_TIMESTAMP

    def __repr__(self) -> str:
        return f"CountWindow(id={self.id})"


class GlobalWindow(Window):
    """The one window that all records of a key are in."""

    __slots__ = ()

    @staticmethod
    def get() -> GlobalWindow:
        """The global window; all objects of the class are equal."""
        return GlobalWindow()

    def max_timestamp(self) -> int:
        return MAX_TIMESTAMP

    def __eq__(self, other: object) -> bool:
        return type(other) is GlobalWindow

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "GlobalWindow"
