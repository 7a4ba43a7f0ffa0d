"""The operator behind ``assign_timestamps_and_watermarks``: timestamps per record, watermarks per batch.

What is built in looks at the greatest timestamp of a batch, once; a generator of the program's own is asked
for each record. Watermarks go out periodically, by processing time, and only where event time has moved.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from zmflow.api.output_tag import DEAD_LETTERS
from zmflow.api.watermark_strategy import (
    NO_TIMESTAMP,
    TimestampAssigner,
    WatermarkGenerator,
    WatermarksOperator,
)
from zmflow.errors import ZmflowError
from zmflow.execution.batches import Rows
from zmflow.execution.metric_names import RECORDS_REJECTED
from zmflow.execution.operator_snapshots import SnapshotContext
from zmflow.execution.stream_operator import (
    MAX_WATERMARK,
    MIN_WATERMARK,
    OperatorContext,
    StreamOperator,
    Timestamps,
)
from zmflow.state.operator_state import OperatorStateMode

__all__ = ["TimestampsAndWatermarksOperator"]

GENERATOR = "watermark-generator"
"""Operator state: the highest timestamp that was seen, and the generator, where the program has its own."""

_ONLY_INTEGERS = {int}

Assigner: TypeAlias = Callable[[Any, int], int]


class TimestampsAndWatermarksOperator(StreamOperator):
    """Gives records timestamps and says how far event time is, by a ``WatermarkStrategy``.

    Watermarks and statuses that come in are dropped, but for the end of event time.

    Args:
        specification: the strategy, and how often watermarks go out.
    """

    makes_watermarks = True

    def __init__(self, specification: WatermarksOperator) -> None:
        strategy = specification.strategy
        assigner = strategy.timestamp_assigner
        self._assign = assigner.extract_timestamp if isinstance(assigner, TimestampAssigner) else assigner
        self._bound_ms = strategy.bound_ms
        self._factory = strategy.generator_factory
        self.alignment = strategy.alignment
        self._interval_ms = max(0, specification.interval_ms)
        self._idle_timeout_ms = strategy.idle_timeout_ms
        self._generator: WatermarkGenerator[Any] | None = None
        self._highest_ms = MIN_WATERMARK  # of the timestamps seen
        self._watermark_ms = MIN_WATERMARK
        self._idle = False
        self._quiet_since_ms: int | None = None  # the first look that found nothing new
        self._heard = False  # whether records came since the last look
        self._next_ms = 0
        self._ended = False
        self.held = False
        """Whether its source pauses to be aligned with others: its silence does not make the stream idle."""

    @property
    def reached_ms(self) -> int:
        """The watermark that the records seen allow, given out or not; what watermark alignment compares.

        A generator of the program's own may know more than it has said: there it is what was given out.
        """
        return max(self._watermark_ms, self._grown_to())

    @property
    def idle(self) -> bool:
        """Whether the stream has nothing to say for now."""
        return self._idle

    def open(self, context: OperatorContext) -> None:
        self._output = context.output
        self._on_error = context.on_error
        if context.on_error != "fail":
            self._rejected = context.runtime.metric_group.counter(RECORDS_REJECTED)
        self._next_ms = context.processing_time() + self._interval_ms
        if self._factory is not None:
            self._generator = self._factory()
            if not isinstance(self._generator, WatermarkGenerator):
                raise ZmflowError(
                    "The factory given to for_generator() makes no WatermarkGenerator.",
                    detail=f"It returned {self._generator!r}.",
                )

        functions = context.runtime.function_states
        restored = [] if functions is None else functions.store.take(GENERATOR, OperatorStateMode.SPLIT)
        if restored:
            # After a change of parallelism there may be several: event time is where the slowest is.
            highest_ms, generator = min(restored, key=_highest)
            self._highest_ms = highest_ms
            if self._generator is not None and type(generator) is type(self._generator):
                self._generator = generator

    def snapshot_state(self, context: SnapshotContext) -> None:
        context.add_list(GENERATOR, [(self._highest_ms, self._generator)])

    def process(self, rows: Rows, timestamps: Timestamps) -> None:
        assign = self._assign
        if assign is not None:
            try:
                timestamps = _assigned(assign, rows, timestamps)
            except Exception:
                if self._on_error == "fail":
                    raise
                rows, timestamps = self._assigned_singly(assign, rows, timestamps)
                if not rows:
                    return
        self._heard = True
        if self._idle:
            self.mark_active()
        if timestamps is None:
            self._output.emit(rows, None)
        elif self._generator is not None:
            self._ask(self._generator, rows, timestamps)
        else:
            if self._bound_ms is not None:
                highest_ms = max(timestamps)
                if highest_ms > self._highest_ms:
                    self._highest_ms = highest_ms
            self._output.emit(rows, timestamps)

    def advance_watermark(self, watermark_ms: int) -> None:
        if watermark_ms >= MAX_WATERMARK:
            if self._idle:
                self.mark_active()
            self._watermark_ms = MAX_WATERMARK
            self._ended = True

    def next_processing_time_ms(self) -> int | None:
        if not self._interval_ms or self._ended:
            return None
        waits = self._generator is not None or self._grown_to() > self._watermark_ms
        watches = self._idle_timeout_ms is not None and not self._idle
        return self._next_ms if waits or watches else None

    def advance_processing_time(self, now_ms: int) -> None:
        if now_ms < self._next_ms or not self._interval_ms or self._ended:
            return
        self._next_ms = now_ms + self._interval_ms
        if self._is_quiet(now_ms):
            self.mark_idle()
        else:
            self._emit_periodic()

    def finish(self) -> None:
        if not self._ended:
            self._emit_periodic()

    # -- what a generator is given: its WatermarkOutput ----------------------------------------------

    def emit_watermark(self, watermark_ms: int) -> None:
        """Event time has reached this, unless it had before."""
        if watermark_ms <= self._watermark_ms:
            return
        self.mark_active()
        self._watermark_ms = watermark_ms
        self._output.emit_watermark(watermark_ms)

    def mark_idle(self) -> None:
        """The stream has nothing to say for now."""
        if not self._idle:
            self._idle = True
            self._output.emit_status(idle=True)

    def mark_active(self) -> None:
        """The stream has something to say again."""
        if self._idle:
            self._idle = False
            self._output.emit_status(idle=False)

    # -- inside --------------------------------------------------------------------------------------

    def _assigned_singly(
        self, assign: Assigner, rows: Rows, timestamps: Timestamps
    ) -> tuple[Rows, list[int]]:
        """The records that can be given a timestamp, and it; the others are rejected."""
        kept: list[Any] = []
        assigned: list[int] = []
        for index, row in enumerate(rows):
            before = None if timestamps is None else timestamps[index : index + 1]
            try:
                assigned += _assigned(assign, [row], before)
                kept.append(row)
            except Exception as error:  # noqa: BLE001 - whatever user code raises; that is the policy
                self._rejected.inc()
                if self._on_error == "dead_letter":
                    letter = (row, f"{type(error).__name__}: {error}")
                    self._output.emit_side(DEAD_LETTERS.tag_id, [letter], before)
        return kept, assigned

    def _ask(self, generator: WatermarkGenerator[Any], rows: Rows, timestamps: Sequence[int]) -> None:
        """Show a generator each record; what it says goes out behind that record."""
        said = _Said()
        begin = 0
        for index, (row, timestamp) in enumerate(zip(rows, timestamps, strict=True), start=1):
            generator.on_event(row, timestamp, said)
            if said.calls:
                self._output.emit(rows[begin:index], timestamps[begin:index])
                begin = index
                said.repeat_to(self)
        if begin < len(rows):
            self._output.emit(rows[begin:], timestamps[begin:])

    def _emit_periodic(self) -> None:
        if self._generator is not None:
            self._generator.on_periodic_emit(self)
        else:
            self.emit_watermark(self._grown_to())

    def _grown_to(self) -> int:
        """The watermark behind the highest timestamp there was."""
        if self._bound_ms is None or self._highest_ms == MIN_WATERMARK:
            return MIN_WATERMARK
        return self._highest_ms - self._bound_ms - 1

    def _is_quiet(self, now_ms: int) -> bool:
        """Whether nothing was heard for the idle timeout, as far as the looks every interval can tell."""
        heard, self._heard = self._heard, False
        if heard or self.held or self._idle_timeout_ms is None:
            self._quiet_since_ms = None
            return False
        if self._quiet_since_ms is None:
            self._quiet_since_ms = now_ms
        return now_ms - self._quiet_since_ms >= self._idle_timeout_ms


def _highest(restored: tuple[int, Any]) -> int:
    return restored[0]


class _Said:
    """Remembers what a generator says, until the record it is about has gone out."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls: list[int | bool] = []  # a watermark, or whether the stream is idle

    def emit_watermark(self, watermark_ms: int) -> None:
        self.calls.append(watermark_ms)

    def mark_idle(self) -> None:
        self.calls.append(True)

    def mark_active(self) -> None:
        self.calls.append(False)

    def repeat_to(self, output: TimestampsAndWatermarksOperator) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            if call is True:
                output.mark_idle()
            elif call is False:
                output.mark_active()
            else:
                output.emit_watermark(call)


def _assigned(assign: Assigner, rows: Rows, timestamps: Timestamps) -> Sequence[int]:
    """What an assigner says of each record."""
    if timestamps is None:
        assigned = [assign(row, NO_TIMESTAMP) for row in rows]
    else:
        assigned = [assign(row, before) for row, before in zip(rows, timestamps, strict=True)]
    return assigned if set(map(type, assigned)) == _ONLY_INTEGERS else _integers(assigned, rows)


def _integers(assigned: Sequence[object], rows: Rows) -> Sequence[int]:
    """The timestamps as Python's integers, for assigners that return integers of another kind.

    Raises:
        ZmflowError: one is no integer; names the record.
    """
    integers = []
    for row, timestamp in zip(rows, assigned, strict=True):
        try:
            integers.append(operator.index(timestamp))  # type: ignore[arg-type]
        except TypeError:
            raise ZmflowError(
                f"A timestamp assigner returned {timestamp!r}, which is no whole number of milliseconds.",
                detail=f"For the record {row!r:.200}.",
                hint="Return int(seconds * 1000) where the record has seconds.",
            ) from None
    return integers
