"""The interval join: pairs of records of two keyed inputs whose timestamps are near each other.

Each input keeps the records that a record of the other may still want, in buckets of as much event time as
the interval is long: a record looks into two buckets at most, and one timer clears a whole bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from zmflow.api.functions import RuntimeContext
from zmflow.api.interval_join import IntervalJoinOperator
from zmflow.api.join_functions import ProcessJoinContext, ProcessJoinFunction
from zmflow.api.timer_service import TimeDomain
from zmflow.errors import ZmflowError
from zmflow.execution.error_guard import ProcessCall
from zmflow.execution.keyed_operator import KeyedOperator
from zmflow.execution.metric_names import LATE_RECORDS_DROPPED
from zmflow.execution.stream_operator import MIN_WATERMARK
from zmflow.state.descriptors import ListStateDescriptor
from zmflow.state.keyed_states import KeyedListState

__all__ = ["IntervalJoinProcess"]

Timed = tuple[int, Any]
"""A kept record: timestamp and value."""


class _PairContext(ProcessJoinContext):
    left_timestamp = 0
    right_timestamp = 0

    def get_left_timestamp(self) -> int:
        return self.left_timestamp

    def get_right_timestamp(self) -> int:
        return self.right_timestamp

    def get_timestamp(self) -> int:
        return max(self.left_timestamp, self.right_timestamp)


class _RecordContext:
    """Where the engine notes the timestamp of the record that arrives."""

    record_timestamp: int | None = None


class _Buffer:
    """What is kept of one input, for the current key.

    Args:
        state: a list for each bucket, which is its namespace.
        width_ms: how much event time a bucket is.
        kept_ms: how far event time may pass a record before no record of the other input wants it.
    """

    def __init__(self, state: KeyedListState[Timed], width_ms: int, kept_ms: int) -> None:
        self._state = state
        self._width_ms = width_ms
        self._kept_ms = kept_ms

    def add(self, timestamp: int, value: Any) -> int:
        """Keep a record; when its bucket is to be cleared."""
        bucket = timestamp // self._width_ms
        self._state.set_current_namespace(bucket)
        self._state.add((timestamp, value))
        return (bucket + 1) * self._width_ms - 1 + self._kept_ms

    def between(self, first_ms: int, last_ms: int, watermark_ms: int) -> Iterator[Timed]:
        """The records with timestamps from ``first_ms`` to ``last_ms`` that event time has not passed.

        A bucket outlives the first of its records: which of them count is said by event time alone, so that
        results do not depend on how records fall into buckets.
        """
        if watermark_ms != MIN_WATERMARK:
            first_ms = max(first_ms, watermark_ms - self._kept_ms + 1)
        for bucket in range(first_ms // self._width_ms, last_ms // self._width_ms + 1):
            self._state.set_current_namespace(bucket)
            for record in self._state.get():
                if first_ms <= record[0] <= last_ms:
                    yield record

    def clear_at(self, timestamp: int) -> None:
        """Clear the bucket whose time this is."""
        self._state.set_current_namespace((timestamp - self._kept_ms) // self._width_ms)
        self._state.clear()


class IntervalJoinProcess(KeyedOperator):
    """Joins two keyed inputs.

    Args:
        spec: keys, function, bounds and side outputs.
    """

    def __init__(self, spec: IntervalJoinOperator) -> None:
        super().__init__(spec.key_selectors)
        self._spec = spec

    def open_function(self, runtime: RuntimeContext) -> list[tuple[ProcessCall, Any]]:
        spec = self._spec
        width_ms = max(spec.upper_ms - spec.lower_ms, 1)

        def buffer(name: str, kept_ms: int) -> _Buffer:
            state = self.keyed_state.get_state(ListStateDescriptor[Timed](name), namespace=0)
            return _Buffer(state, width_ms, max(kept_ms, 0))

        self._left = buffer("left-buffer", spec.upper_ms)
        self._right = buffer("right-buffer", -spec.lower_ms)
        self._pair = _PairContext()
        self._late_records_dropped = runtime.metric_group.counter(LATE_RECORDS_DROPPED)
        self._functions.open(spec.function, runtime)
        self._join = _join_call(spec.function)
        context = self._arriving = _RecordContext()
        return [(self._guarded(self._take_left), context), (self._guarded(self._take_right), context)]

    def on_timer(self, timestamp: int, namespace: Any, domain: TimeDomain) -> None:  # noqa: ARG002
        (self._left if namespace == "left" else self._right).clear_at(timestamp)

    def _take_left(self, value: Any, context: _RecordContext) -> None:
        timestamp = self._checked(context.record_timestamp)
        watermark = self.timers.current_watermark()
        if timestamp < watermark:
            self._late(self._spec.left_late_tag, value, timestamp)
            return
        clear_ms = self._left.add(timestamp, value)
        self.timers.register_event_time_timer(clear_ms, "left")
        first_ms, last_ms = timestamp + self._spec.lower_ms, timestamp + self._spec.upper_ms
        self._emit(
            [
                (timestamp, value, other_timestamp, other)
                for other_timestamp, other in self._right.between(first_ms, last_ms, watermark)
            ]
        )

    def _take_right(self, value: Any, context: _RecordContext) -> None:
        timestamp = self._checked(context.record_timestamp)
        watermark = self.timers.current_watermark()
        if timestamp < watermark:
            self._late(self._spec.right_late_tag, value, timestamp)
            return
        clear_ms = self._right.add(timestamp, value)
        self.timers.register_event_time_timer(clear_ms, "right")
        first_ms, last_ms = timestamp - self._spec.upper_ms, timestamp - self._spec.lower_ms
        self._emit(
            [
                (other_timestamp, other, timestamp, value)
                for other_timestamp, other in self._left.between(first_ms, last_ms, watermark)
            ]
        )

    def _emit(self, pairs: list[tuple[int, Any, int, Any]]) -> None:
        """Call for each pair, then emit: a record whose function raises is rejected whole."""
        results: list[tuple[list[Any], int]] = []
        context = self._pair
        for left_timestamp, left, right_timestamp, right in pairs:
            context.left_timestamp = left_timestamp
            context.right_timestamp = right_timestamp
            answer = self._join(left, right, context)
            if answer is not None:
                results.append((list(answer), max(left_timestamp, right_timestamp)))
        for rows, timestamp in results:
            self._collector.collect(rows, timestamp)

    def _late(self, tag_id: str | None, value: Any, timestamp: int) -> None:
        if tag_id is None:
            self._late_records_dropped.inc()
        else:
            self._collector.collect_side(tag_id, value, timestamp)

    def _checked(self, timestamp: int | None) -> int:
        if timestamp is None:
            raise ZmflowError(
                "An interval join got a record without a timestamp.",
                hint="Call assign_timestamps_and_watermarks() on both streams before key_by().",
            )
        return timestamp


def _join_call(function: Any) -> Callable[[Any, Any, Any], Any]:
    if isinstance(function, ProcessJoinFunction):
        return function.process_element
    return lambda left, right, _context: (function(left, right),)
