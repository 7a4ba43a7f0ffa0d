"""Process functions of streams without keys, with one input or two."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

from zmflow.api.functions import (
    CoFlatMapFunction,
    CoMapFunction,
    FilterFunction,
    FlatMapFunction,
    MapFunction,
)
from zmflow.api.process_functions import (
    CoProcessFunction,
    KeyedCoProcessFunction,
    KeyedProcessFunction,
    ProcessFunction,
)
from zmflow.errors import ProtocolError
from zmflow.execution.batches import Rows
from zmflow.execution.collector import Collector
from zmflow.execution.error_guard import ProcessCall, guarded
from zmflow.execution.metric_names import RECORDS_REJECTED
from zmflow.execution.process_contexts import CurrentTime, UnkeyedContext
from zmflow.execution.stream_operator import OperatorContext, StreamOperator, Timestamps
from zmflow.execution.user_functions import OpenedFunctions

__all__ = ["FunctionOperator", "UnkeyedProcess", "calls_of"]


def calls_of(function: object) -> tuple[ProcessCall, ...]:
    """What to call for a record of each input of a function.

    Raises:
        ProtocolError: it is no function that an operator of this kind runs.
    """
    match function:
        case ProcessFunction() | KeyedProcessFunction():
            return (function.process_element,)
        case CoProcessFunction() | KeyedCoProcessFunction():
            return (function.process_element1, function.process_element2)
        case CoMapFunction():
            return (_one_result(function.map1), _one_result(function.map2))
        case CoFlatMapFunction():
            return (_no_context(function.flat_map1), _no_context(function.flat_map2))
        case MapFunction():
            return (_one_result(function.map),)
        case FlatMapFunction():
            return (_no_context(function.flat_map),)
        case FilterFunction():
            return (_kept_by(function.filter),)
    raise ProtocolError(f"No operator runs a {type(function).__name__}.")


def _one_result(function: Callable[[Any], Any]) -> ProcessCall:
    return lambda value, _context: (function(value),)


def _no_context(function: Callable[[Any], Iterable[Any] | None]) -> ProcessCall:
    return lambda value, _context: function(value)


def _kept_by(function: Callable[[Any], object]) -> ProcessCall:
    return lambda value, _context: (value,) if function(value) else None


class FunctionOperator(StreamOperator):
    """What operators that call a user's function for each record share."""

    def __init__(self) -> None:
        self._functions = OpenedFunctions()

    def open(self, context: OperatorContext) -> None:
        self._collector = Collector(context.output)
        self._on_error = context.on_error
        if context.on_error != "fail":
            self._rejected = context.runtime.metric_group.counter(RECORDS_REJECTED)

    def close(self) -> None:
        self._functions.close()

    def _guarded(self, call: ProcessCall) -> ProcessCall:
        return guarded(call, self._on_error, self._reject)

    def _reject(self) -> None:
        self._rejected.inc()

    def _run(self, call: ProcessCall, context: Any, rows: Rows, timestamps: Timestamps) -> None:
        """Call for each record of a batch that has no keys."""
        collect = self._collector.collect
        for value, timestamp in zip(rows, repeat(None) if timestamps is None else timestamps):  # noqa: B905
            context.record_timestamp = timestamp
            results = call(value, context)
            if results is not None:
                collect(results, timestamp)
        self._collector.flush()


class UnkeyedProcess(FunctionOperator):
    """A function without keys: no state, no timers.

    Args:
        function: an object of any function class that ``calls_of`` knows.
    """

    def __init__(self, function: Any) -> None:
        super().__init__()
        self._function = function

    def open(self, context: OperatorContext) -> None:
        super().open(context)
        self._time = CurrentTime(context.processing_time)
        self._context = UnkeyedContext(self._time)
        self._functions.open(self._function, context.runtime)
        self._calls = [self._guarded(call) for call in calls_of(self._function)]

    def process(self, rows: Rows, timestamps: Timestamps) -> None:
        self._run(self._calls[0], self._context, rows, timestamps)

    def process_second(self, rows: Rows, timestamps: Timestamps) -> None:
        self._run(self._calls[1], self._context, rows, timestamps)

    def advance_watermark(self, watermark_ms: int) -> None:
        self._time.watermark_ms = watermark_ms
