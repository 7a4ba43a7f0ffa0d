"""A task: one subtask of one vertex on a thread of its own.

The thread owns the chain. It waits at two places only, its mailbox and a permit of an output channel, and
cancellation breaks both. User code is interrupted between two bytecodes, as Flink interrupts its threads.
Code that sits in a C call, or that refuses to end, goes when the TaskManager kills the worker.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from zmflow.api.sources import SourceReader
from zmflow.config import Settings
from zmflow.config.options import RUNTIME_MODE, STATE_BACKEND
from zmflow.execution.barrier_alignment import Alignment
from zmflow.execution.batches import Batch
from zmflow.execution.chain import Chain
from zmflow.execution.slicing import SliceSize
from zmflow.execution.stages import BatchConsumer
from zmflow.execution.stream_operator import MAX_WATERMARK
from zmflow.execution.time_events import Watermark
from zmflow.graph.job_graph import ChainSpec
from zmflow.protocol.checkpoints import (
    CheckpointBarrier,
    NotifyCheckpoint,
    UnalignCheckpoint,
)
from zmflow.protocol.messages import TaskCounters, TaskDeployment, TaskFailure, TaskState
from zmflow.runtime.channels import (
    CANCEL,
    InputChannel,
    Mailbox,
    Releases,
    RemoteChannel,
    TaskCanceledError,
    raise_if_ending,
)
from zmflow.runtime.checkpoints.last_commits import await_checkpoint, await_commits
from zmflow.runtime.checkpoints.overtaking import Overtaking
from zmflow.runtime.checkpoints.stopping import StoppedWithSavepointError, Stopping
from zmflow.runtime.checkpoints.task_checkpoints import TaskCheckpoints
from zmflow.runtime.input_loop import InputLoop
from zmflow.runtime.interruption import Interruptions
from zmflow.runtime.metric_sampler import MetricSampler
from zmflow.runtime.runtime_context import runtime_context
from zmflow.runtime.shell import wall_ms
from zmflow.runtime.shipped_code import install_classes, load_chain
from zmflow.runtime.sources.source_loop import EnumeratorFailedError, SourceLoop
from zmflow.runtime.task_accumulators import TaskAccumulators
from zmflow.runtime.task_environment import CheckpointReply, TaskEnvironment
from zmflow.runtime.task_failure import describe_failure
from zmflow.runtime.task_inbox import TaskInbox
from zmflow.runtime.task_outputs import Channel, TaskOutputs
from zmflow.telemetry.logs import get_logger, task_context

if TYPE_CHECKING:
    from zmflow.runtime.async_loop import OperatorHost
    from zmflow.runtime.sources.source_alignment import SourceAlignment
    from zmflow.runtime.spill_files import SpillFiles

__all__ = ["Task"]


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
        self._interruptions = Interruptions(TaskCanceledError)
        self._settings = settings
        self._environment = environment
        self._outputs = TaskOutputs(deployment, [], settings)
        self._releases = Releases(self.mailbox)
        self._checkpoints = TaskCheckpoints(
            deployment,
            settings,
            [channel for gate in self.gates for channel in gate],
            self._say_checkpoint,
        )
        self._finished = False  # the chain has handed out what was kept
        self._all_said = False  # the outputs have ended
        self._reader: SourceReader[Any, Any] | None = None
        self._deferred: deque[tuple[Any, Any]] = deque()  # what came while an operator waited
        places = (self.mailbox, self._deferred)
        self._stopping = Stopping(*places, raise_if_ending, self._notified, self._releases)
        self._inbox = TaskInbox(*places, self._idle_wait_s, self._idle)
        self._overtaking = Overtaking(
            *places,
            self._checkpoints,
            self._releases,
            self._aligned,
            self._control,
            has_input=bool(self.gates),
        )
        self._input = InputLoop(
            deployment.gate_channels,
            self._checkpoints,
            self._releases,
            next_item=self._next_item,
            control=self._control,
            aligned=self._aligned,
            process=self._process,
        )
        self._hosts: list[OperatorHost] = []
        self.accumulators = TaskAccumulators()
        self._alignment: SourceAlignment | None = None
        self._chain: Chain | None = None
        self._slices = SliceSize(0)
        self._records_in = 0
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
        self._overtaking.connect(self._outputs)

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
        self.mailbox.put((None, CANCEL))
        self._outputs.cancel()

    def interrupt(self) -> None:
        """Raise inside user code that has not returned since the task was cancelled."""
        self._interruptions.interrupt(self._thread.ident)

    def fail(self, error: BaseException) -> None:
        """Let the task fail with an error from another thread."""
        self.mailbox.put((None, error))

    def operator_event(self, payload: bytes) -> None:
        """An event from the source's enumerator."""
        self.mailbox.put((None, payload))

    def checkpoint(self, order: CheckpointBarrier | NotifyCheckpoint) -> None:
        """The coordinator asks for a snapshot, or says what became of a checkpoint."""
        self.mailbox.put((None, order))

    def unalign(self, order: UnalignCheckpoint) -> None:
        """A checkpoint is not to wait for barriers any longer."""
        self._overtaking.order(order)

    def counters(self) -> TaskCounters:
        """Counters since the start; may be read from any thread."""
        outputs = self._outputs
        blocked_s = outputs.blocked_s + sum(host.waited_s for host in self._hosts)
        return TaskCounters(
            attempt_id=self.deployment.attempt_id,
            records_in=self._records_in,
            records_out=outputs.records_out,
            bytes_in=self._input.bytes_in,
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
            self._interruptions.allow()
            chain = self._build(spec)
            if chain.source is not None and not self._checkpoints.has_finished:
                # First of all: what the attempt before was given must be back when a checkpoint begins.
                self._environment.request_split(self)
            self._outputs.restore()
            self._environment.report(self, "RUNNING", None)
            if self._checkpoints.has_finished:
                self._outputs.finish(self._overtaking.serve)
            else:
                self._work(chain)
        except BaseException:
            self._interruptions.end()
            try:
                self._close(completed=False)
            except Exception as error:  # noqa: BLE001 - what led here is the error to report
                self._log.error("closing a failed task failed too", why=repr(error))
            raise
        self._interruptions.end()
        self._close(completed=True)
        self.accumulators.pack_last()

    def _work(self, chain: Chain) -> None:
        """Until the input has ended, or a savepoint that stops the job is complete."""
        try:
            if chain.source is not None:
                self._run_source(chain)
                chain.event(Watermark(MAX_WATERMARK))
            else:
                self._input.run(chain)  # ends with MAX_WATERMARK as well
            self._finish_chain(chain)
            self._outputs.finish(self._overtaking.serve)
            self._all_said = True
            await_checkpoint(chain, self._checkpoints, self._say_checkpoint, self._serve)
        except StoppedWithSavepointError:
            if not self._all_said:
                self._outputs.finish(self._overtaking.serve)
            self._stopping.read_to_end(self._input.state)
            await_commits(chain, self._serve)

    @property
    def _opened_chain(self) -> Chain:
        assert self._chain is not None
        return self._chain

    def _finish_chain(self, chain: Chain) -> None:
        chain.finish()
        self._finished = True
        self._metrics.ask_gauges()

    def _build(self, spec: ChainSpec) -> Chain:
        deployment = self.deployment
        context = runtime_context(
            deployment, self._settings, self._environment, self.accumulators.registered, self._metrics.group
        )
        self._outputs.open(spec, context)
        self._slices = SliceSize(self._outputs.slice_target_ms)
        self._chain = Chain(
            spec,
            context,
            self._outputs.takers,
            partial(self._environment.emit_to_client, self),
            output_events=self._outputs.event_takers,
            processing_time=wall_ms,
            host_for=self._host_for,
            batch_mode=self._settings[RUNTIME_MODE] == "BATCH",
            state_backend=self._settings[STATE_BACKEND],
            state_dir=self._environment.state_dir,
            checkpoints=self._checkpoints.enabled,
            commit_at_client=partial(self._environment.commit_at_client, self),
            restored=self._checkpoints.restored,
            make_spill=self._make_spill,
        )
        self._chain.open()
        if spec.aligned:
            from zmflow.runtime.sources.source_alignment import SourceAlignment  # only for those that align

            post = self._environment.post_event
            self._alignment = SourceAlignment(self._chain, spec.aligned, deployment, post)
        return self._chain

    def _make_spill(self) -> SpillFiles:
        from zmflow.runtime.spill_files import SpillFiles  # only for those who hold much

        return SpillFiles(self._environment.run_dir)

    def _host_for(self, woken: Callable[[], None]) -> OperatorHost:
        from zmflow.runtime.async_loop import OperatorHost  # asyncio: only for those who use it

        host = OperatorHost(woken, self.mailbox, self._deferred, raise_if_ending, self._outputs, wall_ms)
        self._hosts.append(host)
        return host

    def _close(self, completed: bool) -> None:
        try:
            self._outputs.close()
        finally:
            self._checkpoints.close()
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

    def _aligned(self, alignment: Alignment) -> None:
        """What has become of alignment: take a snapshot, let channels go on."""
        barrier = alignment.take
        if barrier is not None:
            chain = self._opened_chain
            if barrier.kind == "drain" and not self._finished:
                self._drain(chain)
            self._checkpoints.take(chain, self._outputs, alignment)
        if alignment.resumes:
            self._checkpoints.resume(self._deferred)
        if barrier is not None and barrier.kind in ("stop", "drain"):
            self._stopping.stand_still(barrier)

    def _drain(self, chain: Chain) -> None:
        """Let event time go to its end, and hand out what was kept, before a savepoint for good."""
        if chain.source is not None:
            chain.event(Watermark(MAX_WATERMARK))
        self._input.end_event_time(chain)
        self._finish_chain(chain)

    def _say_checkpoint(self, message: CheckpointReply) -> None:
        self._environment.checkpoint_reply(self, message)

    def _serve(self, until: float | None) -> None:
        self._control(self._next_item(until)[1])

    def _run_source(self, chain: Chain) -> None:
        loop = SourceLoop(
            chain,
            self._checkpoints,
            request_split=lambda: self._environment.request_split(self),
            pending=lambda: not self._inbox.empty or self._overtaking.owes,
            next_item=lambda until: self._next_item(until)[1],
            control=self._control,
            alignment=self._alignment,
            process=lambda rows: self._process(rows, chain.process),
            slice_rows=lambda: self._slices.rows,
        )
        self._reader = loop.reader
        try:
            loop.run()
        finally:
            self._reader = None

    def _control(self, item: Any) -> None:
        raise_if_ending(item)
        if isinstance(item, CheckpointBarrier):
            self._aligned(self._checkpoints.triggered(item))
        elif isinstance(item, UnalignCheckpoint):
            self._overtaking.follow(item)
        elif isinstance(item, NotifyCheckpoint):
            self._notified(item)
        elif item is self.accumulators:
            item.pack_running()
        for host in self._hosts:
            if item is host:
                host.notify()

    def _notified(self, notice: NotifyCheckpoint) -> None:
        """A checkpoint is complete, or was given up."""
        chain = self._opened_chain
        self._aligned(self._checkpoints.notified(chain, self._reader, notice))

    def _next_item(self, until: float | None = None) -> tuple[Any, Any]:
        return self._inbox.next(self._overtaking, until)

    def _idle(self, now: float) -> None:
        self._outputs.flush_due(now)
        self._advance_time()

    def _idle_wait_s(self, until: float | None) -> float | None:
        """How long nothing has to be done while no input comes; None: for ever."""
        due = min(self._outputs.due(), self._metrics.gauges_due_s)
        wait_s = (due if until is None else min(due, until)) - time.perf_counter()
        timer_ms = self._chain.next_processing_time_ms() if self._chain is not None else None
        if timer_ms is not None:
            wait_s = min(wait_s, (timer_ms - wall_ms()) / 1000)
        return None if wait_s == float("inf") else max(0.0, wait_s)

    def _advance_time(self) -> None:
        chain = self._chain
        assert chain is not None
        timer_ms = chain.next_processing_time_ms()
        if timer_ms is not None and timer_ms <= (now_ms := wall_ms()):
            chain.advance_processing_time(now_ms)
        self._metrics.ask_due_gauges()

    def _process(self, batch: Batch, process: BatchConsumer, channel: InputChannel | None = None) -> None:
        """Run a batch through the chain, in slices that leave time for flushing, timers, cancelling, and for
        checkpoints that overtake what is left of it."""
        count = len(batch)
        if count == 0:  # a source waits for its input
            self._idle(time.perf_counter())
        self._records_in += count
        for begin, end in self._slices.of(count):
            if channel is not None:
                self._overtaking.before_slice(channel, batch, begin)
            self._process_slice(batch if end - begin == count else batch[begin:end], process)

    def _process_slice(self, batch: Batch, process: BatchConsumer) -> None:
        if self.canceled:
            raise TaskCanceledError
        begin = time.perf_counter()
        process(batch)
        now = time.perf_counter()
        self._busy_s += now - begin
        self._slices.took(len(batch), (now - begin) * 1000)
        self._idle(now)
