"""Specifications of the operators that windows become, like those in ``zmflow.api.operators``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeAlias

from zmflow.api.functions import AggregateFunction
from zmflow.api.operators import UserFunction
from zmflow.api.windows.assigner import WindowAssigner
from zmflow.api.windows.evictors import Evictor
from zmflow.api.windows.trigger import Trigger

__all__ = [
    "AggregateContents",
    "Contents",
    "FieldContents",
    "FiredFunction",
    "ListContents",
    "Order",
    "PartitionWindowOperator",
    "ReduceContents",
    "WindowOperator",
]


@dataclass(frozen=True, slots=True)
class ListContents:
    """A window keeps its records."""


@dataclass(frozen=True, slots=True)
class ReduceContents:
    """A window keeps what its records were reduced to."""

    function: UserFunction


@dataclass(frozen=True, slots=True)
class FieldContents:
    """A window keeps the sum, least or greatest of one field, as ``KeyedAggregateOperator`` computes them."""

    kind: Literal["sum", "min", "max", "min_by", "max_by"]
    field: int | str


@dataclass(frozen=True, slots=True)
class AggregateContents:
    """A window keeps the accumulator of its records."""

    function: AggregateFunction[Any, Any, Any]


Contents: TypeAlias = ListContents | ReduceContents | FieldContents | AggregateContents
"""What a window keeps of its records."""


@dataclass(frozen=True, slots=True)
class FiredFunction:
    """What is called when a window fires, and with what: ``apply(key, window, records)``,
    ``apply_all(window, records)``, ``process(key, context, records)``, ``process_all(context, records)``.

    Where the window keeps an aggregate, that is the only record.
    """

    call: Literal["apply", "apply_all", "process", "process_all"]
    function: UserFunction


@dataclass(frozen=True, slots=True)
class WindowOperator:
    """Windows of a keyed stream, or with a key selector of None of a whole stream.

    Without a function the result of a window is its contents. Late records go to ``late_tag``, or are
    counted and dropped. With ``panes`` sliding windows may share partial aggregates.
    """

    key_selector: UserFunction | None
    assigner: WindowAssigner[Any, Any]
    trigger: Trigger[Any, Any]
    contents: Contents
    function: FiredFunction | None = None
    evictor: Evictor[Any, Any] | None = None
    allowed_lateness_ms: int = 0
    late_tag: str | None = None
    panes: bool = True


class Order(Enum):
    """Which record comes first when a partition is sorted."""

    ASCENDING = "ascending"
    DESCENDING = "descending"


@dataclass(frozen=True, slots=True)
class PartitionWindowOperator:
    """All records of a subtask, or with a key selector of a key, at the end of the input.

    ``map`` hands them to the function; ``sort`` emits them in order of what the function returns; ``reduce``
    and ``aggregate`` emit one record.
    """

    kind: Literal["map", "sort", "aggregate", "reduce"]
    function: UserFunction | AggregateFunction[Any, Any, Any]
    key_selector: UserFunction | None = None
    order: Order = Order.ASCENDING
