"""The operator behind ``full_window_partition``: one window per subtask or key, over when the input is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zmflow.api.functions import AggregateFunction, plain_callable
from zmflow.api.windows.functions import MapPartitionFunction
from zmflow.api.windows.operators import (
    AggregateContents,
    Contents,
    ListContents,
    Order,
    PartitionWindowOperator,
    ReduceContents,
)
from zmflow.execution.batches import Rows
from zmflow.execution.collector import Collector
from zmflow.execution.stream_operator import OperatorContext, StreamOperator, Timestamps
from zmflow.execution.user_functions import OpenedFunctions
from zmflow.execution.windows.accumulation import accumulation_of

__all__ = ["FullPartitionOperator"]

_MISSING = object()


class FullPartitionOperator(StreamOperator):
    """Keeps a partition until the input ends; results have no timestamps, as they belong to no moment."""

    def __init__(self, specification: PartitionWindowOperator) -> None:
        self._specification = specification
        self._functions = OpenedFunctions()
        self._partitions: dict[Any, Any] = {}

    def open(self, context: OperatorContext) -> None:
        specification = self._specification
        self._collector = Collector(context.output)
        selector = specification.key_selector
        self._key_of = None if selector is None else self._functions.open_callable(selector, context.runtime)
        function: Any = specification.function
        self._functions.open(function, context.runtime)
        contents: Contents = ListContents()
        if isinstance(function, AggregateFunction):
            contents = AggregateContents(function)
        elif specification.kind == "reduce":
            contents = ReduceContents(function)
        elif isinstance(function, MapPartitionFunction):
            self._function = function.map_partition
        else:
            self._function = plain_callable(function)
        self._accumulation = accumulation_of(contents)

    def process(self, rows: Rows, timestamps: Timestamps) -> None:  # noqa: ARG002 - of the interface
        if self._key_of is None and self._accumulation.keeps_records:
            self._partitions.setdefault(None, []).extend(rows)
            return
        partitions, key_of, including = self._partitions, self._key_of, self._accumulation.including
        for value in rows:
            key = None if key_of is None else key_of(value)
            kept = partitions.get(key, _MISSING)
            partitions[key] = including(value, kept, kept is _MISSING)

    def finish(self) -> None:
        partitions = self._partitions
        while partitions:
            results = self._results(partitions.pop(next(iter(partitions))))
            if results is not None:
                self._collector.collect(results, None)
        self._collector.flush()

    def close(self) -> None:
        self._functions.close()

    def _results(self, kept: Any) -> Iterable[Any] | None:
        match self._specification.kind:
            case "map":
                results: Iterable[Any] | None = self._function(kept)
                return results
            case "sort":
                kept.sort(key=self._function, reverse=self._specification.order is Order.DESCENDING)
                ordered: list[Any] = kept
                return ordered
            case _:
                return self._accumulation.elements(kept)
