"""The result partitions of a task: their writers and channels, and when they must be flushed."""

from __future__ import annotations

import random
from collections.abc import Callable

from zmflow.api.functions import Function, RuntimeContext
from zmflow.config import Settings
from zmflow.config.options import BUFFER_TIMEOUT, SEGMENT_SIZE
from zmflow.execution.output import ResultWriter, writer_for
from zmflow.execution.stream_operator import MAX_WATERMARK
from zmflow.execution.time_events import TimeEvent, Watermark
from zmflow.graph.job_graph import ChainOutput, ChainSpec
from zmflow.graph.partitioners import CustomPartitioner, HashPartitioner, RebalancePartitioner
from zmflow.protocol.checkpoints import CheckpointBarrier
from zmflow.protocol.messages import TaskDeployment
from zmflow.runtime.channels import LocalChannel, RemoteChannel

__all__ = ["Channel", "TaskOutputs"]

Channel = LocalChannel | RemoteChannel

END_OF_TIME = Watermark(MAX_WATERMARK)


class _Partition:
    """One result partition: the writer, its channels, and when it must be flushed next."""

    __slots__ = ("channels", "due", "edge_id", "timeout_s", "writer")

    def __init__(self, edge_id: str, writer: ResultWriter, channels: list[Channel], timeout_ms: int) -> None:
        self.edge_id = edge_id
        self.writer = writer
        self.channels = channels
        self.timeout_s = timeout_ms / 1000
        self.due = float("inf") if timeout_ms < 0 else 0.0

    def emit_event(self, event: TimeEvent) -> None:
        """Tell the consumers. The end of event time is not sent: the end of the data, which follows, says it
        already."""
        if event != END_OF_TIME:
            self.writer.emit_event(event)


