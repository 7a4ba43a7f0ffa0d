"""The subtasks of a job in one thread: real chains and result writers, channels that are one queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from zmflow.api.functions import Function, RuntimeContext
from zmflow.api.sinks import Sink, SinkWriter, WriterContext
from zmflow.execution.async_calls import AsyncHost
from zmflow.execution.batches import Batch
from zmflow.execution.chain import Chain
from zmflow.execution.input import InputState
from zmflow.execution.output import ResultWriter
from zmflow.execution.stream_operator import MAX_WATERMARK
from zmflow.execution.time_events import StreamStatus, TimeEvent, Watermark
from zmflow.execution.watermark_valve import GateValves
from zmflow.graph.job_graph import ChainSpec
from zmflow.protocol.checkpoints import CheckpointBarrier

__all__ = ["Deliveries", "JobTask", "QueueChannel", "RecordingSink"]

_END = object()
_END_OF_TIME = Watermark(MAX_WATERMARK)

Deliveries: TypeAlias = "deque[tuple[JobTask, int, int, Any]]"
"""What is on its way: to whom, on which gate and channel, what."""


class RecordingSink(Sink[Any]):
    """Keeps what a sink of the job would have written."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def create_writer(self, context: WriterContext) -> SinkWriter[Any]:  # noqa: ARG002 - of the interface
        return _RecordingWriter(self._values)


class _RecordingWriter(SinkWriter[Any]):
    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def write(self, value: Any) -> None:
        self._values.append(value)


class QueueChannel:
    """One consumer of a subtask; an implementation of ``OutputChannel``."""

    def __init__(self, deliveries: Deliveries, consumer: JobTask, gate: int, index: int) -> None:
        self._deliveries = deliveries
        self._consumer = consumer
        self._gate = gate
        self._index = index

    def send(self, batch: Batch) -> int:
        """Hand over a batch, by reference."""
        self._deliver(batch)
        return 0

    def send_event(self, event: TimeEvent | CheckpointBarrier) -> None:
        """Hand over an event, behind every batch before it."""
        self._deliver(event)

    def end(self) -> None:
        """Nothing more comes."""
        self._deliver(_END)

    def _deliver(self, item: Any) -> None:
        self._deliveries.append((self._consumer, self._gate, self._index, item))


class JobTask:
    """One subtask. ``open`` comes first, when all subtasks are there to be connected."""

    def __init__(self, spec: ChainSpec, context: RuntimeContext, gate_channels: Sequence[int]) -> None:
        self.spec = spec
        self.context = context
        self.ended = False
        self._input = InputState(gate_channels)
        self._valves = GateValves(gate_channels)
        self._writers: list[ResultWriter] = []
        self._channels: list[QueueChannel] = []
        self._functions: list[Function] = []
        self._chain: Chain | None = None

    @property
    def chain(self) -> Chain:
        """The operators; valid after ``open``."""
        assert self._chain is not None
        return self._chain

    def open(
        self,
        outputs: Sequence[tuple[ResultWriter, Sequence[QueueChannel]]],
        functions: Sequence[object],
        *,
        clock: Callable[[], int],
        host_for: Callable[[Callable[[], None]], AsyncHost],
        batch_mode: bool,
    ) -> None:
        """Connect the outputs of the chain, open what chooses channels, and the chain.

        Args:
            outputs: for each output of the chain its writer and the writer's channels.
            functions: key selectors and partitioners of the writers.
            clock: processing time.
            host_for: what operators have that call coroutines.
            batch_mode: whether the job runs in BATCH mode.
        """
        for writer, channels in outputs:
            self._writers.append(writer)
            self._channels.extend(channels)
        for function in functions:
            if isinstance(function, Function):
                self._functions.append(function)
                function.open(self.context)
        self._chain = Chain(
            self.spec,
            self.context,
            [writer.emit for writer in self._writers],
            lambda *_: 0,
            output_events=[_told(writer) for writer in self._writers],
            processing_time=clock,
            host_for=host_for,
            batch_mode=batch_mode,
        )
        self._chain.open()

    def take(self, gate: int, index: int, item: Any) -> None:
        """What a channel delivers."""
        if item is _END:
            over = self._input.ended(gate, index)
            self._tell(self._valves.finished(gate, index))
            if over:
                self._finish()
        elif isinstance(item, Watermark):
            self._tell(self._valves.watermark(gate, index, item.timestamp_ms))
        elif isinstance(item, StreamStatus):
            self._tell(self._valves.status(gate, index, idle=item.idle))
        else:
            (self.chain.process, self.chain.process_second)[gate](item)

    def end_source(self) -> None:
        """The source at the head has nothing more."""
        self.chain.event(_END_OF_TIME)
        self._finish()

    def flush(self) -> None:
        """Send what the writers have gathered."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Close the functions."""
        try:
            for function in self._functions:
                function.close()
        finally:
            if self._chain is not None:
                self._chain.close(self.ended)

    def _tell(self, events: Sequence[TimeEvent]) -> None:
        for event in events:
            self.chain.event(event)

    def _finish(self) -> None:
        self.ended = True
        self.chain.finish()
        for writer in self._writers:
            writer.finish()
        for channel in self._channels:
            channel.end()


def _told(writer: ResultWriter) -> Callable[[TimeEvent], None]:
    """Time events for the consumers; the end of time is said by the end of the data."""

    def tell(event: TimeEvent) -> None:
        if event != _END_OF_TIME:
            writer.emit_event(event)

    return tell
