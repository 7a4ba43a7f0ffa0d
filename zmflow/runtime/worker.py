"""A slot worker: one process, one slot, one job.

The main thread speaks with the TaskManager; the data plane and every task have threads of their own. The
TaskManager detects this process's death through the fork server and kills it when it must, so nothing here
watches over itself.
"""

from __future__ import annotations

import gc
import os
import pickle
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import zmq

from zmflow.config import Settings
from zmflow.config.options import (
    BUFFERS_PER_CHANNEL,
    COMPRESSION_CODEC,
    FLOATING_BUFFERS_PER_GATE,
    FLOATING_BUFFERS_PER_PARTITION,
    LOG_LEVEL,
    MAX_BUFFERS_PER_CHANNEL,
)
from zmflow.errors import ClusterError, ConnectorError, ProtocolError
from zmflow.graph.job_graph import ChainSpec
from zmflow.protocol.messages import (
    MESSAGE_SIZE_MAX_BYTES,
    CancelTasks,
    ChannelTarget,
    CollectAck,
    CollectedRows,
    DeployTasks,
    FreeSlot,
    Message,
    OperatorEvent,
    TaskFailure,
    TaskMetrics,
    TaskState,
    TaskStateChanged,
    WorkerReady,
    decode_message,
    encode_message,
)
from zmflow.runtime.channels import LocalChannel, Permits, RemoteChannel
from zmflow.runtime.network import DataPlane
from zmflow.runtime.outbox import Outbox
from zmflow.runtime.security import CurveKeys
from zmflow.runtime.shipped_code import install_files
from zmflow.runtime.source_coordinator import REQUEST_SPLIT, SourceCoordinator, encode_event
from zmflow.runtime.task import EnumeratorFailedError, Task
from zmflow.runtime.task_failure import describe_failure
from zmflow.runtime.worker_boot import WorkerBoot
from zmflow.telemetry.logs import configure_logging, flush_output, get_logger, redirect_output

__all__ = ["SlotWorker", "run_worker"]

METRICS_INTERVAL_MS = 250
"""How often counters travel: a person reads a rate about four times a second, and a message of some
hundred bytes per task costs nothing at that pace."""

COLLECTOR_THRESHOLD = 20_000
"""Containers allocated before the cycle collector looks. Records are tuples, which count as containers and
seldom form cycles; CPython's 700 would search every few hundred records (8 % of a word count)."""

INTERRUPT_INTERVAL_S = 0.2
"""How long a cancelled task may take to notice before its user code is interrupted, and from one interrupt to
the next: most tasks notice within a batch, some milliseconds."""

COLLECT_UNACKED_MAX = 8
"""Batches of collected rows under way to the client per subtask: enough to cover a round trip through
TaskManager and JobManager, few enough that neither holds much of them."""

COLLECT_ROWS_MAX = 1024
"""Rows in one such batch: a source's batch."""

COLLECT_SIZE_MAX_BYTES = MESSAGE_SIZE_MAX_BYTES // 2
"""Bytes of one such batch, with room for the message around it."""

SWITCH_INTERVAL_S = 0.001
"""How long a busy task thread may keep the interpreter lock from the network thread. CPython's 5 ms would
be the latency floor of every frame; at 1 ms a busy thread loses under 1 % to switching."""