class TaskOutputs:
    """All result partitions of a task.

    Args:
        deployment: what the task runs.
        channels: of each partition, in consumer order.
    """

    def __init__(self, deployment: TaskDeployment, channels: list[list[Channel]], settings: Settings) -> None:
        self._deployment = deployment
        self._channels = channels
        self._settings = settings
        self._partitions: list[_Partition] = []
        self._functions: list[Function] = []  # key selectors and partitioners
        self._finished = False
        self._last_barrier = 0
        self._pushes = 0  # the checkpoint whose barrier leaves without waiting, which is still to come
        self.has_lent = False
        """Whether there may be something owed."""

    @property
    def channels(self) -> list[Channel]:
        """Every channel of every partition."""
        return [channel for channels in self._channels for channel in channels]

    @property
    def remote_channels(self) -> list[RemoteChannel]:
        """The channels that lead to other processes."""
        return [channel for channel in self.channels if isinstance(channel, RemoteChannel)]

    @property
    def records_out(self) -> int:
        """Records that left."""
        return sum(partition.writer.records_out for partition in self._partitions)

    @property
    def bytes_out(self) -> int:
        """Encoded bytes that left."""
        return sum(partition.writer.bytes_out for partition in self._partitions)

    @property
    def blocked_s(self) -> float:
        """How long the task has waited for its consumers."""
        return sum(channel.permits.blocked_s for channel in self.channels)

    @property
    def takers(self) -> list[Callable[..., None]]:
        """What takes the batches of each output of the chain."""
        return [partition.writer.emit for partition in self._partitions]

    @property
    def event_takers(self) -> list[Callable[[TimeEvent], None]]:
        """What takes the time events of each output of the chain."""
        return [partition.emit_event for partition in self._partitions]

    @property
    def slice_target_ms(self) -> float:
        """How long a slice of a batch may take, so that flushing is not late by much."""
        limited = [p.timeout_s * 1000 for p in self._partitions if p.timeout_s >= 0]
        return min(limited) / 2 if limited else self._settings[BUFFER_TIMEOUT] / 2

    def open(self, spec: ChainSpec, context: RuntimeContext) -> None:
        """Make the writers; open the functions that choose channels."""
        by_edge = {
            partition.edge_id: (channels, partition.max_parallelism)
            for partition, channels in zip(self._deployment.partitions, self._channels, strict=True)
        }
        chance = random.Random()  # noqa: S311 - spreads records, guards nothing
        for output in spec.outputs:
            channels, max_parallelism = by_edge[output.edge_id]
            self._open_functions(output, context)
            rebalances = isinstance(output.partitioner, RebalancePartitioner)
            writer = writer_for(
                output.partitioner,
                channels,
                frame_size_bytes=self._settings[SEGMENT_SIZE],
                max_parallelism=max_parallelism,
                choose=lambda items, count: chance.choices(items, k=count),
                first=chance.randrange(len(channels)) if rebalances else 0,
            )
            self._partitions.append(_Partition(output.edge_id, writer, channels, output.buffer_timeout_ms))

    def _open_functions(self, output: ChainOutput, context: RuntimeContext) -> None:
        partitioner = output.partitioner
        functions: list[object] = []
        if isinstance(partitioner, (HashPartitioner, CustomPartitioner)):
            functions.append(partitioner.key_selector)
        if isinstance(partitioner, CustomPartitioner):
            functions.append(partitioner.partitioner)
        for function in functions:
            if isinstance(function, Function):
                self._functions.append(function)
                function.open(context)

    def emit_barrier(self, barrier: CheckpointBarrier) -> None:
        """Tell every consumer, behind what was emitted and before everything else. After the end there is
        nobody to tell: it stands for every barrier, and the channels take nothing more."""
        if self._finished:
            return
        for partition in self._partitions:
            partition.writer.emit_event(barrier)
        self._last_barrier = barrier.checkpoint_id
        if self._pushes == barrier.checkpoint_id:
            self.push(barrier.checkpoint_id)

    def due(self) -> float:
        """When something that waits must be flushed (``time.perf_counter``); infinity when nothing must."""
        return min((p.due for p in self._partitions if p.writer.pending), default=float("inf"))

    def flush_due(self, now: float) -> None:
        """Flush what is due."""
        for partition in self._partitions:
            if partition.due <= now:
                partition.writer.flush()
                partition.due = now + partition.timeout_s

    def restore(self) -> None:
        """Send what was on its way when the checkpoint was taken that the task goes on from."""
        restore = self._deployment.restore
        if restore is None or not restore.in_flight:
            return
        from zmflow.runtime.checkpoints.in_flight import read_in_flight  # only for those that have some

        writers = {partition.edge_id: partition.writer for partition in self._partitions}
        for edge in restore.in_flight:
            for batch in read_in_flight(edge, restore.location, self._settings):
                writers[edge.edge_id].emit(batch)

    def lend(self) -> None:
        """From any thread: nobody waits for a consumer until ``end_lending``."""
        for channel in self.channels:
            channel.permits.lend()

    def end_lending(self) -> None:
        """Whoever sends waits for its consumer again."""
        self.has_lent = True
        for channel in self.channels:
            channel.permits.end_lending()

    def owes(self, on_repaid: Callable[[], None]) -> bool:
        """Whether more was sent than there was room for; tells later when that may have changed."""
        owes = any(channel.permits.owes(on_repaid) for channel in self.channels)
        self.has_lent = self.has_lent and owes
        return owes

    def push(self, checkpoint_id: int) -> None:
        """Let the barrier of a checkpoint, and all before it, leave without waiting for its consumer; if it
        is not there yet, when it is."""
        if self._last_barrier < checkpoint_id and not self._finished:
            self._pushes = checkpoint_id
            return
        for partition in self._partitions:
            for channel in partition.channels:
                channel.push()

    def cancel(self) -> None:
        """Wake the task where it waits for a consumer."""
        for channel in self.channels:
            channel.permits.cancel()

    def finish(self, woken: Callable[[], None]) -> None:
        """The task has nothing more to say: send everything, end the channels, wait until all has left.

        FINISHED means that nobody needs the task any more: its slot may be given back and its channels
        forgotten.

        Args:
            woken: called when ``lend`` was called meanwhile.
        """
        self._finished = True
        for partition in self._partitions:
            partition.writer.finish()
        for channel in self.channels:
            channel.end()
        for channel in self.channels:
            while not channel.drain():
                woken()

    def close(self) -> None:
        """Close the functions that chose channels."""
        for function in self._functions:
            function.close()
