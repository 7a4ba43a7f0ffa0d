"""Amounts of time and points in time, with PyFlink's names: ``Duration``, ``Time``, ``Instant``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from zmflow.errors import JobGraphError

__all__ = ["Duration", "Instant", "Time", "TimeAmount", "whole_millis"]

_NANOS_PER_MS = 1_000_000
_MS_PER_S = 1000


@dataclass(frozen=True, order=True, slots=True)
class Duration:
    """An amount of time, in nanoseconds.

    >>> Duration.of_minutes(2).to_millis(), Duration.of_seconds(90) < Duration.of_minutes(2)
    (120000, True)
    """

    nanos: int

    def __post_init__(self) -> None:
        _check_whole(self.nanos, "Duration")

    @staticmethod
    def of_days(days: int) -> Duration:
        """So many times 24 hours."""
        return Duration(days * 86_400_000 * _NANOS_PER_MS)

    @staticmethod
    def of_hours(hours: int) -> Duration:
        """So many hours."""
        return Duration(hours * 3_600_000 * _NANOS_PER_MS)

    @staticmethod
    def of_minutes(minutes: int) -> Duration:
        """So many minutes."""
        return Duration(minutes * 60_000 * _NANOS_PER_MS)

    @staticmethod
    def of_seconds(seconds: int) -> Duration:
        """So many seconds."""
        return Duration(seconds * _MS_PER_S * _NANOS_PER_MS)

    @staticmethod
    def of_millis(millis: int) -> Duration:
        """So many milliseconds."""
        return Duration(millis * _NANOS_PER_MS)

    @staticmethod
    def of_nanos(nanos: int) -> Duration:
        """So many nanoseconds."""
        return Duration(nanos)

    def to_millis(self) -> int:
        """Whole milliseconds; a part of one is dropped towards the past, as Java does."""
        return self.nanos // _NANOS_PER_MS

    def __repr__(self) -> str:
        if self.nanos % _NANOS_PER_MS:
            return f"Duration.of_nanos({self.nanos})"
        return f"Duration.of_millis({self.nanos // _NANOS_PER_MS})"


@dataclass(frozen=True, order=True)
class Time:
    """An amount of time in milliseconds: the size of windows, timeouts.

    >>> Time.seconds(5).to_milliseconds(), Time.minutes(1) == Time.milliseconds(60000)
    (5000, True)
    """

    _milliseconds: int

    def __post_init__(self) -> None:
        _check_whole(self._milliseconds, "Time")

    @staticmethod
    def days(days: int) -> Time:
        """So many times 24 hours."""
        return Time(days * 86_400_000)

    @staticmethod
    def hours(hours: int) -> Time:
        """So many hours."""
        return Time(hours * 3_600_000)

    @staticmethod
    def minutes(minutes: int) -> Time:
        """So many minutes."""
        return Time(minutes * 60_000)

    @staticmethod
    def seconds(seconds: int) -> Time:
        """So many seconds."""
        return Time(seconds * _MS_PER_S)

    @staticmethod
    def milliseconds(milliseconds: int) -> Time:
        """So many milliseconds."""
        return Time(milliseconds)

    def to_milliseconds(self) -> int:
        """The amount in milliseconds."""
        return self._milliseconds

    def __repr__(self) -> str:
        return f"Time.milliseconds({self._milliseconds})"


@dataclass(frozen=True, order=True)
class Instant:
    """A point in time: seconds since 1970 and the nanoseconds after them.

    >>> Instant.of_epoch_milli(-1), Instant.of_epoch_milli(-1).to_epoch_milli()
    (Instant<-1, 999000000>, -1)
    """

    seconds: int
    nanos: int

    def to_epoch_milli(self) -> int:
        """Milliseconds since 1970; a part of one is dropped towards the past."""
        return self.seconds * _MS_PER_S + self.nanos // _NANOS_PER_MS

    @staticmethod
    def of_epoch_milli(epoch_milli: int) -> Instant:
        """The point so many milliseconds after 1970 began, or before it."""
        seconds, millis = divmod(epoch_milli, _MS_PER_S)
        return Instant(seconds, millis * _NANOS_PER_MS)

    def __repr__(self) -> str:
        return f"Instant<{self.seconds}, {self.nanos}>"


TimeAmount: TypeAlias = Duration | Time | timedelta
"""What methods that take an amount of time take: PyFlink's two classes, and Python's own."""


def whole_millis(amount: TimeAmount, call: str) -> int:
    """The amount in milliseconds.

    >>> whole_millis(Duration.of_seconds(2), "with_idleness()"), whole_millis(timedelta(seconds=1), "gap()")
    (2000, 1000)

    Raises:
        JobGraphError: it is no amount of time; names the ``call``.
    """
    match amount:
        case Duration():
            return amount.to_millis()
        case Time():
            return amount.to_milliseconds()
        case timedelta():
            return amount // timedelta(milliseconds=1)
    raise JobGraphError(
        f"{call} takes a Duration, a Time or a timedelta, not {amount!r}.",
        hint="For example Duration.of_seconds(5).",
    )


def _check_whole(number: object, kind: str) -> None:
    if isinstance(number, bool) or not isinstance(number, int):
        raise JobGraphError(f"A {kind} is a whole number, not {number!r}.")
