"""What clients are shown of jobs and TaskManagers. ``messages`` offers them all.

They evolve as messages do: fields are only appended, with a default.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from zmflow.protocol.metric_samples import VertexMetric
from zmflow.protocol.parts import JobState, TaskFailure, TaskState
from zmflow.protocol.resources import ResourceProfile

__all__ = [
    "ExceptionEntry",
    "JobSummary",
    "SlotState",
    "SlotStatus",
    "SubtaskStatus",
    "TaskManagerState",
    "TaskManagerStatus",
    "VertexStatus",
]

SlotState: TypeAlias = Literal["free", "pending", "allocated", "releasing"]
"""``pending``: its worker starts and is offered to the job. ``releasing``: its worker was told to end."""

TaskManagerState: TypeAlias = Literal["alive", "late"]


class _Struct(msgspec.Struct, frozen=True, array_like=True):
    pass


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
    since_ms: int = 0  # wall clock: since when it is in this state


class VertexStatus(_Struct, frozen=True):
    vertex_id: str
    name: str
    operators: list[str]
    parallelism: int
    sharing_group: str
    subtasks: list[SubtaskStatus]
    co_location_group: str = ""
    metrics: list[VertexMetric] = []  # in answers and of a job that has ended


class ExceptionEntry(_Struct, frozen=True):
    """One failure of a job that was followed by a restart or by its end."""

    at_ms: int  # wall clock
    failure: TaskFailure  # the root cause
    taskmanager_id: str
    slot_index: int  # -1 when no slot was involved
    restarted: list[str]  # names of the vertices that were restarted, whole or in part
    restarted_tasks: int
    tasks_total: int
    backoff_ms: int  # -1: not restarted, the job ended
    concurrent: list[TaskFailure] = []  # failures that came while it was waiting to restart


class JobSummary(_Struct, frozen=True):
    job_id: str
    name: str
    state: JobState
    submitted_ms: int  # wall clock, milliseconds since 1970
    finished_ms: int  # 0 while it runs
    tasks_total: int
    tasks_running: int
    tasks_finished: int
    restarts: int = 0


class SlotStatus(_Struct, frozen=True):
    slot_index: int
    job_id: str  # "" when free
    allocation_id: str
    worker_pid: int
    state: SlotState = "free"
    job_name: str = ""
    sharing_group: str = ""  # "" until the job has put tasks into it
    tasks: list[str] = []  # "Map (1/2)"
    resources: ResourceProfile = ResourceProfile()  # what the slot was cut to
    since_ms: int = 0  # wall clock: since when the job holds it


class TaskManagerStatus(_Struct, frozen=True):
    taskmanager_id: str
    host: str
    pid: int
    slots: list[SlotStatus]
    heartbeat_age_ms: int
    state: TaskManagerState = "alive"
    draining: bool = False
    note: str = ""  # while it drains: what it still waits for, in a sentence
    resources: ResourceProfile = ResourceProfile()
    free_resources: ResourceProfile = ResourceProfile()
