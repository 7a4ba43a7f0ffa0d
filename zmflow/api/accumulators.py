"""Accumulators: small results that a job collects beside its streams, each subtask its own part.

A function registers one in ``open`` and adds to it; the parts of all subtasks are merged when somebody asks,
and with the job's result. They are meant for counts and little statistics, not for data.

>>> rejected = IntCounter()
>>> rejected.add(1)
>>> rejected.add(2)
>>> rejected.get_local_value()
3
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, Generic, Self, TypeVar

from zmflow.errors import ZmflowError

__all__ = [
    "Accumulator",
    "AverageAccumulator",
    "DoubleCounter",
    "DoubleMaximum",
    "DoubleMinimum",
    "Histogram",
    "IntCounter",
    "IntMaximum",
    "IntMinimum",
    "ListAccumulator",
    "LongCounter",
    "LongMaximum",
    "LongMinimum",
    "merge_accumulators",
    "pack_accumulators",
    "unpack_accumulators",
]

PACKED_BYTES_MAX = 64 * 1024
"""Most that the accumulators of one task may come to, pickled. They wait in the JobManager until the client
has them: those of a thousand tasks are 64 MiB there. A list of 64 KiB is a stream, not a statistic."""

V = TypeVar("V")
R = TypeVar("R")
N = TypeVar("N", int, float)


class Accumulator(ABC, Generic[V, R]):
    """Takes values of type ``V`` and has a result of type ``R``. Must be picklable."""

    @abstractmethod
    def add(self, value: V) -> None:
        """Take a value."""

    @abstractmethod
    def get_local_value(self) -> R:
        """The result of what this subtask added."""

    @abstractmethod
    def reset_local(self) -> None:
        """Begin anew."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take what another subtask's accumulator took."""


class _Counter(Accumulator[N, N], Generic[N]):
    _zero: N

    def __init__(self, value: N | None = None) -> None:
        self._value: N = self._zero if value is None else value

    def add(self, value: N) -> None:
        self._value += value

    def get_local_value(self) -> N:
        return self._value

    def reset_local(self) -> None:
        self._value = self._zero

    def merge(self, other: Self) -> None:
        self._value += other._value


class IntCounter(_Counter[int]):
    """A sum of whole numbers."""

    _zero = 0


class LongCounter(IntCounter):
    """The same as ``IntCounter``: Python's whole numbers have no width."""


class DoubleCounter(_Counter[float]):
    """A sum of numbers."""

    _zero = 0.0


class _Extreme(Accumulator[N, N | None], Generic[N]):
    """None before the first value."""

    def __init__(self, value: N | None = None) -> None:
        self._value: N | None = value

    def get_local_value(self) -> N | None:
        return self._value

    def reset_local(self) -> None:
        self._value = None

    def merge(self, other: Self) -> None:
        if other._value is not None:
            self.add(other._value)


class _Minimum(_Extreme[N], Generic[N]):
    def add(self, value: N) -> None:
        if self._value is None or value < self._value:
            self._value = value


class _Maximum(_Extreme[N], Generic[N]):
    def add(self, value: N) -> None:
        if self._value is None or value > self._value:
            self._value = value


class IntMinimum(_Minimum[int]):
    """The least whole number; None before the first."""


class IntMaximum(_Maximum[int]):
    """The greatest whole number; None before the first."""


class LongMinimum(IntMinimum):
    """The same as ``IntMinimum``."""


class LongMaximum(IntMaximum):
    """The same as ``IntMaximum``."""


class DoubleMinimum(_Minimum[float]):
    """The least number; None before the first."""


class DoubleMaximum(_Maximum[float]):
    """The greatest number; None before the first."""


class AverageAccumulator(Accumulator[float, float]):
    """The mean of numbers; 0.0 before the first, as in Flink.

    >>> average = AverageAccumulator()
    >>> average.add(1.0)
    >>> average.add(2.0)
    >>> average.get_local_value()
    1.5
    """

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._count += 1
        self._sum += value

    def get_local_value(self) -> float:
        return self._sum / self._count if self._count else 0.0

    def reset_local(self) -> None:
        self._count, self._sum = 0, 0.0

    def merge(self, other: Self) -> None:
        self._count += other._count
        self._sum += other._sum


