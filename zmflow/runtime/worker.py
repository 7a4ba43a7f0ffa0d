"""A slot worker: one process, one slot, one job.

The main thread speaks with the TaskManager; the data plane and every task have threads of their own. The
TaskManager detects this process's death through the fork server and kills it when it must, so nothing here
watches over itself.

A worker outlives the failures of its job: new attempts of some tasks arrive while others run on. Whatever is
kept per task is kept per attempt and goes with it; only the newest attempt of a subtask is reached by what
is addressed to the subtask.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import zmq

import zmflow.connectors  # noqa: F401 - loaded once, before workers are forked, and not in each by its tasks
from zmflow.config import Settings
from zmflow.config.options import (
    BUFFERS_PER_CHANNEL,
    COMPRESSION_CODEC,
    FLOATING_BUFFERS_PER_GATE,
    FLOATING_BUFFERS_PER_PARTITION,
    LOG_LEVEL,
    MAX_BUFFERS_PER_CHANNEL,
)
from zmflow.errors import ClusterError, ProtocolError
from zmflow.protocol.messages import (
    MESSAGE_SIZE_MAX_BYTES,
    CancelTasks,
    ChannelTarget,
    CollectAck,
    CollectedRows,
    CoordinatorSnapshot,
    DeployTasks,
    FreeSlot,
    Message,
    NotifyCheckpoint,
    OperatorEvent,
    SnapshotCoordinator,
    TaskDeployment,
    TaskFailure,
    TaskMetrics,
    TaskState,
    TaskStateChanged,
    TriggerCheckpoint,
    UnalignCheckpoint,
    WorkerReady,
    decode_message,
    encode_message,
)
from zmflow.protocol.resources import size_text
from zmflow.runtime.channels import LocalChannel, RemoteChannel
from zmflow.runtime.checkpoints.local_copies import remove_superseded
from zmflow.runtime.collect_sinks import CollectSinks
from zmflow.runtime.network import DataPlane
from zmflow.runtime.outbox import Outbox
from zmflow.runtime.run_directory import worker_directory
from zmflow.runtime.security import CurveKeys
from zmflow.runtime.shipped_code import install_files
from zmflow.runtime.sources.source_events import SourceEvents
from zmflow.runtime.task import Task
from zmflow.runtime.task_environment import CheckpointReply
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

SWITCH_INTERVAL_S = 0.001
"""How long a busy task thread may keep the interpreter lock from the network thread. CPython's 5 ms would
be the latency floor of every frame; at 1 ms a busy thread loses under 1 % to switching."""


class SlotWorker:
    """What a slot worker does after its birth; also the environment of its tasks."""

    def __init__(self, boot: WorkerBoot, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.host = boot.host
        self.run_dir = boot.run_dir or tempfile.gettempdir()
        self.state_dir = str(worker_directory(self.run_dir, boot.allocation_id))
        self.copies_dir = boot.copies_dir
        self.external_resources: Mapping[str, Sequence[int]] = boot.external_resources
        self.cached_files: Mapping[str, str] = {}  # of the job, by name: where they are
        self._boot = boot
        self._settings = Settings().with_values(boot.settings, "TaskManager")
        self._epoch = 0
        self._tasks: dict[str, Task] = {}  # by attempt, while they live
        self._by_subtask: dict[tuple[str, int], Task] = {}  # the newest attempt of each, while it lives
        self._newest: dict[tuple[str, int], int] = {}  # the newest attempt number ever seen of each subtask
        self._canceled: dict[str, float] = {}  # attempts that were cancelled and have not ended, since when
        self._accumulators: dict[str, bytes] = {}  # by attempt, as they were sent last
        self._files_installed = False
        self._network_failure: Exception | None = None
        self._outbox: Outbox[Message | None] = Outbox()  # None only wakes the main thread
        self._collects = CollectSinks(self._post)
        self._sources = SourceEvents(
            boot.host, lambda vertex, subtask: self._by_subtask.get((vertex, subtask)), self._post
        )
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
            on_failure=self._network_failed,
        )

    def run(self) -> None:
        """Serve until the TaskManager frees the slot.

        Raises:
            Exception: what ended the network thread, when its tasks have reported it.
        """
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
                if message is not None:
                    self._send(message)
            if self._network_failure is not None and not self._tasks:
                break  # nothing that is deployed here could run
            if self._tasks and time.monotonic() >= metrics_due:
                metrics_due = time.monotonic() + METRICS_INTERVAL_MS / 1000
                self._send_metrics()
            if self._canceled and time.monotonic() >= interrupt_due:
                interrupt_due = time.monotonic() + INTERRUPT_INTERVAL_S
                self._interrupt_canceled()
        self._sources.stop()
        self._control.close()
        if serving and self._network_failure is not None:
            raise self._network_failure

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
            self._deploy(message)
        elif isinstance(message, CancelTasks):
            for attempt_id in message.attempt_ids:
                self._cancel(attempt_id)
        elif isinstance(message, OperatorEvent):
            self._sources.receive(message)
        elif isinstance(message, TriggerCheckpoint):
            for attempt_id in message.attempt_ids:
                if attempt_id in self._tasks:
                    self._tasks[attempt_id].checkpoint(message.barrier)
        elif isinstance(message, UnalignCheckpoint):
            for task in self._tasks.values():
                task.unalign(message)
        elif isinstance(message, NotifyCheckpoint):
            for task in self._tasks.values():
                task.checkpoint(message)
            if self.copies_dir:
                remove_superseded(self.copies_dir, message)
            if message.completed:
                self._sources.completed(message.checkpoint_id)
        elif isinstance(message, SnapshotCoordinator):
            self._sources.snapshot(message)
        elif isinstance(message, CollectAck):
            self._collects.acknowledged(message)

    def _post(self, message: OperatorEvent | CollectedRows | CoordinatorSnapshot) -> None:
        self._outbox.post(msgspec.structs.replace(message, epoch=self._epoch))

    def _send(self, message: Message) -> None:
        self._control.send(encode_message(message))
        if isinstance(message, TaskStateChanged) and message.state in ("FINISHED", "FAILED", "CANCELED"):
            self._ended(message.attempt_id)

    def _ended(self, attempt_id: str) -> None:
        """Let go of everything that was there for an attempt."""
        self._canceled.pop(attempt_id, None)
        self._accumulators.pop(attempt_id, None)
        task = self._tasks.pop(attempt_id, None)
        if task is None:
            return
        subtask = (task.deployment.vertex_id, task.deployment.subtask_index)
        if self._by_subtask.get(subtask) is task:
            del self._by_subtask[subtask]
        self._collects.ended(task)
        self._data.drop_channels(task.remote_channels)
        for gate in range(len(task.gates)):
            self._data.drop_gate(attempt_id, gate)

    def _send_metrics(self) -> None:
        counters = [task.counters() for task in self._tasks.values()]
        changed = {}
        for attempt_id, task in self._tasks.items():
            packed = task.accumulators.packed
            if packed != self._accumulators.get(attempt_id, b""):
                changed[attempt_id] = self._accumulators[attempt_id] = packed
            task.accumulators.want(task.mailbox)  # for the next time
        self._send(TaskMetrics(self._epoch, self._boot.allocation_id, counters, changed))

    # -- tasks -------------------------------------------------------------------------------------

    def _deploy(self, message: DeployTasks) -> None:
        """Run the attempts that are newer than those known; a message may come twice."""
        fresh = [
            deployment
            for deployment in message.tasks
            if deployment.attempt_number
            > self._newest.get((deployment.vertex_id, deployment.subtask_index), -1)
        ]
        for deployment in fresh:
            self._newest[deployment.vertex_id, deployment.subtask_index] = deployment.attempt_number
        try:
            tasks = [self._add(deployment) for deployment in fresh]
            for task in tasks:  # when all of them exist, because some are consumers of others
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
        except Exception as error:  # noqa: BLE001 - a full disk, a damaged archive: the job's failure
            self._refuse(fresh, error)

    def _add(self, deployment: TaskDeployment) -> Task:
        if deployment.files and not self._files_installed:
            self.cached_files = install_files(deployment.files, Path(self._boot.files_dir))
            self._files_installed = True  # one job, one set of files; modules stay imported, too
        task = Task(deployment, self._settings.with_values(deployment.settings, "job"), self)
        self._tasks[deployment.attempt_id] = task
        self._by_subtask[deployment.vertex_id, deployment.subtask_index] = task
        for gate, channels in enumerate(task.gates):
            self._data.add_gate(deployment.attempt_id, gate, channels)
        if not deployment.gate_channels:
            self._sources.deployed(deployment)
        return task

    def _refuse(self, deployments: Sequence[TaskDeployment], error: Exception) -> None:
        """Report what kept tasks from being deployed; some may have started before that."""
        for deployment in deployments:
            task = self._tasks.get(deployment.attempt_id)
            if task is not None and task.started:
                task.fail(error)
                continue
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

    def _network_failed(self, error: Exception) -> None:
        self._network_failure = error
        for task in list(self._tasks.values()):
            task.fail(error)
        self._outbox.post(None)

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
        self._collects.cancel(task)

    def _interrupt_canceled(self) -> None:
        for attempt_id, since in self._canceled.items():
            if time.monotonic() - since >= INTERRUPT_INTERVAL_S:
                self._tasks[attempt_id].interrupt()

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
                task.accumulators.packed if state == "FINISHED" else b"",
            )
        )

    def request_split(self, task: Task) -> None:
        """Ask the enumerator of the task's source for a split: here, or through the JobManager."""
        self._sources.request_split(task.deployment)

    def checkpoint_reply(self, task: Task, message: CheckpointReply) -> None:  # noqa: ARG002 - of the interface
        """What has become of a checkpoint of a task."""
        allocation = self._boot.allocation_id
        self._outbox.post(msgspec.structs.replace(message, epoch=self._epoch, allocation_id=allocation))

    def post_event(self, event: OperatorEvent) -> None:
        """Send an event of a task to another one's worker, through the JobManager."""
        self._post(event)

    def emit_to_client(
        self, task: Task, collect_id: str, rows: Sequence[Any], finished: bool, transactional: bool, /
    ) -> int:
        """Send rows of a collect sink to the client; blocks while it is slow."""
        return self._collects.emit(task, collect_id, rows, finished, transactional=transactional)

    def commit_at_client(
        self, task: Task, collect_id: str, subtask: int, attempt: int, sequence: int, /
    ) -> None:
        """Tell the client that rows of a collect sink count."""
        self._collects.commit(task, collect_id, subtask, attempt, sequence)


def run_worker(boot: WorkerBoot) -> None:
    """The life of a slot worker; returns when the TaskManager frees the slot."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.freeze()  # what the fork server imported is never garbage, and stays in the pages shared with it
    gc.set_threshold(COLLECTOR_THRESHOLD)
    # Snapshots of much state are made by a fork, whose one thread touches nothing that others might hold.
    warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
    settings = Settings().with_values(boot.settings, "TaskManager")
    log_path = Path(boot.log_dir) / "tasks" / boot.job_id / f"{boot.allocation_id}.jsonl"
    configure_logging(f"worker-{boot.allocation_id}", None, settings[LOG_LEVEL])
    redirect_output(log_path, boot.echo_output)
    get_logger().debug("the worker began", managed_memory=size_text(boot.managed_memory_bytes))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    SlotWorker(boot, context).run()
    flush_output()
