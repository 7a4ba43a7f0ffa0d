"""``KeyedOperator``: what operators with keyed state and timers share, with one input or two.

STREAMING: each record sets its key and is processed at once; timers fire with watermarks and with the clock.
BATCH: records are held until the input ends and are processed one key at a time; the key's timers fire after
its last record (``batch_timers``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

from zmflow.api.functions import RuntimeContext
from zmflow.api.operators import UserFunction
from zmflow.api.timer_service import TimeDomain
from zmflow.execution.batch_timers import BatchTimers
from zmflow.execution.batches import Rows
from zmflow.execution.error_guard import ProcessCall
from zmflow.execution.keyed_runtime import forget_key, keyed_runtime, records_by_key
from zmflow.execution.operator_snapshots import SnapshotContext
from zmflow.execution.process_operator import FunctionOperator
from zmflow.execution.stream_operator import OperatorContext, Timestamps
from zmflow.execution.timers import TimerService

__all__ = ["KeyedOperator"]


class KeyedOperator(FunctionOperator):
    """A subclass opens its function in ``open_function`` and has ``on_timer`` called for its timers.

    Args:
        key_selectors: the key of a record, for each input.
    """

    def __init__(self, key_selectors: Sequence[UserFunction]) -> None:
        super().__init__()
        self._key_selectors = key_selectors

    def open(self, context: OperatorContext) -> None:
        super().open(context)
        runtime, self.keyed_state = keyed_runtime(context)
        self._batch = BatchTimers(context.processing_time) if context.batch_mode else None
        self._streaming = TimerService(self.keyed_state, context.processing_time)
        self.timers = self._batch or self._streaming
        if context.restored is not None:
            self._streaming.restore_chunks(context.restored.keyed)
        self._held = records_by_key(context)
        self._key_of: list[Callable[[Any], Any]] = [
            self._functions.open_callable(selector, runtime) for selector in self._key_selectors
        ]
        # For each input, what to call with a record and which context to give it.
        self._calls: list[tuple[ProcessCall, Any]] = self.open_function(runtime)

    def open_function(self, runtime: RuntimeContext) -> list[tuple[ProcessCall, Any]]:
        """Open the function; say what to call for each input, and with which context."""
        raise NotImplementedError

    def on_timer(self, timestamp: int, namespace: Any, domain: TimeDomain) -> None:
        """A timer fires; its key is current."""

    # -- records ------------------------------------------------------------------------------------

    def process(self, rows: Rows, timestamps: Timestamps) -> None:
        self._take(0, rows, timestamps)

    def process_second(self, rows: Rows, timestamps: Timestamps) -> None:
        self._take(1, rows, timestamps)

    def _take(self, number: int, rows: Rows, timestamps: Timestamps) -> None:
        key_of = self._key_of[number]
        if self._batch is not None:
            self._held.add(number, key_of, rows, timestamps)
            return
        call, context = self._calls[number]
        set_key = self.keyed_state.set_current_key
        collect = self._collector.collect
        for value, timestamp in zip(rows, repeat(None) if timestamps is None else timestamps):  # noqa: B905
            set_key(key_of(value))
            context.record_timestamp = timestamp
            results = call(value, context)
            if results is not None:
                collect(results, timestamp)
        self._collector.flush()

    # -- time ---------------------------------------------------------------------------------------

    def advance_watermark(self, watermark_ms: int) -> None:
        if self._batch is None:
            self._streaming.advance_watermark(watermark_ms, self._on_event_time)
            self._collector.flush()

    def next_processing_time_ms(self) -> int | None:
        return None if self._batch is not None else self._streaming.next_processing_time_ms()

    def advance_processing_time(self, now_ms: int) -> None:
        if self._batch is None:
            self._streaming.advance_processing_time(now_ms, self._on_processing_time)
            self._collector.flush()

    def snapshot_state(self, context: SnapshotContext) -> None:
        context.keyed.extend(self._streaming.chunks())

    def state_entries(self) -> int:
        return len(self._streaming)

    def finish(self) -> None:
        if self._batch is None:
            return
        collect = self._collector.collect
        for key, held in self._held.take():
            self.keyed_state.set_current_key(key)
            for timestamp, number, value in held:
                call, context = self._calls[number]
                context.record_timestamp = timestamp
                results = call(value, context)
                if results is not None:
                    collect(results, timestamp)
            self._batch.end_key(key, self._on_event_time, self._on_processing_time)
            forget_key(self.keyed_state)
        self._collector.flush()

    def close(self) -> None:
        self._held.close()
        super().close()

    def _on_event_time(self, timestamp: int, _key: Any, namespace: Any) -> None:
        self.on_timer(timestamp, namespace, TimeDomain.EVENT_TIME)

    def _on_processing_time(self, timestamp: int, _key: Any, namespace: Any) -> None:
        self.on_timer(timestamp, namespace, TimeDomain.PROCESSING_TIME)

    def _call_on_timer(
        self, function: Callable[[int, Any], Any], context: Any, timestamp: int, domain: TimeDomain
    ) -> None:
        """Have a user's function called for a timer, and collect its answer."""
        context.record_timestamp = timestamp
        context.domain = domain
        results = function(timestamp, context)
        if results is not None:
            # What a timer of the clock emits has no timestamp: it is not about event time.
            self._collector.collect(results, timestamp if domain is TimeDomain.EVENT_TIME else None)
