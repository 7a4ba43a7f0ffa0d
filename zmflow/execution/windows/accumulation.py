"""``Accumulation``: how the records of a window become what the window keeps, whatever that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from zmflow.api.functions import plain_callable
from zmflow.api.windows.operators import AggregateContents, Contents, FieldContents, ReduceContents
from zmflow.execution.aggregates import AdaptingCombine

__all__ = ["Accumulation", "accumulation_of"]


@dataclass(frozen=True, slots=True)
class Accumulation:
    """The steps between records and the result of a window.

    Args:
        create: an accumulator without records, for ``add``; None where the first record is the accumulator.
        add: (record, accumulator) → accumulator, when there is ``create``.
        combine: (accumulator, record) → accumulator, when there is not.
        merge: two accumulators → one; it may change either of them.
        result: what an accumulator comes to.
        elements: what a window function is given.
        keeps_records: whether the accumulator is the list of records.
    """

    create: Callable[[], Any] | None
    add: Callable[[Any, Any], Any]
    combine: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any]
    result: Callable[[Any], Any]
    elements: Callable[[Any], Iterable[Any]]
    keeps_records: bool = False

    def including(self, value: Any, accumulator: Any, is_first: bool) -> Any:
        """The accumulator with one more record; ``is_first`` when there is no accumulator."""
        if self.create is not None:
            return self.add(value, self.create() if is_first else accumulator)
        return value if is_first else self.combine(accumulator, value)

    def of_records(self, values: list[Any]) -> Any:
        """The accumulator of some records, at least one."""
        total = self.including(values[0], None, is_first=True)
        for value in values[1:]:
            total = self.including(value, total, is_first=False)
        return total


def accumulation_of(contents: Contents) -> Accumulation:
    """The accumulation that a specification asks for; its function must have been opened."""
    match contents:
        case AggregateContents(function):
            get_result = function.get_result
            return Accumulation(
                create=function.create_accumulator,
                add=function.add,
                combine=_unused,
                merge=function.merge,
                result=get_result,
                elements=lambda accumulator: (get_result(accumulator),),
            )
        case ReduceContents(reduce_function):
            return _reducing(plain_callable(reduce_function))
        case FieldContents(kind, field):
            return _reducing(AdaptingCombine(kind, field))
        case _:
            return Accumulation(
                list, _appended, _unused, _extended, _itself, elements=list, keeps_records=True
            )


def _reducing(combine: Callable[[Any, Any], Any]) -> Accumulation:
    return Accumulation(None, _unused, combine, combine, _itself, elements=lambda total: (total,))


def _itself(accumulator: Any) -> Any:
    return accumulator


def _appended(value: Any, records: list[Any]) -> list[Any]:
    records.append(value)
    return records


def _extended(records: list[Any], more: list[Any]) -> list[Any]:
    records.extend(more)
    return records


def _unused(_first: Any, _second: Any) -> Any:
    raise AssertionError("this kind of contents has another way to add records")
