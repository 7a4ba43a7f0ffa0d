"""What control messages are made of: states, places, tasks and reasons. ``messages`` offers them all.

They evolve as messages do: fields are only appended, with a default.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from zmflow.protocol.checkpoints import SubtaskRestore
from zmflow.protocol.job_files import JobFile
from zmflow.protocol.metric_samples import MetricSample

__all__ = [
    "RETRACTABLE_ROWS",
    "ChannelTarget",
    "DataEndpoint",
    "FailureKind",
    "JobState",
    "ResultPartition",
    "TaskCounters",
    "TaskDeployment",
    "TaskFailure",
    "TaskState",
]

TaskState: TypeAlias = Literal[
    "CREATED",
    "SCHEDULED",
    "DEPLOYING",
    "INITIALIZING",
    "RUNNING",
    "FINISHED",
    "CANCELING",
    "CANCELED",
    "FAILED",
]
JobState: TypeAlias = Literal[
    "CREATED", "RUNNING", "RESTARTING", "FINISHED", "FAILING", "FAILED", "CANCELLING", "CANCELED"
]
FailureKind: TypeAlias = Literal["user", "worker", "taskmanager", "slots", "engine", "checkpoint", "restore"]

RETRACTABLE_ROWS = "cache-"
"""How the ids of collect sinks begin whose client takes back what an older attempt has sent, so that their
tasks may restart."""


class _Struct(msgspec.Struct, frozen=True, array_like=True):
    pass


class DataEndpoint(_Struct, frozen=True):
    """Where a slot worker's data plane listens."""

    host_id: str  # equal on two workers exactly when they can share ipc sockets
    ipc: str
    tcp: str


class ChannelTarget(_Struct, frozen=True):
    """One consumer of a result subpartition."""

    attempt_id: str
    gate_index: int
    channel_index: int
    allocation_id: str
    endpoint: DataEndpoint


class ResultPartition(_Struct, frozen=True):
    """The output of a subtask over one JobEdge: its subpartitions in consumer order."""

    edge_id: str
    targets: list[ChannelTarget]
    max_parallelism: int = 128  # key groups of the consuming vertex


class TaskDeployment(_Struct, frozen=True):
    """Everything a worker needs to run one subtask."""

    attempt_id: str
    job_id: str
    job_name: str
    vertex_id: str
    vertex_name: str
    subtask_index: int
    parallelism: int
    max_parallelism: int
    attempt_number: int
    operators: bytes  # cloudpickled graph.ChainSpec; opaque to the JobManager and TaskManager
    gate_channels: list[int]  # channels of each input gate
    partitions: list[ResultPartition]
    settings: dict[str, str]  # the job's settings, as text, over the TaskManager's own
    py_files: list[tuple[str, bytes]]  # nothing: superseded by files
    coordinator_number: int = 0  # of a source: grows when its split enumerator begins anew
    managed_memory: dict[str, int] = {}  # bytes by use case: OPERATOR, STATE_BACKEND
    restore: SubtaskRestore | None = None  # None: it begins anew
    files: list[JobFile] = []  # only named: they were sent before
    overtakes: bool = False  # whether what is on its way to it can be part of a checkpoint


class TaskFailure(_Struct, frozen=True):
    """Why a task or job failed. ``summary`` is one sentence; tracebacks are text."""

    kind: FailureKind
    summary: str
    host: str = ""
    vertex_name: str = ""
    operator_name: str = ""
    subtask_index: int = -1
    user_traceback: str = ""  # the user's own frames only
    traceback: str = ""  # all frames
    hint: str = ""


class TaskCounters(_Struct, frozen=True):
    """Counters of one running task since its start."""

    attempt_id: str
    records_in: int
    records_out: int
    bytes_in: int
    bytes_out: int
    busy_ms: int
    backpressured_ms: int
    metrics: list[MetricSample] = []  # bounded where they are registered
