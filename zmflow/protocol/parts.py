"""What control messages are made of: states, places, numbers and reasons. ``messages`` offers them all.

They evolve as messages do: fields are only appended, with a default.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

__all__ = [
    "ChannelTarget",
    "DataEndpoint",
    "FailureKind",
    "JobState",
    "JobSummary",
    "ResultPartition",
    "SlotStatus",
    "SubtaskStatus",
    "TaskCounters",
    "TaskDeployment",
    "TaskFailure",
    "TaskManagerStatus",
    "TaskState",
    "VertexStatus",
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
JobState: TypeAlias = Literal["CREATED", "RUNNING", "FINISHED", "FAILING", "FAILED", "CANCELLING", "CANCELED"]
FailureKind: TypeAlias = Literal["user", "worker", "taskmanager", "slots", "engine"]


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
    py_files: list[tuple[str, bytes]]  # (file name, content): modules and zip archives


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


class SubtaskStatus(_Struct, frozen=True):
    subtask_index: int
    state: TaskState
    attempt_number: int
    host: str
    taskmanager_id: str
    slot_index: int
    allocation_id: str
    records_in: int
    records_out: int
    bytes_in: int
    bytes_out: int
    busy_ms: int
    backpressured_ms: int


class VertexStatus(_Struct, frozen=True):
    vertex_id: str
    name: str
    operators: list[str]
    parallelism: int
    sharing_group: str
    subtasks: list[SubtaskStatus]


class JobSummary(_Struct, frozen=True):
    job_id: str
    name: str
    state: JobState
    submitted_ms: int  # wall clock, milliseconds since 1970
    finished_ms: int  # 0 while it runs
    tasks_total: int
    tasks_running: int
    tasks_finished: int


class SlotStatus(_Struct, frozen=True):
    slot_index: int
    job_id: str  # "" when free
    allocation_id: str
    worker_pid: int


class TaskManagerStatus(_Struct, frozen=True):
    taskmanager_id: str
    host: str
    pid: int
    slots: list[SlotStatus]
    heartbeat_age_ms: int
