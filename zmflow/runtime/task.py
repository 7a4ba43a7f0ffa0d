"""A task: one subtask of one vertex on a thread of its own.

The thread owns the chain. It waits at two places only, its mailbox and a permit of an output channel, and
cancellation breaks both. User code is interrupted between two bytecodes, as Flink interrupts its threads.
Code that sits in a C call, or that refuses to end, goes when the TaskManager kills the worker.
"""

from __future__ import annotations

import ctypes
import pickle
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from zmflow.api.functions import Function, RuntimeContext
from zmflow.api.sources import EndOfInput, SourceReader
from zmflow.config import Settings
from zmflow.config.options import BUFFER_TIMEOUT, SEGMENT_SIZE
from zmflow.execution.batches import Rows
from zmflow.execution.chain import Chain
from zmflow.execution.input import InputState
from zmflow.execution.output import ResultWriter, writer_for
from zmflow.execution.slicing import SliceSize
from zmflow.graph.job_graph import ChainSpec
from zmflow.graph.partitioners import CustomPartitioner, HashPartitioner, RebalancePartitioner
from zmflow.protocol.frames import Frame, FrameKind
from zmflow.protocol.messages import TaskCounters, TaskDeployment, TaskFailure, TaskState
from zmflow.runtime.channels import (
    END,
    InputChannel,
    LocalChannel,
    Mailbox,
    Releases,
    RemoteChannel,
    TaskCanceledError,
)
from zmflow.runtime.shipped_code import install_classes
from zmflow.runtime.source_coordinator import ADD_SPLITS, ENUMERATOR_FAILED, decode_event
from zmflow.runtime.task_failure import describe_failure
from zmflow.telemetry.logs import get_logger, task_context

__all__ = ["EnumeratorFailedError", "Task", "TaskEnvironment"]

Channel = LocalChannel | RemoteChannel

_CANCEL = object()


class EnumeratorFailedError(Exception):
    """The enumerator of a task's source failed; ``failure`` says how, whichever task reports it first."""

    def __init__(self, failure: TaskFailure) -> None:
        super().__init__(failure.summary)
        self.failure = failure


class TaskEnvironment(Protocol):
    """What the worker offers a task."""

    host: str
    external_resources: Mapping[str, Sequence[int]]

    def report(self, task: Task, state: TaskState, failure: TaskFailure | None) -> None:
        """The task has a new state."""
        ...

    def request_split(self, task: Task) -> None:
        """Ask the source's enumerator for a split."""
        ...

    def emit_to_client(self, task: Task, collect_id: str, rows: Sequence[Any], finished: bool) -> None:
        """Send rows to the client; blocks while it is slow."""
        ...


class _Output:
    """A result partition: the writer, its channels, and when it must be flushed next."""

    __slots__ = ("channels", "due", "timeout_s", "writer")

    def __init__(self, writer: ResultWriter, channels: list[Channel], timeout_ms: int) -> None:
        self.writer = writer
        self.channels = channels
        self.timeout_s = timeout_ms / 1000
        self.due = float("inf") if timeout_ms < 0 else 0.0