class SlotWorker:
    """What a slot worker does after its birth; also the environment of its tasks."""

    def __init__(self, boot: WorkerBoot, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.host = boot.host
        self._boot = boot
        self._settings = Settings().with_values(boot.settings, "TaskManager")
        self._epoch = 0
        self._tasks: dict[str, Task] = {}
        self._by_subtask: dict[tuple[str, int], Task] = {}
        self._enumerator_inboxes: dict[str, SimpleQueue[int | None]] = defaultdict(SimpleQueue)
        self._canceled: dict[str, float] = {}  # attempts that were cancelled and have not ended, since when
        self._coordinators: list[SourceCoordinator] = []
        self._collects: dict[tuple[str, str, int], _Collect] = {}
        self._outbox: Outbox[Message] = Outbox()
        self._log = get_logger()
        self._control = context.socket(zmq.DEALER)
        self._control.setsockopt(zmq.IDENTITY, boot.allocation_id.encode())
        self._control.setsockopt(zmq.LINGER, 1000)
        self._control.setsockopt(zmq.SNDHWM, 0)
        self._control.setsockopt(zmq.RCVHWM, 0)
        self._control.setsockopt(zmq.MAXMSGSIZE, MESSAGE_SIZE_MAX_BYTES)
        self._control.connect(boot.control_endpoint)
        keys = CurveKeys(boot.curve_public_key, boot.curve_secret_key) if boot.curve_public_key else None
        self._data = DataPlane(
            context,
            ipc=boot.data_ipc_endpoint,
            bind_host=boot.data_bind_host,
            advertised_host=boot.data_advertised_host,
            host_id=boot.host_id,
            keys=keys,
            exclusive=self._settings[BUFFERS_PER_CHANNEL],
            floating=self._settings[FLOATING_BUFFERS_PER_GATE],
            on_failure=self._fail_tasks,
        )

    def run(self) -> None:
        """Serve until the TaskManager frees the slot."""
        self._data.start()
        self._outbox.post(
            WorkerReady(self._epoch, self._boot.allocation_id, os.getpid(), self._data.endpoint)
        )
        poller = zmq.Poller()
        poller.register(self._control, zmq.POLLIN)
        poller.register(self._outbox.wake_fd, zmq.POLLIN)
        metrics_due = interrupt_due = time.monotonic()
        serving = True
        while serving:
            wait_ms: int | None = None
            if self._tasks:
                due = min(metrics_due, interrupt_due) if self._canceled else metrics_due
                wait_ms = max(0, int((due - time.monotonic()) * 1000) + 1)
            if not self._outbox.prepare_to_sleep():
                wait_ms = 0
            events = dict(poller.poll(wait_ms))
            self._outbox.awake(woken=self._outbox.wake_fd in events)
            if self._control in events:
                serving = self._receive()
            for message in self._outbox.drain():
                self._send(message)
            if self._tasks and time.monotonic() >= metrics_due:
                metrics_due = time.monotonic() + METRICS_INTERVAL_MS / 1000
                self._send_metrics()
            if self._canceled and time.monotonic() >= interrupt_due:
                interrupt_due = time.monotonic() + INTERRUPT_INTERVAL_S
                self._interrupt_canceled()
        for coordinator in self._coordinators:
            coordinator.stop()
        self._control.close()

    # -- control -----------------------------------------------------------------------------------

    def _receive(self) -> bool:
        while True:
            try:
                data = self._control.recv(zmq.NOBLOCK)
            except zmq.Again:
                return True
            try:
                message = decode_message(data)
            except ProtocolError as error:
                self._log.error("the TaskManager sent what is no message", why=str(error))
                continue
            if isinstance(message, FreeSlot):
                return False
            self._epoch = max(self._epoch, message.epoch)
            self._handle(message)

    def _handle(self, message: Message) -> None:
        if isinstance(message, DeployTasks):
            try:
                self._deploy(message)
            except Exception as error:  # noqa: BLE001 - a full disk, a damaged archive: the job's failure
                self._refuse(message, error)
        elif isinstance(message, CancelTasks):
            for attempt_id in message.attempt_ids:
                self._cancel(attempt_id)
        elif isinstance(message, OperatorEvent):
            self._operator_event(message)
        elif isinstance(message, CollectAck):
            collect = self._collects.get((message.vertex_id, message.collect_id, message.subtask_index))
            if collect is not None:
                collect.permits.give()

    def _send(self, message: Message) -> None:
        self._control.send(encode_message(message))
        if isinstance(message, TaskStateChanged) and message.state in ("FINISHED", "FAILED", "CANCELED"):
            task = self._tasks.pop(message.attempt_id, None)
            self._canceled.pop(message.attempt_id, None)
            if task is not None:
                for gate in range(len(task.gates)):
                    self._data.drop_gate(message.attempt_id, gate)

    def _send_metrics(self) -> None:
        counters = [task.counters() for task in self._tasks.values()]
        self._send(TaskMetrics(self._epoch, self._boot.allocation_id, counters))

    # -- tasks -------------------------------------------------------------------------------------

    def _deploy(self, message: DeployTasks) -> None:
        tasks: list[Task] = []
        for deployment in message.tasks:
            if deployment.attempt_id in self._tasks:
                continue  # delivered twice
            install_files(deployment.py_files, self._code_directory)
            settings = self._settings.with_values(deployment.settings, "job")
            task = Task(deployment, settings, self)
            tasks.append(task)
            self._tasks[deployment.attempt_id] = task
            self._by_subtask[deployment.vertex_id, deployment.subtask_index] = task
            for gate, channels in enumerate(task.gates):
                self._data.add_gate(deployment.attempt_id, gate, channels)
        for task in tasks:
            task.connect(
                [
                    [
                        self._channel(task, target, self._permits(len(partition.targets)))
                        for target in partition.targets
                    ]
                    for partition in task.deployment.partitions
                ]
            )
        for task in tasks:
            task.start()

    def _refuse(self, message: DeployTasks, error: Exception) -> None:
        """Report what kept tasks from being deployed."""
        for deployment in message.tasks:
            failure = describe_failure(
                error,
                host=self.host,
                vertex_name=deployment.vertex_name,
                operator_name="",
                subtask_index=deployment.subtask_index,
            )
            self._outbox.post(
                TaskStateChanged(
                    self._epoch, self._boot.allocation_id, deployment.attempt_id, "FAILED", failure
                )
            )

    def _fail_tasks(self, error: Exception) -> None:
        for task in list(self._tasks.values()):
            task.fail(error)

    @property
    def _code_directory(self) -> Path:
        ipc_path = self._boot.data_ipc_endpoint.removeprefix("ipc://")
        return Path(ipc_path).parent / f"code-{self._boot.allocation_id}"

    def _permits(self, channels: int) -> int:
        """Frames that may wait in each channel of a result partition: its own and its share of the rest."""
        shared = self._settings[FLOATING_BUFFERS_PER_PARTITION]
        return self._settings[MAX_BUFFERS_PER_CHANNEL] + shared // channels

    def _channel(self, task: Task, target: ChannelTarget, permits: int) -> LocalChannel | RemoteChannel:
        local = self._tasks.get(target.attempt_id)
        if local is not None:
            # Few: batches by reference are read while they are still in the processor's cache. With as many
            # as a remote channel has, a word count takes half as long again.
            own = self._settings[BUFFERS_PER_CHANNEL]
            return LocalChannel(local.gates[target.gate_index][target.channel_index], own)
        return self._data.connect(
            target,
            permits=permits,
            compression=self._settings[COMPRESSION_CODEC],
            on_lost=lambda sentence: task.fail(
                ClusterError("A worker refused the connection of another.", detail=sentence)
            ),
        )

    def _cancel(self, attempt_id: str) -> None:
        task = self._tasks.get(attempt_id)
        if task is None:
            return
        task.cancel()
        self._canceled.setdefault(attempt_id, time.monotonic())
        for collect in self._collects.values():
            if collect.task is task:
                collect.permits.cancel()

    def _interrupt_canceled(self) -> None:
        for attempt_id, since in self._canceled.items():
            if time.monotonic() - since >= INTERRUPT_INTERVAL_S:
                self._tasks[attempt_id].interrupt()

    def _operator_event(self, message: OperatorEvent) -> None:
        if message.to_subtask < 0:
            self._enumerator_inboxes[message.vertex_id].put(message.from_subtask)
            return
        task = self._by_subtask.get((message.vertex_id, message.to_subtask))
        if task is not None:
            task.operator_event(message.payload)

    # -- TaskEnvironment ---------------------------------------------------------------------------

    def report(self, task: Task, state: TaskState, failure: TaskFailure | None) -> None:
        """A task has a new state."""
        self._outbox.post(
            TaskStateChanged(
                self._epoch,
                self._boot.allocation_id,
                task.deployment.attempt_id,
                state,
                failure,
                task.counters(),
            )
        )

    def request_split(self, task: Task) -> None:
        """Ask the enumerator of the task's source for a split: here, or through the JobManager."""
        deployment = task.deployment
        if (deployment.vertex_id, 0) in self._by_subtask:
            self._enumerator_inboxes[deployment.vertex_id].put(deployment.subtask_index)
            return
        self._post_event(task, deployment.subtask_index, -1, encode_event(REQUEST_SPLIT))

    def start_enumerator(self, task: Task) -> None:
        """Start the enumerator of the task's source; it lives as long as this worker, for all readers."""
        deployment = task.deployment

        def send(subtask: int, payload: bytes) -> None:
            reader = self._by_subtask.get((deployment.vertex_id, subtask))
            if reader is not None:
                reader.operator_event(payload)
            else:
                self._post_event(task, -1, subtask, payload)

        def fail(error: BaseException) -> TaskFailure:
            failure = describe_failure(
                error,
                host=self.host,
                vertex_name=deployment.vertex_name,
                operator_name=own.nodes[0].name,
                subtask_index=deployment.subtask_index,
            )
            task.fail(EnumeratorFailedError(failure))
            return failure

        own: ChainSpec = pickle.loads(deployment.operators)  # shares nothing with the reader's
        source = own.nodes[0].operator.source  # type: ignore[attr-defined]
        coordinator = SourceCoordinator(
            source,
            deployment.parallelism,
            self._enumerator_inboxes[deployment.vertex_id],
            send,
            fail,
        )
        coordinator.start()
        self._coordinators.append(coordinator)

    def emit_to_client(self, task: Task, collect_id: str, rows: Sequence[Any], finished: bool) -> None:
        """Send rows of a collect sink to the client; blocks while it is slow."""
        if len(rows) > COLLECT_ROWS_MAX:
            middle = len(rows) // 2
            self.emit_to_client(task, collect_id, rows[:middle], False)
            self.emit_to_client(task, collect_id, rows[middle:], finished)
            return
        deployment = task.deployment
        key = (deployment.vertex_id, collect_id, deployment.subtask_index)
        collect = self._collects.get(key)
        if collect is None:
            collect = self._collects[key] = _Collect(task)
        try:
            encoded = pickle.dumps(list(rows), protocol=5)
        except Exception as error:
            raise ConnectorError(
                "Collected rows cannot be sent to the client.",
                detail=str(error),
                hint="Collect plain data: numbers, text, tuples, dataclasses of an importable module.",
            ) from error
        if len(encoded) > COLLECT_SIZE_MAX_BYTES:
            raise ConnectorError(
                f"{len(rows)} collected rows take {len(encoded)} bytes.",
                detail=f"At most {COLLECT_SIZE_MAX_BYTES} bytes travel to the client at once.",
                hint="Write large results to files and collect their names.",
            )
        collect.permits.take()
        self._outbox.post(
            CollectedRows(
                self._epoch,
                deployment.job_id,
                deployment.vertex_id,
                collect_id,
                deployment.subtask_index,
                collect.sequence,
                encoded,
                finished,
            )
        )
        collect.sequence += 1

    def _post_event(self, task: Task, from_subtask: int, to_subtask: int, payload: bytes) -> None:
        deployment = task.deployment
        self._outbox.post(
            OperatorEvent(
                self._epoch, deployment.job_id, deployment.vertex_id, 0, from_subtask, to_subtask, payload
            )
        )


class _Collect:
    """The collect sink of one subtask: how far it is, and how far ahead of the client it may run."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.permits = Permits(COLLECT_UNACKED_MAX)
        self.sequence = 0


def run_worker(boot: WorkerBoot) -> None:
    """The life of a slot worker; returns when the TaskManager frees the slot."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.freeze()  # what the fork server imported is never garbage, and stays in the pages shared with it
    gc.set_threshold(COLLECTOR_THRESHOLD)
    settings = Settings().with_values(boot.settings, "TaskManager")
    log_path = Path(boot.log_dir) / "tasks" / boot.job_id / f"{boot.allocation_id}.jsonl"
    configure_logging(f"worker-{boot.allocation_id}", None, settings[LOG_LEVEL])
    redirect_output(log_path, boot.echo_output)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    SlotWorker(boot, context).run()
    flush_output()
