"""The window operator that knows every assigner, trigger, evictor and function: record by record."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any

from zmflow.api.windows.assigner import MergingWindowAssigner
from zmflow.api.windows.evictors import TimestampedValue
from zmflow.api.windows.operators import WindowOperator
from zmflow.api.windows.time_triggers import EventTimeTrigger, ProcessingTimeTrigger
from zmflow.api.windows.trigger import TriggerResult
from zmflow.api.windows.window import MAX_TIMESTAMP, NO_TIMESTAMP, Window
from zmflow.errors import ZmflowError
from zmflow.execution.batch_timers import BatchTimers
from zmflow.execution.batches import Rows
from zmflow.execution.keyed_runtime import forget_key, records_by_key
from zmflow.execution.operator_snapshots import SnapshotContext
from zmflow.execution.stream_operator import OperatorContext, Timestamps
from zmflow.execution.timers import TimerService
from zmflow.execution.windows.contents_state import AccumulatorState, RecordsState, TimestampedRecordsState
from zmflow.execution.windows.contexts import WindowContext
from zmflow.execution.windows.merging_windows import MergingWindowSet
from zmflow.execution.windows.windows_base import WindowsBase

__all__ = ["AnyWindowOperator"]


class AnyWindowOperator(WindowsBase):
    """Windows of one subtask, by the rules of Flink's WindowOperator.

    Contents, triggers' state and merged windows are in keyed state, timers in the timer service; the window
    is their namespace.
    """

    def __init__(self, specification: WindowOperator) -> None:
        super().__init__(specification)
        self._assigner = specification.assigner
        self._trigger = specification.trigger
        self._evictor = specification.evictor
        self._is_event_time = specification.assigner.is_event_time()
        self._key: Any = None
        # These triggers set a timer for the end of the window, which is when it can be cleaned up.
        self._trigger_sets_cleanup = not self._lateness_ms and type(self._trigger) is (
            EventTimeTrigger if self._is_event_time else ProcessingTimeTrigger
        )

    def open(self, context: OperatorContext) -> None:
        super().open(context)
        opened = self._opened
        self._backend = opened.backend
        self._streaming = TimerService(self._backend, context.processing_time)
        self._batch = BatchTimers(context.processing_time) if context.batch_mode else None
        self._timers = self._batch or self._streaming
        if context.restored is not None:
            self._streaming.restore_chunks(context.restored.keyed)
        self._held = records_by_key(context)
        self._processing_time = context.processing_time
        self._context = WindowContext(opened.runtime, self._backend, self._timers, context.processing_time)
        first = _NO_WINDOW
        self._contents: AccumulatorState | RecordsState
        if self._evictor is not None:
            self._contents = TimestampedRecordsState(self._backend, first)
        elif opened.accumulation.keeps_records:
            self._contents = RecordsState(self._backend, first)
        else:
            self._contents = AccumulatorState(opened.accumulation, self._backend, first)
        self._merging: MergingWindowSet | None = None
        if isinstance(self._assigner, MergingWindowAssigner):
            self._merging = MergingWindowSet(self._assigner, self._backend)

    def current_watermark(self) -> int:
        return self._timers.current_watermark()

    # -- records ------------------------------------------------------------------------------------

    def take(self, rows: Rows, timestamps: Timestamps) -> None:
        if self._batch is not None:
            self._held.add(0, self._opened.key_of, rows, timestamps)
            return
        key_of = self._opened.key_of
        set_current_key = self._backend.set_current_key
        put = self._put
        for value, timestamp in zip(rows, repeat(NO_TIMESTAMP) if timestamps is None else timestamps):  # noqa: B905
            key = self._key = key_of(value)
            set_current_key(key)
            put(value, timestamp)

    def _put(self, value: Any, timestamp: int) -> None:
        """A record of the current key."""
        add = self._add if self._merging is None else self._add_merging
        accepted = False
        for window in self._assigner.assign_windows(value, timestamp, self._context):
            accepted |= add(value, timestamp, window)
        if accepted or not self._is_event_time:
            return
        if min(timestamp + self._lateness_ms, MAX_TIMESTAMP) <= self._timers.current_watermark():
            self._late(value, timestamp)

    def _add(self, value: Any, timestamp: int, window: Window) -> bool:
        """Put a record into a window that does not merge; false when the window is over."""
        if self._is_over(window):
            return False
        self._contents.use(window)
        self._added(value, timestamp, window, window)
        return True

    def _add_merging(self, value: Any, timestamp: int, window: Window) -> bool:
        assert self._merging is not None
        window, state_window = self._merging.add(window, self._merge)
        if self._is_over(window):
            self._merging.retire(window)
            return False
        self._contents.use(state_window)
        self._added(value, timestamp, window, state_window)
        return True

    def _added(self, value: Any, timestamp: int, window: Window, state_window: Window) -> None:
        self._contents.add(value, timestamp)
        self._context.window = window
        result = self._trigger.on_element(value, timestamp, window, self._context)
        if result is not TriggerResult.CONTINUE:
            self._act(result, window, state_window)
        if self._trigger_sets_cleanup:
            return
        cleanup_ms = self._cleanup_time(window)
        if cleanup_ms != MAX_TIMESTAMP:
            self._context.window = window
            if self._is_event_time:
                self._context.register_event_time_timer(cleanup_ms)
            else:
                self._context.register_processing_time_timer(cleanup_ms)

    def _merge(
        self, result: Window, merged: list[Window], state_window: Window, merged_state_windows: list[Window]
    ) -> None:
        self._refuse_merging_into_the_past(result)
        context = self._context
        context.window, context.merged = result, merged
        self._trigger.on_merge(result, context)
        for window in merged:
            context.window = window
            self._trigger.clear(window, context)
            cleanup_ms = self._cleanup_time(window)
            if self._is_event_time:
                context.delete_event_time_timer(cleanup_ms)
            else:
                context.delete_processing_time_timer(cleanup_ms)
        if merged_state_windows:
            self._contents.merge(state_window, merged_state_windows)

    def _refuse_merging_into_the_past(self, window: Window) -> None:
        over = (
            self._is_over(window)
            if self._is_event_time
            else window.max_timestamp() <= self._processing_time()
        )
        if over:
            raise ZmflowError(
                f"Merging windows resulted in {window!r}, which has already ended.",
                detail=f"Watermark: {self._timers.current_watermark()}.",
                hint=f"The {type(self._assigner).__name__} must not shorten windows.",
            )

    # -- time -----------------------------------------------------------------------------------------

    def advance_watermark(self, watermark_ms: int) -> None:
        if self._batch is None:
            self._streaming.advance_watermark(watermark_ms, self._on_event_time)
            self._collector.flush()

    def next_processing_time_ms(self) -> int | None:
        if self._batch is not None:
            return None
        due_ms = self._streaming.next_processing_time_ms()
        return None if due_ms is None else due_ms + 1

    def advance_processing_time(self, now_ms: int) -> None:
        if self._batch is None:
            # One millisecond later, as in Flink: while the clock shows the last instant of a window, records
            # for it may still come, and would fire it once more.
            self._streaming.advance_processing_time(now_ms - 1, self._on_processing_time)
            self._collector.flush()

    def snapshot_state(self, context: SnapshotContext) -> None:
        context.keyed.extend(self._streaming.chunks())

    def state_entries(self) -> int:
        return len(self._streaming)

    def finish(self) -> None:
        if self._batch is None:
            return
        for key, held in self._held.take():
            self._key = key
            self._backend.set_current_key(key)
            for timestamp, _, value in held:
                self._put(value, NO_TIMESTAMP if timestamp is None else timestamp)
            self._batch.end_key(key, self._on_event_time, self._on_processing_time)
            forget_key(self._backend)
        self._collector.flush()

    def close(self) -> None:
        self._held.close()
        super().close()

    def _on_event_time(self, timestamp: int, key: Any, window: Any) -> None:
        self._on_timer(timestamp, key, window, is_event_time=True)

    def _on_processing_time(self, timestamp: int, key: Any, window: Any) -> None:
        self._on_timer(timestamp, key, window, is_event_time=False)

    def _on_timer(self, timestamp: int, key: Any, window: Window, *, is_event_time: bool) -> None:
        self._key = key
        self._backend.set_current_key(key)
        state_window: Window | None = window
        if self._merging is not None:
            state_window = self._merging.state_window(window)
            if state_window is None:
                return  # a timer of a window that has become part of another one
        assert state_window is not None
        self._contents.use(state_window)
        context = self._context
        context.window = window
        ask = self._trigger.on_event_time if is_event_time else self._trigger.on_processing_time
        result = ask(timestamp, window, context)
        if result is not TriggerResult.CONTINUE:
            self._act(result, window, state_window)
        if is_event_time is self._is_event_time and timestamp == self._cleanup_time(window):
            self._clean_up(window, state_window)

    # -- one window -----------------------------------------------------------------------------------

    def _is_over(self, window: Window) -> bool:
        return self._is_event_time and self._cleanup_time(window) <= self._timers.current_watermark()

    def _cleanup_time(self, window: Window) -> int:
        """When nothing of a window is needed any more; never, where that is the end of time."""
        if self._is_event_time:
            return min(window.max_timestamp() + self._lateness_ms, MAX_TIMESTAMP)
        return window.max_timestamp()

    def _act(self, result: TriggerResult, window: Window, state_window: Window) -> None:
        if result.is_fire() and not self._contents.is_empty():
            self._fire(window)
            # A function with state of its own may have looked at other windows' contents by the same name.
            self._contents.use(state_window)
        if result.is_purge():
            self._contents.clear()

    def _fire(self, window: Window) -> None:
        accumulation = self._opened.accumulation
        if isinstance(self._contents, TimestampedRecordsState):
            self._fire_evicting(window, self._contents)
        else:
            self._emit(window, accumulation.elements(self._contents.get()))

    def _fire_evicting(self, window: Window, contents: TimestampedRecordsState) -> None:
        assert self._evictor is not None
        records: list[TimestampedValue[Any]] = contents.get()
        self._evictor.evict_before(records, len(records), window, self._context)
        values = [record.value for record in records]
        if values:
            accumulation = self._opened.accumulation
            self._emit(window, accumulation.elements(accumulation.of_records(values)))
            self._evictor.evict_after(records, len(records), window, self._context)
        contents.replace(records)

    def _emit(self, window: Window, elements: Iterable[Any]) -> None:
        call = self._opened.call
        results = elements if call is None else call(self._key, window, elements)
        if results is not None:
            self._collector.collect(results, window.max_timestamp())

    def _clean_up(self, window: Window, state_window: Window) -> None:
        self._contents.use(state_window)
        self._contents.clear()
        self._context.window = window
        self._trigger.clear(window, self._context)
        self._opened.clear(window)
        if self._merging is not None:
            self._merging.retire(window)


class _NoWindow(Window):
    """The namespace that state of windows has until the first window is used."""

    __slots__ = ()

    def max_timestamp(self) -> int:
        return MAX_TIMESTAMP


_NO_WINDOW = _NoWindow()