class Task:
    """One execution attempt.

    Args:
        deployment: what to run, from the JobManager.
        settings: the TaskManager's settings under the job's.
        environment: the worker.
    """

    def __init__(self, deployment: TaskDeployment, settings: Settings, environment: TaskEnvironment) -> None:
        self.deployment = deployment
        self.mailbox: Mailbox = SimpleQueue()
        self.gates = [
            [
                InputChannel(gate, index, self.mailbox, (deployment.attempt_id, gate))
                for index in range(channels)
            ]
            for gate, channels in enumerate(deployment.gate_channels)
        ]
        self.canceled = False
        self._interruptible = False
        self._interrupting = threading.Lock()
        self._settings = settings
        self._environment = environment
        self._partitions: list[list[Channel]] = []
        self._outputs: list[_Output] = []
        self._releases = Releases(self.mailbox)
        self._input = InputState(deployment.gate_channels)
        self._assigned: deque[tuple[str, Any]] = deque()  # splits the reader has not been given yet
        self._chain: Chain | None = None
        self._functions: list[Function] = []  # key selectors and partitioners of the outputs
        self._slices = SliceSize(0)
        self._records_in = 0
        self._bytes_in = 0
        self._busy_s = 0.0
        self._log = get_logger()
        self._thread = threading.Thread(
            target=self._run, name=f"task-{deployment.vertex_id}-{deployment.subtask_index}", daemon=True
        )

    def connect(self, partitions: list[list[Channel]]) -> None:
        """For each result partition its channels, in consumer order; called before ``start``.

        The worker makes them when all tasks of the slot exist, because some of them are consumers here.
        """
        self._partitions = partitions

    @property
    def started(self) -> bool:
        """Whether it has begun to run, and so reports its states itself."""
        return self._thread.ident is not None

    @property
    def remote_channels(self) -> list[RemoteChannel]:
        """The outputs that lead to other processes."""
        return [c for channels in self._partitions for c in channels if isinstance(c, RemoteChannel)]

    def start(self) -> None:
        """Begin to run."""
        self._thread.start()

    def cancel(self) -> None:
        """Ask the task to end; it does at the next batch or wait."""
        self.canceled = True
        self.mailbox.put((None, _CANCEL))
        for channels in self._partitions:
            for channel in channels:
                channel.permits.cancel()

    def interrupt(self) -> None:
        """Raise inside user code that has not returned since the task was cancelled."""
        with self._interrupting:
            if self._interruptible and self._thread.ident is not None:
                _raise_in_thread(self._thread.ident, TaskCanceledError)

    def fail(self, error: BaseException) -> None:
        """Let the task fail with an error from another thread."""
        self.mailbox.put((None, error))

    def operator_event(self, payload: bytes) -> None:
        """An event from the source's enumerator."""
        self.mailbox.put((None, payload))

    def counters(self) -> TaskCounters:
        """Counters since the start; may be read from any thread."""
        writers = [output.writer for output in self._outputs]
        blocked_s = sum(c.permits.blocked_s for channels in self._partitions for c in channels)
        return TaskCounters(
            attempt_id=self.deployment.attempt_id,
            records_in=self._records_in,
            records_out=sum(writer.records_out for writer in writers),
            bytes_in=self._bytes_in,
            bytes_out=sum(writer.bytes_out for writer in writers),
            busy_ms=int(max(0.0, self._busy_s - blocked_s) * 1000),
            backpressured_ms=int(blocked_s * 1000),
        )

    # -- life --------------------------------------------------------------------------------------

    def _run(self) -> None:
        deployment = self.deployment
        with task_context(
            job_id=deployment.job_id,
            vertex=deployment.vertex_name,
            subtask=deployment.subtask_index,
            attempt=deployment.attempt_number,
        ):
            failure: TaskFailure | None = None
            try:
                self._live()
                state: TaskState = "FINISHED"
            except TaskCanceledError:
                state = "CANCELED"
            except EnumeratorFailedError as error:
                state, failure = "FAILED", error.failure
            except BaseException as error:  # noqa: BLE001 - user code may raise anything, SystemExit too
                if self.canceled:
                    state = "CANCELED"
                else:
                    state, failure = "FAILED", self._describe(error)
                    self._log.error(failure.summary, traceback=failure.traceback)
            self._environment.report(self, state, failure)

    def _live(self) -> None:
        try:
            self._interruptible = True
            self._environment.report(self, "INITIALIZING", None)
            spec: ChainSpec = pickle.loads(self.deployment.operators)
            install_classes(spec.classes)
            self._build(spec)
            chain = self._chain
            assert chain is not None
            self._environment.report(self, "RUNNING", None)
            if chain.source is not None:
                self._run_source(chain)
            else:
                self._run_input()
            chain.finish()
            self._finish_outputs()
        except BaseException:
            self._end_interruptions()
            try:
                self._close(completed=False)
            except Exception as error:  # noqa: BLE001 - what led here is the error to report
                self._log.error("closing a failed task failed too", why=repr(error))
            raise
        self._end_interruptions()
        self._close(completed=True)

    def _end_interruptions(self) -> None:
        """From here on the task ends by itself; an interrupt under way must not hit the cleaning up."""
        ended = False
        while not ended:
            try:
                with self._interrupting:
                    self._interruptible = False
                    _raise_in_thread(threading.get_ident(), None)
                ended = True
            except TaskCanceledError:
                continue  # it was under way already; there is none after it

    def _build(self, spec: ChainSpec) -> None:
        deployment = self.deployment
        context = RuntimeContext(
            job_id=deployment.job_id,
            job_name=deployment.job_name,
            task_name=deployment.vertex_name,
            operator_name="",
            subtask_index=deployment.subtask_index,
            parallelism=deployment.parallelism,
            max_parallelism=deployment.max_parallelism,
            attempt_number=deployment.attempt_number,
            host=self._environment.host,
            managed_memory_bytes=deployment.managed_memory,
            external_resources=self._environment.external_resources,
        )
        frame_size_bytes = self._settings[SEGMENT_SIZE]
        chance = random.Random()  # noqa: S311 - spreads records, guards nothing
        channels_of = {
            partition.edge_id: channels
            for partition, channels in zip(deployment.partitions, self._partitions, strict=True)
        }
        timeouts: list[int] = []
        for output in spec.outputs:
            partitioner, channels = output.partitioner, channels_of[output.edge_id]
            if isinstance(partitioner, (HashPartitioner, CustomPartitioner)):
                self._open(partitioner.key_selector, context)
            if isinstance(partitioner, CustomPartitioner):
                self._open(partitioner.partitioner, context)
            writer = writer_for(
                partitioner,
                channels,
                frame_size_bytes=frame_size_bytes,
                max_parallelism=self._consumer_max_parallelism(output.edge_id),
                choose=lambda items, count: chance.choices(items, k=count),
                first=chance.randrange(len(channels)) if isinstance(partitioner, RebalancePartitioner) else 0,
            )
            self._outputs.append(_Output(writer, channels, output.buffer_timeout_ms))
            timeouts.append(output.buffer_timeout_ms)
        limited = [timeout for timeout in timeouts if timeout >= 0]
        self._slices = SliceSize(min(limited) / 2 if limited else self._settings[BUFFER_TIMEOUT] / 2)
        self._chain = Chain(
            spec,
            context,
            [output.writer.emit for output in self._outputs],
            lambda collect_id, rows, finished: self._environment.emit_to_client(
                self, collect_id, rows, finished
            ),
        )
        self._chain.open()

    def _consumer_max_parallelism(self, edge_id: str) -> int:
        for partition in self.deployment.partitions:
            if partition.edge_id == edge_id:
                return partition.max_parallelism
        return self.deployment.max_parallelism

    def _open(self, function: object, context: RuntimeContext) -> None:
        if isinstance(function, Function):
            self._functions.append(function)
            function.open(context)

    def _finish_outputs(self) -> None:
        for output in self._outputs:
            output.writer.finish()
        for output in self._outputs:
            for channel in output.channels:
                channel.end()
        # FINISHED means that nobody needs this task any more: its slot may be given back, its channels
        # forgotten. So it waits for its last frames to leave.
        for output in self._outputs:
            for channel in output.channels:
                channel.drain()

    def _close(self, completed: bool) -> None:
        try:
            for function in self._functions:
                function.close()
        finally:
            if self._chain is not None:
                self._chain.close(completed)

    def _describe(self, error: BaseException) -> TaskFailure:
        operator = self._chain.operator_of(error.__traceback__) if self._chain is not None else ""
        return describe_failure(
            error,
            host=self._environment.host,
            vertex_name=self.deployment.vertex_name,
            operator_name=operator,
            subtask_index=self.deployment.subtask_index,
        )

    # -- records -----------------------------------------------------------------------------------

    def _run_input(self) -> None:
        while not self._input.finished:
            channel, item = self._next_item()
            if channel is None:
                self._control(item)
            elif item is END or (item.__class__ is Frame and item.kind == FrameKind.END_OF_DATA):
                self._releases.add(channel)
                self._input.ended(channel.gate, channel.index)
            else:
                rows = channel.decode(item)
                self._records_in += len(rows)
                if item.__class__ is Frame:
                    self._bytes_in += len(item.payload)
                self._process(rows)
                self._releases.add(channel)

    def _run_source(self, chain: Chain) -> None:
        operator = chain.source
        assert operator is not None
        context = chain.context_of(0)
        reader: SourceReader[Any, Any] = operator.source.create_reader(context)
        try:
            with chain.running(0):
                reader.start()
                self._environment.request_split(self)
            while True:
                while not self.mailbox.empty():
                    self._source_control(self.mailbox.get()[1])
                with chain.running(0):
                    rows = reader.poll_next()
                if rows is EndOfInput.END:
                    break
                if rows is None:
                    while not self._assigned:
                        self._source_control(self._next_item()[1])
                    self._assign(reader)
                else:
                    self._records_in += len(rows)
                    self._process(rows)
        finally:
            with chain.running(0):
                reader.close()

    def _source_control(self, item: Any) -> None:
        if not isinstance(item, bytes):
            self._control(item)
            return
        verb, argument = decode_event(item)
        if verb == ENUMERATOR_FAILED:
            raise EnumeratorFailedError(argument)
        self._assigned.append((verb, argument))

    def _assign(self, reader: SourceReader[Any, Any]) -> None:
        """Give the reader, which has nothing left, what the enumerator assigned."""
        verb, splits = self._assigned.popleft()
        if verb == ADD_SPLITS:
            reader.add_splits(splits)
            # The next split is asked for while this one is read, so that the round trip costs nothing; one
            # ahead and no more, so that a fast reader does not hoard what a slow one could read.
            self._environment.request_split(self)
        else:
            reader.notify_no_more_splits()

    def _control(self, item: Any) -> None:
        if isinstance(item, BaseException):
            raise item
        if item is _CANCEL:
            raise TaskCanceledError

    def _next_item(self) -> tuple[Any, Any]:
        """The next item of the mailbox; flushes outputs that are due while it waits."""
        mailbox = self.mailbox
        while mailbox.empty():
            due = min((output.due for output in self._outputs if output.writer.pending), default=None)
            if due is None or due == float("inf"):
                break
            try:
                return mailbox.get(timeout=max(0.0, due - time.perf_counter()))
            except Empty:
                self._flush_due(time.perf_counter())
        return mailbox.get()

    def _process(self, rows: Rows) -> None:
        """Run a batch through the chain, in slices that leave time for flushing and cancelling."""
        for begin, end in self._slices.of(len(rows)):
            self._process_slice(rows if end - begin == len(rows) else rows[begin:end])

    def _process_slice(self, rows: Rows) -> None:
        if self.canceled:
            raise TaskCanceledError
        assert self._chain is not None
        begin = time.perf_counter()
        self._chain.process(rows)
        now = time.perf_counter()
        self._busy_s += now - begin
        self._slices.took(len(rows), (now - begin) * 1000)
        self._flush_due(now)

    def _flush_due(self, now: float) -> None:
        for output in self._outputs:
            if output.due <= now:
                output.writer.flush()
                output.due = now + output.timeout_s


def _raise_in_thread(ident: int, kind: type[BaseException] | None) -> None:
    """Let a thread raise at its next bytecode; None takes back what it has not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), ctypes.py_object(kind) if kind is not None else None
    )
