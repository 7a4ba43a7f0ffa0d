"""Records that are made to fit their declared type, and what becomes of those that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from zmflow.api.typeinfo import Coercer
from zmflow.execution.batches import Batch, Rows, TimedRows
from zmflow.execution.stream_operator import Timestamps

__all__ = ["Fitting", "Reject", "fitted"]

Reject: TypeAlias = Callable[[Any, Exception, int | None], None]
"""Told the row, the error and the timestamp, None without one; the row is then left out."""


class Fitting:
    """Makes the rows of one output fit.

    >>> whole = Fitting(int, lambda row, error, timestamp: print(f"{row!r} does not fit"))
    >>> whole.rows(["1", "x", "2"], None)
    'x' does not fit
    ([1, 2], None)

    Args:
        fit: the coercer of the declared type.
        reject: what becomes of a row that does not fit; None: the error leaves.
    """

    def __init__(self, fit: Coercer, reject: Reject | None) -> None:
        self._fit = fit
        self._reject = reject

    def rows(self, rows: Rows, timestamps: Timestamps) -> tuple[Rows, Timestamps]:
        """The rows that fit, with their timestamps."""
        fit, reject = self._fit, self._reject
        if reject is None:
            return list(map(fit, rows)), timestamps
        fitting: list[Any] = []
        times: list[int] | None = None if timestamps is None else []
        for index, row in enumerate(rows):
            timestamp = None if timestamps is None else timestamps[index]
            try:
                fitting.append(fit(row))
            except Exception as error:  # noqa: BLE001 - of the program's types, like its functions' errors
                reject(row, error, timestamp)
                continue
            if times is not None and timestamp is not None:
                times.append(timestamp)
        return fitting, times

    def before(self, consumer: Callable[[Batch], None]) -> Callable[[Batch], None]:
        """The consumer, given only what fits."""

        def take(batch: Batch) -> None:
            if isinstance(batch, TimedRows):
                rows, timestamps = self.rows(batch.rows, batch.timestamps)
            else:
                rows, timestamps = self.rows(batch, None)
            if rows:
                consumer(rows if timestamps is None else TimedRows(rows, timestamps))

        return take


def fitted(kind: str, call: Callable[..., Any], fit: Coercer) -> Callable[..., Any]:
    """The function of an operator, whose results fit or raise: it is its own record that is left out then.

    >>> fitted("map", str.strip, int)(" 7 ")
    7
    >>> fitted("flat_map", str.split, int)("7 8")
    [7, 8]
    """
    if kind == "flat_map":

        def all_fitted(row: Any) -> list[Any]:
            results: Iterable[Any] | None = call(row)
            return [] if results is None else [fit(result) for result in results]

        return all_fitted
    return lambda *rows: fit(call(*rows))
