"""What a stream method adds to the dataflow, as data: the operators that ``zmflow.execution`` compiles.

Each class is the specification of one operator. They are pickled into a JobVertex and mean nothing
until a worker compiles the chain they are part of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from zmflow.api.functions import Function, SinkFunction
from zmflow.api.sinks import Sink
from zmflow.api.sources import Source

__all__ = [
    "FilterOperator",
    "FlatMapOperator",
    "KeyedAggregateOperator",
    "KeyedReduceOperator",
    "MapOperator",
    "Operator",
    "ProjectOperator",
    "SinkFunctionOperator",
    "SinkOperator",
    "SourceOperator",
    "UserFunction",
]

UserFunction = Callable[..., Any] | Function


@dataclass(frozen=True, slots=True)
class SourceOperator:
    source: Source[Any, Any]


@dataclass(frozen=True, slots=True)
class MapOperator:
    function: UserFunction


@dataclass(frozen=True, slots=True)
class FlatMapOperator:
    function: UserFunction


@dataclass(frozen=True, slots=True)
class FilterOperator:
    function: UserFunction


@dataclass(frozen=True, slots=True)
class ProjectOperator:
    """Keeps the given fields of a tuple, list or Row, in that order."""

    fields: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeyedReduceOperator:
    """A running reduction per key: emits the new value for each record (STREAMING) or the last value
    of each key at the end of the input (BATCH), as Flink does."""

    key_selector: UserFunction
    function: UserFunction
    final_only: bool


@dataclass(frozen=True, slots=True)
class KeyedAggregateOperator:
    """A running sum, min, max, min_by or max_by of one field per key.

    ``field`` is a position, an attribute or mapping name, or None when the record is the number
    itself. ``sum``, ``min`` and ``max`` keep the other fields of the key's first record; ``min_by`` and
    ``max_by`` keep the whole record that won, the first of equals, which is Flink's rule.

    With ``precombined`` its input is pairs of a key and a record, where records of a key were summed up
    before the exchange: a sum need not have the key its parts had.
    """

    key_selector: UserFunction
    kind: Literal["sum", "min", "max", "min_by", "max_by"]
    field: int | str | None
    final_only: bool
    precombined: bool = False


@dataclass(frozen=True, slots=True)
class SinkOperator:
    sink: Sink[Any]


@dataclass(frozen=True, slots=True)
class SinkFunctionOperator:
    function: SinkFunction[Any] | Callable[[Any], object]


Operator = (
    SourceOperator
    | MapOperator
    | FlatMapOperator
    | FilterOperator
    | ProjectOperator
    | KeyedReduceOperator
    | KeyedAggregateOperator
    | SinkOperator
    | SinkFunctionOperator
)
