"""A task: one subtask of one vertex on a thread of its own.

The thread owns the chain. It waits at two places only, its mailbox and a permit of an output channel, and
cancellation breaks both. User code is interrupted between two bytecodes, as Flink interrupts its threads.
Code that sits in a C call, or that refuses to end, goes when the TaskManager kills the worker.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from zmflow.api.accumulators import Accumulator, pack_accumulators
from zmflow.api.functions import RuntimeContext
from zmflow.api.sources import EndOfInput, SourceReader
from zmflow.config import Settings
from zmflow.config.options import JOB_PARAMETERS, RUNTIME_MODE, STATE_BACKEND
from zmflow.execution.batches import Batch
from zmflow.execution.chain import Chain
from zmflow.execution.input import InputState
from zmflow.execution.slicing import SliceSize
from zmflow.execution.stages import BatchConsumer
from zmflow.execution.stream_operator import MAX_WATERMARK
from zmflow.execution.time_events import StreamStatus, TimeEvent, Watermark, decode_time_event
from zmflow.execution.watermark_valve import GateValves
from zmflow.graph.job_graph import ChainSpec
from zmflow.protocol.frames import Frame, FrameKind
from zmflow.protocol.messages import TaskCounters, TaskDeployment, TaskFailure, TaskState
from zmflow.runtime.channels import (
    END,
    InputChannel,
    Mailbox,
    Releases,
    RemoteChannel,
    TaskCanceledError,
)
from zmflow.runtime.metric_sampler import MetricSampler
from zmflow.runtime.shipped_code import install_classes, load_chain
from zmflow.runtime.source_coordinator import ADD_SPLITS, ENUMERATOR_FAILED, decode_event
from zmflow.runtime.task_failure import describe_failure
from zmflow.runtime.task_outputs import Channel, TaskOutputs
from zmflow.telemetry.logs import get_logger, task_context

if TYPE_CHECKING:
    from zmflow.runtime.async_loop import OperatorHost

__all__ = ["EnumeratorFailedError", "Task", "TaskEnvironment"]

_CANCEL = object()

TIME_EVENTS = frozenset((Watermark, StreamStatus))
EVENT_FRAMES = frozenset((FrameKind.WATERMARK, FrameKind.STREAM_STATUS))


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
        self._outputs = TaskOutputs(deployment, [], settings)
        self._releases = Releases(self.mailbox)
        self._input = InputState(deployment.gate_channels)
        self._valves = GateValves(deployment.gate_channels)
        self._deferred: deque[tuple[Any, Any]] = deque()  # what came while an operator waited
        self._hosts: list[OperatorHost] = []
        self._accumulators: dict[str, Accumulator[Any, Any]] = {}
        self.packed_accumulators = b""  # once it has finished
        self._assigned: deque[tuple[str, Any]] = deque()  # splits the reader has not been given yet
        self._chain: Chain | None = None
        self._slices = SliceSize(0)
        self._records_in = 0
        self._bytes_in = 0
        self._busy_s = 0.0
        self._log = get_logger()
        self._metrics = MetricSampler(self._log.warning)
        self._thread = threading.Thread(
            target=self._run, name=f"task-{deployment.vertex_id}-{deployment.subtask_index}", daemon=True
        )

    def connect(self, partitions: list[list[Channel]]) -> None:
        """For each result partition its channels, in consumer order; called before ``start``.

        The worker makes them when all tasks of the slot exist, because some of them are consumers here.
        """
        self._outputs = TaskOutputs(self.deployment, partitions, self._settings)

    @property
    def started(self) -> bool:
        """Whether it has begun to run, and so reports its states itself."""
        return self._thread.ident is not None

    @property
    def remote_channels(self) -> list[RemoteChannel]:
        """The outputs that lead to other processes."""
        return self._outputs.remote_channels

    def start(self) -> None:
        """Begin to run."""
        self._thread.start()

    def cancel(self) -> None:
        """Ask the task to end; it does at the next batch or wait."""
        self.canceled = True
        self.mailbox.put((None, _CANCEL))
        self._outputs.cancel()

    def interrupt(self) -> None:
        """Raise inside user code that has not returned since the task was cancelled.

        Not while it imports: an interrupted import can leave a module's lock taken for ever, for all threads.
        """
        with self._interrupting:
            ident = self._thread.ident
            if self._interruptible and ident is not None and not _imports(ident):
                _raise_in_thread(ident, TaskCanceledError)

    def fail(self, error: BaseException) -> None:
        """Let the task fail with an error from another thread."""
        self.mailbox.put((None, error))

    def operator_event(self, payload: bytes) -> None:
        """An event from the source's enumerator."""
        self.mailbox.put((None, payload))

    def counters(self) -> TaskCounters:
        """Counters since the start; may be read from any thread."""
        outputs = self._outputs
        blocked_s = outputs.blocked_s + sum(host.waited_s for host in self._hosts)
        return TaskCounters(
            attempt_id=self.deployment.attempt_id,
            records_in=self._records_in,
            records_out=outputs.records_out,
            bytes_in=self._bytes_in,
            bytes_out=outputs.bytes_out,
            busy_ms=int(max(0.0, self._busy_s - blocked_s) * 1000),
            backpressured_ms=int(blocked_s * 1000),
            metrics=self._metrics.samples(),
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
            self._environment.report(self, "INITIALIZING", None)
            spec = load_chain(self.deployment.operators)
            install_classes(spec.classes)
            self._interruptible = True
            self._build(spec)
            chain = self._chain
            assert chain is not None
            self._environment.report(self, "RUNNING", None)
            if chain.source is not None:
                self._run_source(chain)
                chain.event(Watermark(MAX_WATERMARK))
            else:
                self._run_input(chain)  # ends with MAX_WATERMARK as well
            chain.finish()
            self._metrics.ask_gauges()
            self._outputs.finish()
        except BaseException:
            self._end_interruptions()
            try:
                self._close(completed=False)
            except Exception as error:  # noqa: BLE001 - what led here is the error to report
                self._log.error("closing a failed task failed too", why=repr(error))
            raise
        self._end_interruptions()
        self._close(completed=True)
        self.packed_accumulators = pack_accumulators(self._accumulators)

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
            job_parameters=self._job_parameters(),
            accumulators=self._accumulators,
            metric_group=self._metrics.group,
        )
        self._outputs.open(spec, context)
        self._slices = SliceSize(self._outputs.slice_target_ms)
        self._chain = Chain(
            spec,
            context,
            self._outputs.takers,
            lambda collect_id, rows, finished: self._environment.emit_to_client(
                self, collect_id, rows, finished
            ),
            output_events=self._outputs.event_takers,
            processing_time=_wall_ms,
            host_for=self._host_for,
            batch_mode=self._settings[RUNTIME_MODE] == "BATCH",
            state_backend=self._settings[STATE_BACKEND],
        )
        self._chain.open()

    def _job_parameters(self) -> dict[str, str]:
        text = self._settings[JOB_PARAMETERS]
        if not text:
            return {}
        from zmflow.api.execution_config import read_map_text  # only for those who have any

        return read_map_text(text)

    def _host_for(self, woken: Callable[[], None]) -> OperatorHost:
        from zmflow.runtime.async_loop import OperatorHost  # asyncio: only for those who use it

        host = OperatorHost(woken, self.mailbox, self._deferred, self._control, self._outputs, _wall_ms)
        self._hosts.append(host)
        return host

    def _close(self, completed: bool) -> None:
        try:
            self._outputs.close()
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

    def _run_input(self, chain: Chain) -> None:
        process = (chain.process, chain.process_second)
        while not self._input.finished:
            channel, item = self._next_item()
            if channel is None:
                self._control(item)
                continue
            kind = item.kind if item.__class__ is Frame else None
            if item is END or kind == FrameKind.END_OF_DATA:
                self._releases.add(channel)
                self._input.ended(channel.gate, channel.index)
                self._take_events(chain, self._valves.finished(channel.gate, channel.index))
            elif item.__class__ in TIME_EVENTS or kind in EVENT_FRAMES:
                self._take_event(chain, channel, decode_time_event(item) if kind is not None else item)
                self._releases.add(channel)
            else:
                batch = channel.decode(item)
                self._records_in += len(batch)
                if kind is not None:
                    self._bytes_in += len(item.payload)
                self._process(batch, process[channel.gate])
                self._releases.add(channel)

    def _take_event(self, chain: Chain, channel: InputChannel, event: TimeEvent) -> None:
        """What an event of one channel means for the whole input goes through the chain."""
        if isinstance(event, Watermark):
            merged = self._valves.watermark(channel.gate, channel.index, event.timestamp_ms)
        else:
            merged = self._valves.status(channel.gate, channel.index, idle=event.idle)
        self._take_events(chain, merged)

    @staticmethod
    def _take_events(chain: Chain, events: Sequence[TimeEvent]) -> None:
        for event in events:
            chain.event(event)

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
                while self._deferred or not self.mailbox.empty():
                    self._source_control(self._next_item()[1])
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
                    self._process(rows, chain.process)
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
        for host in self._hosts:
            if item is host:
                host.notify()

    def _next_item(self) -> tuple[Any, Any]:
        """The next item of the mailbox; while it waits, flushes outputs and lets timers fire that are due."""
        if self._deferred:
            return self._deferred.popleft()
        mailbox = self.mailbox
        while mailbox.empty():
            wait_s = self._idle_wait_s()
            if wait_s is None:
                break
            try:
                return mailbox.get(timeout=wait_s)
            except Empty:
                self._outputs.flush_due(time.perf_counter())
                self._advance_time()
        return mailbox.get()

    def _idle_wait_s(self) -> float | None:
        """How long nothing has to be done while no input comes; None: for ever."""
        wait_s = min(self._outputs.due(), self._metrics.gauges_due_s) - time.perf_counter()
        timer_ms = self._chain.next_processing_time_ms() if self._chain is not None else None
        if timer_ms is not None:
            wait_s = min(wait_s, (timer_ms - _wall_ms()) / 1000)
        return None if wait_s == float("inf") else max(0.0, wait_s)

    def _advance_time(self) -> None:
        chain = self._chain
        assert chain is not None
        timer_ms = chain.next_processing_time_ms()
        if timer_ms is not None and timer_ms <= (now_ms := _wall_ms()):
            chain.advance_processing_time(now_ms)
        self._metrics.ask_due_gauges()

    def _process(self, batch: Batch, process: BatchConsumer) -> None:
        """Run a batch through the chain, in slices that leave time for flushing, timers and cancelling."""
        for begin, end in self._slices.of(len(batch)):
            self._process_slice(batch if end - begin == len(batch) else batch[begin:end], process)

    def _process_slice(self, batch: Batch, process: BatchConsumer) -> None:
        if self.canceled:
            raise TaskCanceledError
        begin = time.perf_counter()
        process(batch)
        now = time.perf_counter()
        self._busy_s += now - begin
        self._slices.took(len(batch), (now - begin) * 1000)
        self._outputs.flush_due(now)
        self._advance_time()


def _imports(ident: int) -> bool:
    """Whether a thread is inside an import at the moment."""
    frame = sys._current_frames().get(ident)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _raise_in_thread(ident: int, kind: type[BaseException] | None) -> None:
    """Let a thread raise at its next bytecode; None takes back what it has not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), ctypes.py_object(kind) if kind is not None else None
    )


def _wall_ms() -> int:
    """Processing time: milliseconds since 1970."""
    return time.time_ns() // 1_000_000
