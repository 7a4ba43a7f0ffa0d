"""The stages of a chain: runs of compiled functions, and operators of their own.

Stages form a tree. A batch enters a stage and what leaves it goes to what follows: further stages, sink
writers, result writers. Time events take the same way; whatever a stage does about one, it does before it
hands it on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from zmflow.errors import ProtocolError
from zmflow.execution.batches import Batch, Rows, TimedRows
from zmflow.execution.chain_code import SegmentCode
from zmflow.execution.fitting import Fitting
from zmflow.execution.stream_operator import MAX_WATERMARK, StreamOperator, Timestamps
from zmflow.execution.time_events import StreamStatus, TimeEvent, Watermark

__all__ = ["BatchConsumer", "EventConsumer", "OperatorStage", "Segment", "Stage"]

FINAL_BATCH_ROWS = 1024
"""Rows per batch when a final-only aggregate hands out its state: like a source's batch."""


class BatchConsumer(Protocol):
    """Takes the batches that leave a stage."""

    def __call__(self, batch: Batch, /) -> None: ...


EventConsumer = Callable[[TimeEvent], None]


class Stage:
    """What all stages share: what follows them."""

    def __init__(self) -> None:
        self.consumers: list[BatchConsumer] = []
        self.events: list[EventConsumer] = []  # result writers and sinks, which want time events, too
        self.following: list[Stage] = []

    def take(self, batch: Batch) -> None:
        """A batch enters."""
        self.hand_on(batch)

    def take_second(self, batch: Batch) -> None:
        """A batch of the second input enters."""
        raise ProtocolError(
            "A batch came for a second input that is not there.", detail=f"{len(batch)} rows."
        )

    def hand_on(self, batch: Batch) -> None:
        """A batch leaves."""
        for consumer in self.consumers:
            consumer(batch)

    def event(self, event: TimeEvent) -> None:
        """A time event enters."""
        self.hand_on_event(event)

    def hand_on_event(self, event: TimeEvent) -> None:
        """A time event leaves."""
        for stage in self.following:
            stage.event(event)
        for consumer in self.events:
            consumer(event)

    def finish(self) -> None:
        """The input has ended."""
        for stage in self.following:
            stage.finish()


class Segment(Stage):
    """A run of compiled functions.

    Args:
        code: for rows without timestamps; None for a segment without functions.
        timed_code: makes the code for rows with timestamps, when the first come.
        final_state: of a final-only aggregate at its end.
    """

    def __init__(
        self,
        code: SegmentCode | None,
        timed_code: Callable[[], SegmentCode],
        final_state: dict[Any, Any] | None,
    ) -> None:
        super().__init__()
        self._code = code
        self._make_timed_code = timed_code
        self._timed_code: SegmentCode | None = None
        self._final_state = final_state

    def take(self, batch: Batch) -> None:
        if self._code is not None:
            if batch.__class__ is TimedRows:
                assert isinstance(batch, TimedRows)
                if self._timed_code is None:
                    self._timed_code = self._make_timed_code()
                rows, times = self._timed_code.run(batch.rows, batch.timestamps, self._hand_on_timed)
                batch = TimedRows(rows, times)
            else:
                batch = self._code.run(batch, self.hand_on)
        if batch:
            self.hand_on(batch)

    def _hand_on_timed(self, rows: Rows, timestamps: Sequence[int]) -> None:
        self.hand_on(TimedRows(rows, timestamps))

    def finish(self) -> None:
        if self._final_state is not None:
            values = list(self._final_state.values())
            self._final_state.clear()
            for start in range(0, len(values), FINAL_BATCH_ROWS):
                self.hand_on(values[start : start + FINAL_BATCH_ROWS])
        super().finish()


class OperatorStage(Stage):
    """An operator with state, timers or time of its own; the stage is its ``Output``."""

    def __init__(self, operator: StreamOperator, fitting: Fitting | None = None) -> None:
        super().__init__()
        self.operator = operator
        self._fitting = fitting
        self.side_consumers: dict[str, list[BatchConsumer]] = {}

    def take(self, batch: Batch) -> None:
        if batch.__class__ is TimedRows:
            assert isinstance(batch, TimedRows)
            self.operator.process(batch.rows, batch.timestamps)
        else:
            self.operator.process(batch, None)  # type: ignore[arg-type]

    def take_second(self, batch: Batch) -> None:
        if isinstance(batch, TimedRows):
            self.operator.process_second(batch.rows, batch.timestamps)
        else:
            self.operator.process_second(batch, None)

    def event(self, event: TimeEvent) -> None:
        if isinstance(event, Watermark):
            self.operator.advance_watermark(event.timestamp_ms)
            if not self.operator.makes_watermarks or event.timestamp_ms == MAX_WATERMARK:
                self.hand_on_event(event)
        elif self.operator.makes_watermarks:
            self.operator.input_status(idle=event.idle)
        else:
            self.hand_on_event(event)

    def finish(self) -> None:
        self.operator.finish()
        super().finish()

    # -- Output -------------------------------------------------------------------------------------

    def emit(self, rows: Rows, timestamps: Timestamps) -> None:
        """The operator emits."""
        if rows and self._fitting is not None:
            rows, timestamps = self._fitting.rows(rows, timestamps)
        if rows:
            self.hand_on(rows if timestamps is None else TimedRows(rows, timestamps))

    def emit_side(self, tag_id: str, rows: Rows, timestamps: Timestamps) -> None:
        """The operator emits to a side output."""
        consumers = self.side_consumers.get(tag_id)
        if consumers and rows:
            batch = rows if timestamps is None else TimedRows(rows, timestamps)
            for consumer in consumers:
                consumer(batch)

    def emit_watermark(self, watermark_ms: int) -> None:
        """The operator makes a watermark."""
        self.hand_on_event(Watermark(watermark_ms))

    def emit_status(self, *, idle: bool) -> None:
        """The operator says that it is idle, or is not any more."""
        self.hand_on_event(StreamStatus(idle))
