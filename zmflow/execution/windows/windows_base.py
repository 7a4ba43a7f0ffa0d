"""What both window operators share: functions, state, late records, results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from zmflow.api.functions import Function
from zmflow.api.output_tag import DEAD_LETTERS
from zmflow.api.windows.assigner import MergingWindowAssigner
from zmflow.api.windows.functions import ProcessAllWindowFunction, ProcessWindowFunction
from zmflow.api.windows.operators import (
    AggregateContents,
    FiredFunction,
    ReduceContents,
    WindowOperator,
)
from zmflow.api.windows.window import Window
from zmflow.execution.batches import Rows
from zmflow.execution.collector import Collector
from zmflow.execution.keyed_runtime import keyed_runtime
from zmflow.execution.metric_names import LATE_RECORDS_DROPPED, RECORDS_REJECTED
from zmflow.execution.stream_operator import OperatorContext, StreamOperator, Timestamps
from zmflow.execution.user_functions import OpenedFunctions
from zmflow.execution.windows.accumulation import Accumulation, accumulation_of
from zmflow.execution.windows.contexts import FiredContext
from zmflow.state.backend import KeyedStateBackend

__all__ = ["OpenedWindows", "WindowsBase"]

ALL_RECORDS = 0
"""The key of windows over a whole stream, as in PyFlink."""

Fired = Callable[[Any, Any, Iterable[Any]], Iterable[Any] | None]
"""(key, window, records) → results."""


class OpenedWindows:
    """The functions of a window operator, opened, and where its state is."""

    def __init__(
        self,
        specification: WindowOperator,
        context: OperatorContext,
        functions: OpenedFunctions,
        watermark: Callable[[], int],
    ) -> None:
        self.runtime, self.backend = keyed_runtime(context)
        self.functions = functions
        selector = specification.key_selector
        self.key_of: Callable[[Any], Any] = (
            _one_key if selector is None else self.functions.open_callable(selector, self.runtime)
        )
        match specification.contents:
            case AggregateContents(function) | ReduceContents(function):
                self.functions.open(function, self.runtime)
        self.accumulation: Accumulation = accumulation_of(specification.contents)
        merging = isinstance(specification.assigner, MergingWindowAssigner)
        self._context = FiredContext(self.backend, context.processing_time, watermark, merging=merging)
        fired = specification.function
        self.call: Fired | None = None if fired is None else self._call(fired)
        self.uses_state = fired is not None and isinstance(fired.function, Function)
        self._clear: Callable[[Any], None] | None = None
        if fired is not None and isinstance(
            fired.function, (ProcessWindowFunction, ProcessAllWindowFunction)
        ):
            inherited = (ProcessWindowFunction.clear, ProcessAllWindowFunction.clear)
            if type(fired.function).clear not in inherited:
                self._clear = fired.function.clear

    @property
    def clears(self) -> bool:
        """Whether the function wants to know when a window is over."""
        return self._clear is not None

    def clear(self, window: Window) -> None:
        """A window of the current key is over."""
        if self._clear is not None:
            self._context.fired = window
            self._clear(self._context)

    def _call(self, fired: FiredFunction) -> Fired:
        function: Any = fired.function
        self.functions.open(function, self.runtime)
        context = self._context
        if fired.call in ("apply", "apply_all"):
            apply = getattr(function, "apply", function)
            return apply if fired.call == "apply" else lambda _key, window, records: apply(window, records)
        process = getattr(function, "process", function)

        def process_keyed(key: Any, window: Any, records: Iterable[Any]) -> Iterable[Any] | None:
            context.fired = window
            results: Iterable[Any] | None = process(key, context, records)
            return results

        def process_all(_key: Any, window: Any, records: Iterable[Any]) -> Iterable[Any] | None:
            context.fired = window
            results: Iterable[Any] | None = process(context, records)
            return results

        return process_keyed if fired.call == "process" else process_all


class WindowsBase(StreamOperator):
    """Opening, late records, records that functions raise for, closing.

    Two metrics: records that came too late and have no side output to go to, and those that a function
    raised for and the job goes on without.
    """

    def __init__(self, specification: WindowOperator) -> None:
        self.specification = specification
        self._functions = OpenedFunctions()
        self._lateness_ms = specification.allowed_lateness_ms
        self._late_tag = specification.late_tag

    def open(self, context: OperatorContext) -> None:
        self._opened = OpenedWindows(self.specification, context, self._functions, self.current_watermark)
        self._collector = Collector(context.output)
        self._batch_mode = context.batch_mode
        self._on_error = context.on_error
        metrics = context.runtime.metric_group
        self._late_records_dropped = metrics.counter(LATE_RECORDS_DROPPED)
        if context.on_error != "fail":
            self._rejected = metrics.counter(RECORDS_REJECTED)

    @property
    def keyed_state(self) -> KeyedStateBackend:
        """Where the state of triggers, functions and windows is."""
        return self._opened.backend

    def current_watermark(self) -> int:
        """How far event time has come."""
        raise NotImplementedError

    def process(self, rows: Rows, timestamps: Timestamps) -> None:
        if self._on_error == "fail":
            self.take(rows, timestamps)
        else:
            for index, value in enumerate(rows):
                self._try(value, None if timestamps is None else timestamps[index])
        self._collector.flush()

    def take(self, rows: Rows, timestamps: Timestamps) -> None:
        """Put a batch into windows; results stay in the collector."""
        raise NotImplementedError

    def close(self) -> None:
        self._functions.close()

    def _try(self, value: Any, timestamp: int | None) -> None:
        """Take one record that may be rejected: what was done before a function raised stays done."""
        try:
            self.take((value,), None if timestamp is None else (timestamp,))
        except Exception as error:  # noqa: BLE001 - whatever user code raises; that is the policy
            self._rejected.inc()
            if self._on_error == "dead_letter":
                letter = (value, f"{type(error).__name__}: {error}")
                self._collector.collect_side(DEAD_LETTERS.tag_id, letter, timestamp)

    def _late(self, value: Any, timestamp: int) -> None:
        if self._late_tag is None:
            self._late_records_dropped.inc()
        else:
            self._collector.collect_side(self._late_tag, value, timestamp)


def _one_key(_value: Any) -> int:
    return ALL_RECORDS
