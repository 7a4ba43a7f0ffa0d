"""Control messages between clients and the JobManager. ``messages`` offers them all.

They evolve as the others do: fields are only appended, with a default.

=====================  ==================  ========================================================
Message                From → to           Meaning
=====================  ==================  ========================================================
SubmitJob              client → JM         a JobGraph
JobAccepted            JM → client         it will run
WatchJob               client → JM         send JobStatus on every change
CancelJob              client → JM         cancel
ListJobs               client → JM         all jobs this leader knows
JobList                JM → client
GetJob                 client → JM         one job in full
JobStatus              JM → client
GetCluster             client → JM         TaskManagers and slots
ClusterStatus          JM → client
DrainTaskManager       client → JM         no new slots there, move its tasks; or the reverse
DrainAccepted          JM → client         the TaskManagers it is about
GetLogs                client → JM → TM    the newest log lines of a job
LogChunk               TM → JM → client
GetCheckpoints         client → JM         the checkpoints of a job
CheckpointStatistics   JM → client         its newest ones, one of them task by task if asked for
TriggerSavepoint       client → JM         take a savepoint, and perhaps stop the job with it
SavepointBegun         JM → client         it begins
SavepointDone          JM → client         it is complete, and the job has stopped where asked; or why not
RescaleJob             client → JM         go on at another parallelism
RescaleDone            JM → client         its tasks run at that; or why not
=====================  ==================  ========================================================
"""

from __future__ import annotations

import msgspec

from zmflow.protocol.checkpoint_statistics import CheckpointRecord, CheckpointSummary
from zmflow.protocol.checkpoints import CheckpointKind
from zmflow.protocol.control_message import ControlMessage
from zmflow.protocol.parts import TaskFailure
from zmflow.protocol.statuses import ExceptionEntry, JobSummary, TaskManagerStatus, VertexStatus

__all__ = [
    "CancelJob",
    "CheckpointStatistics",
    "ClusterStatus",
    "DrainAccepted",
    "DrainTaskManager",
    "GetCheckpoints",
    "GetCluster",
    "GetJob",
    "GetLogs",
    "JobAccepted",
    "JobList",
    "JobStatus",
    "ListJobs",
    "LogChunk",
    "RescaleDone",
    "RescaleJob",
    "SavepointBegun",
    "SavepointDone",
    "SubmitJob",
    "TriggerSavepoint",
    "WatchJob",
]


class SubmitJob(ControlMessage, frozen=True):
    request_id: int
    job_id: str
    job_graph: bytes  # msgpack of graph.JobGraph


class JobAccepted(ControlMessage, frozen=True):
    request_id: int
    job_id: str


class WatchJob(ControlMessage, frozen=True):
    request_id: int
    job_id: str
    collect: bool = False  # this client takes the job's CollectedRows


class CancelJob(ControlMessage, frozen=True):
    request_id: int
    job_id: str


class ListJobs(ControlMessage, frozen=True):
    request_id: int


class JobList(ControlMessage, frozen=True):
    request_id: int
    jobs: list[JobSummary]


class GetJob(ControlMessage, frozen=True):
    request_id: int
    job_id: str


class JobStatus(ControlMessage, frozen=True):
    """One job in full. ``request_id`` 0 marks an update a watcher did not ask for."""

    request_id: int
    summary: JobSummary
    reason: str  # a sentence about the current state: "waiting for 4 slots, 2 are free"
    vertices: list[VertexStatus]
    failure: TaskFailure | None
    run_ms: int  # from first deployment until now or the end
    # Newest last, bounded.
    exceptions: list[ExceptionEntry] = msgspec.field(default_factory=list)
    # Sentences about what a restart means for this job.
    notes: list[str] = msgspec.field(default_factory=list)
    # Of each task that has any, as of its last report: at the end, or for who asked.
    accumulators: list[bytes] = msgspec.field(default_factory=list)
    checkpoints: CheckpointSummary | None = None  # None: the job takes none


class GetCluster(ControlMessage, frozen=True):
    request_id: int


class ClusterStatus(ControlMessage, frozen=True):
    request_id: int
    jobmanager: str
    started_ms: int
    taskmanagers: list[TaskManagerStatus]
    jobs: list[JobSummary]


class DrainTaskManager(ControlMessage, frozen=True):
    request_id: int
    taskmanager: str  # its id, a unique beginning of it, or a host
    drain: bool  # False takes it back


class DrainAccepted(ControlMessage, frozen=True):
    request_id: int
    taskmanagers: list[str]  # ids


class GetLogs(ControlMessage, frozen=True):
    request_id: int
    job_id: str
    size_max_bytes: int
    reply_to: str = ""  # filled by the JobManager: which client asked


class LogChunk(ControlMessage, frozen=True):
    request_id: int
    job_id: str
    reply_to: str
    source: str  # TaskManager id
    text: bytes  # JSON lines
    pending: int  # TaskManagers that have not answered yet


class GetCheckpoints(ControlMessage, frozen=True):
    request_id: int
    job_id: str
    checkpoint_id: int = 0  # the one to be shown task by task; 0: none


class CheckpointStatistics(ControlMessage, frozen=True):
    request_id: int
    job_id: str
    summary: CheckpointSummary | None  # None: the job takes none
    records: list[CheckpointRecord]  # newest last, bounded


class TriggerSavepoint(ControlMessage, frozen=True):
    request_id: int
    job_id: str
    directory: str = ""  # empty: where the settings say
    kind: CheckpointKind = "savepoint"  # or "stop" or "drain": the job ends with it


class SavepointBegun(ControlMessage, frozen=True):
    request_id: int
    job_id: str
    checkpoint_id: int
    location: str


class SavepointDone(ControlMessage, frozen=True):
    request_id: int
    job_id: str
    checkpoint_id: int
    location: str
    failure: str = ""  # sentences; the job runs on then, or has failed
    complete: bool = True  # whether there is a savepoint, be the job stopped or not


class RescaleJob(ControlMessage, frozen=True):
    request_id: int
    job_id: str
    parallelism: int


class RescaleDone(ControlMessage, frozen=True):
    request_id: int
    job_id: str
    parallelism: int
    failure: str = ""