class ListAccumulator(Accumulator[V, list[V]], Generic[V]):
    """All values, as a list. Everything in it is kept in memory and sent to the client."""

    def __init__(self) -> None:
        self._values: list[V] = []

    def add(self, value: V) -> None:
        self._values.append(value)

    def get_local_value(self) -> list[V]:
        return self._values

    def reset_local(self) -> None:
        self._values = []

    def merge(self, other: Self) -> None:
        self._values.extend(other._values)


class Histogram(Accumulator[int, dict[int, int]]):
    """How often each whole number came.

    >>> histogram = Histogram()
    >>> for size in (3, 1, 3):
    ...     histogram.add(size)
    >>> histogram.get_local_value()
    {1: 1, 3: 2}
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, value: int) -> None:
        self._counts[value] = self._counts.get(value, 0) + 1

    def get_local_value(self) -> dict[int, int]:
        return dict(sorted(self._counts.items()))

    def reset_local(self) -> None:
        self._counts = {}

    def merge(self, other: Self) -> None:
        for value, count in other._counts.items():
            self._counts[value] = self._counts.get(value, 0) + count


def merge_accumulators(
    parts: Iterable[Mapping[str, Accumulator[Any, Any]]],
) -> dict[str, Accumulator[Any, Any]]:
    """What the accumulators of all subtasks come to, by name. The parts stay as they are.

    Raises:
        ZmflowError: two subtasks registered accumulators of different types under one name.

    >>> merged = merge_accumulators([{"rows": IntCounter(2)}, {"rows": IntCounter(3)}])
    >>> merged["rows"].get_local_value()
    5
    """
    merged: dict[str, Accumulator[Any, Any]] = {}
    for part in parts:
        for name, accumulator in part.items():
            known = merged.get(name)
            if known is None:
                merged[name] = deepcopy(accumulator)
            elif type(known) is not type(accumulator):
                raise ZmflowError(
                    f"The accumulator {name!r} has two types.",
                    detail=f"{type(known).__name__} and {type(accumulator).__name__}.",
                    hint="Give one of them another name.",
                )
            else:
                known.merge(accumulator)
    return merged


def pack_accumulators(accumulators: Mapping[str, Accumulator[Any, Any]]) -> bytes:
    """The accumulators of one task as bytes; none of them: no bytes.

    Raises:
        ZmflowError: one cannot be pickled, or together they are larger than ``PACKED_BYTES_MAX``.
    """
    if not accumulators:
        return b""
    try:
        packed = pickle.dumps(dict(accumulators), protocol=5)
    except Exception as error:
        raise ZmflowError(
            "The accumulators of a task cannot be pickled.",
            detail=f"{', '.join(accumulators)}: {error}",
            hint="Let an accumulator hold plain values only.",
        ) from error
    if len(packed) > PACKED_BYTES_MAX:
        raise ZmflowError(
            f"The accumulators of a task are {len(packed)} bytes; {PACKED_BYTES_MAX} are allowed.",
            detail=f"They are: {', '.join(accumulators)}.",
            hint="Write many values to a sink or a side output.",
        )
    return packed


def unpack_accumulators(parts: Iterable[bytes]) -> dict[str, Any]:
    """The result of each accumulator over all tasks, by name, from what ``pack_accumulators`` made.

    Raises:
        ZmflowError: two tasks registered accumulators of different types under one name.

    >>> parts = [{"rows": IntCounter(2)}, {"rows": IntCounter(3)}]
    >>> unpack_accumulators(map(pack_accumulators, parts))
    {'rows': 5}
    """
    merged = merge_accumulators(pickle.loads(part) for part in parts)
    return {name: accumulator.get_local_value() for name, accumulator in merged.items()}
