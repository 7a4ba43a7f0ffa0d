"""Control messages: one typed union, decoded once at the edge.

Evolution: fields are only appended, with a default; a tag is never used again; a change an older
peer would misread raises ``PROTOCOL_VERSION``. Golden bytes in the tests hold this in place.

Every message to or from a JobManager carries ``epoch``, the leader's term. A message with a lower
epoch than the receiver knows is dropped before any brain sees it. 0 means "I know none yet" and is
allowed only in ``Hello``.

=====================  ==================  ========================================================
Message                From → to           Meaning
=====================  ==================  ========================================================
Hello                  TM, client → JM     first message of a connection: versions and role
Welcome                JM → TM, client     accepted; the epoch from now on
Refused                JM → TM, client     not accepted, or a request failed: message, detail, hint
RegisterTaskManager    TM → JM             identity, slots, what they are cut from
TaskManagerRegistered  JM → TM             accepted, heartbeats begin
Heartbeat              TM → JM             alive, and the time by its clock
HeartbeatAck           JM → TM             alive too: extends the lease
UnknownTaskManager     JM → TM             register again
DeregisterTaskManager  TM → JM             leaves on purpose
AllocateSlot           JM → TM             fork a worker for this job in this slot
OfferSlot              TM → JM             the worker listens here; does the job take the slot?
AcceptSlot             JM → TM             the job takes it
RejectSlot             JM → TM             the job does not: end the worker
SlotLost               TM → JM             the worker could not start, or died
FreeSlot               JM → TM             end the worker, offer the slot again
SlotFreed              TM → JM             it is free again
DeployTasks            JM → TM → worker    run these subtasks
CancelTasks            JM → TM → worker    stop these subtasks
TaskStateChanged       worker → TM → JM    an Execution's new state, with its failure
TaskMetrics            worker → TM → JM    counters of running tasks
OperatorEvent          worker ↔ worker     through TM and JM: split requests and assignments
CollectedRows          worker → … → client rows of a collect sink, encoded
CollectAck             client → … → worker they were taken; flow control of collect
WorkerReady            worker → TM         first message of a worker
(with clients)         see ``client_messages``
(checkpoints)          see ``checkpoints``
(files of jobs)        see ``job_files``
=====================  ==================  ========================================================
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from zmflow.errors import ProtocolError
from zmflow.protocol.checkpoints import (
    AwaitsCheckpoint,
    CheckpointAcknowledged,
    CheckpointDeclined,
    CoordinatorSnapshot,
    NotifyCheckpoint,
    SnapshotCoordinator,
    TriggerCheckpoint,
    UnalignCheckpoint,
)
from zmflow.protocol.client_messages import (
    CancelJob,
    CheckpointStatistics,
    ClusterStatus,
    DrainAccepted,
    DrainTaskManager,
    GetCheckpoints,
    GetCluster,
    GetJob,
    GetLogs,
    JobAccepted,
    JobList,
    JobStatus,
    ListJobs,
    LogChunk,
    RescaleDone,
    RescaleJob,
    SavepointBegun,
    SavepointDone,
    SubmitJob,
    TriggerSavepoint,
    WatchJob,
)
from zmflow.protocol.control_message import ControlMessage
from zmflow.protocol.job_files import JobFileMessage
from zmflow.protocol.parts import (
    ChannelTarget,
    DataEndpoint,
    FailureKind,
    JobState,
    ResultPartition,
    TaskCounters,
    TaskDeployment,
    TaskFailure,
    TaskState,
)
from zmflow.protocol.resources import ResourceProfile
from zmflow.protocol.statuses import (
    ExceptionEntry,
    JobSummary,
    SlotStatus,
    SubtaskStatus,
    TaskManagerStatus,
    VertexStatus,
)
from zmflow.protocol.versions import Versions

__all__ = [
    "MESSAGE_SIZE_MAX_BYTES",
    "AcceptSlot",
    "AllocateSlot",
    "AwaitsCheckpoint",
    "CancelJob",
    "CancelTasks",
    "ChannelTarget",
    "CheckpointAcknowledged",
    "CheckpointDeclined",
    "CheckpointStatistics",
    "ClusterStatus",
    "CollectAck",
    "CollectedRows",
    "CoordinatorSnapshot",
    "DataEndpoint",
    "DeployTasks",
    "DeregisterTaskManager",
    "DrainAccepted",
    "DrainTaskManager",
    "ExceptionEntry",
    "FailureKind",
    "FreeSlot",
    "GetCheckpoints",
    "GetCluster",
    "GetJob",
    "GetLogs",
    "Heartbeat",
    "HeartbeatAck",
    "Hello",
    "JobAccepted",
    "JobList",
    "JobState",
    "JobStatus",
    "JobSummary",
    "ListJobs",
    "LogChunk",
    "Message",
    "NotifyCheckpoint",
    "OfferSlot",
    "OperatorEvent",
    "Refused",
    "RegisterTaskManager",
    "RejectSlot",
    "RescaleDone",
    "RescaleJob",
    "ResourceProfile",
    "ResultPartition",
    "SavepointBegun",
    "SavepointDone",
    "SlotFreed",
    "SlotLost",
    "SlotStatus",
    "SnapshotCoordinator",
    "SubmitJob",
    "SubtaskStatus",
    "TaskCounters",
    "TaskDeployment",
    "TaskFailure",
    "TaskManagerRegistered",
    "TaskManagerStatus",
    "TaskMetrics",
    "TaskState",
    "TaskStateChanged",
    "TriggerCheckpoint",
    "TriggerSavepoint",
    "UnalignCheckpoint",
    "UnknownTaskManager",
    "VertexStatus",
    "WatchJob",
    "Welcome",
    "WorkerReady",
    "decode_message",
    "encode_message",
]

MESSAGE_SIZE_MAX_BYTES = 256 * 2**20
"""Largest control message. A JobGraph with its pickled functions is the largest thing that travels
this way; collections given to ``from_collection`` are part of it, so a few hundred MiB is where the
hint "read it from a file instead" is the better answer than a bigger number."""


class Hello(ControlMessage, frozen=True):
    versions: Versions
    role: Literal["taskmanager", "client"]
    name: str


class Welcome(ControlMessage, frozen=True):
    versions: Versions
    jobmanager: str  # its name, for messages to people


class Refused(ControlMessage, frozen=True):
    request_id: int  # 0 for the handshake
    error: str  # class name in zmflow.errors
    message: str
    detail: str = ""
    hint: str = ""


# -- TaskManager and JobManager -------------------------------------------------------------------


class RegisterTaskManager(ControlMessage, frozen=True):
    taskmanager_id: str
    host: str
    pid: int
    slots: int
    resources: ResourceProfile  # what all its slots are cut from


class TaskManagerRegistered(ControlMessage, frozen=True):
    taskmanager_id: str
    heartbeat_interval_ms: int
    heartbeat_timeout_ms: int


class Heartbeat(ControlMessage, frozen=True):
    taskmanager_id: str
    sent_ms: int = 0  # the TaskManager's clock


class HeartbeatAck(ControlMessage, frozen=True):
    taskmanager_id: str
    sent_ms: int = 0  # of the Heartbeat it answers


class UnknownTaskManager(ControlMessage, frozen=True):
    taskmanager_id: str


class DeregisterTaskManager(ControlMessage, frozen=True):
    taskmanager_id: str
    reason: str


class AllocateSlot(ControlMessage, frozen=True):
    allocation_id: str
    slot_index: int
    job_id: str
    resources: ResourceProfile  # what to cut the slot to: real amounts


class OfferSlot(ControlMessage, frozen=True):
    allocation_id: str
    slot_index: int
    job_id: str
    pid: int
    endpoint: DataEndpoint


class AcceptSlot(ControlMessage, frozen=True):
    allocation_id: str


class RejectSlot(ControlMessage, frozen=True):
    allocation_id: str
    reason: str


class SlotLost(ControlMessage, frozen=True):
    allocation_id: str
    slot_index: int
    reason: str  # a sentence: "worker 4711 was killed by signal 9 (SIGKILL)"


class FreeSlot(ControlMessage, frozen=True):
    allocation_id: str
    slot_index: int


class SlotFreed(ControlMessage, frozen=True):
    allocation_id: str
    slot_index: int


class DeployTasks(ControlMessage, frozen=True):
    allocation_id: str
    tasks: list[TaskDeployment]


class CancelTasks(ControlMessage, frozen=True):
    allocation_id: str
    attempt_ids: list[str]
    grace_ms: int  # after this the worker is killed


class TaskStateChanged(ControlMessage, frozen=True):
    allocation_id: str
    attempt_id: str
    state: TaskState
    failure: TaskFailure | None = None
    counters: TaskCounters | None = None
    accumulators: bytes = b""  # of a task that FINISHED, pickled; empty: it has none


class TaskMetrics(ControlMessage, frozen=True):
    allocation_id: str
    tasks: list[TaskCounters]
    accumulators: dict[str, bytes] = {}  # by attempt, pickled: of those whose have changed since the last one


class OperatorEvent(ControlMessage, frozen=True):
    """An event between a source's split enumerator and its readers.

    The enumerator of an operator lives in the worker of subtask 0. ``to_subtask`` is -1 when the
    event is for the enumerator. The JobManager only routes it. An event of a reader's older attempt or of
    an enumerator that began anew since is dropped where it arrives. Readers that are aligned report in the
    same way to the sources of their group, whose ``vertex_id`` may be another's, and are answered.
    """

    job_id: str
    vertex_id: str
    operator_index: int
    from_subtask: int
    to_subtask: int
    payload: bytes
    attempt_number: int = 0  # of the reader it comes from or goes to
    coordinator_number: int = 0


class CollectedRows(ControlMessage, frozen=True):
    """Rows of a collect sink on their way to the client, at most COLLECT_UNACKED_MAX unacknowledged."""

    job_id: str
    vertex_id: str
    collect_id: str
    subtask_index: int
    sequence: int
    rows: bytes
    last: bool
    attempt_number: int = 0
    transactional: bool = False  # they count when they are committed
    commit: tuple[int, int, int] | None = None  # no rows: subtask, attempt and its last batch that counts


class CollectAck(ControlMessage, frozen=True):
    job_id: str
    vertex_id: str
    collect_id: str
    subtask_index: int
    sequence: int


class WorkerReady(ControlMessage, frozen=True):
    allocation_id: str
    pid: int
    endpoint: DataEndpoint


Message: TypeAlias = (
    Hello
    | Welcome
    | Refused
    | RegisterTaskManager
    | TaskManagerRegistered
    | Heartbeat
    | HeartbeatAck
    | UnknownTaskManager
    | DeregisterTaskManager
    | AllocateSlot
    | OfferSlot
    | AcceptSlot
    | RejectSlot
    | SlotLost
    | FreeSlot
    | SlotFreed
    | DeployTasks
    | CancelTasks
    | TaskStateChanged
    | TaskMetrics
    | OperatorEvent
    | CollectedRows
    | CollectAck
    | WorkerReady
    | SubmitJob
    | JobAccepted
    | WatchJob
    | CancelJob
    | ListJobs
    | JobList
    | GetJob
    | JobStatus
    | GetCluster
    | ClusterStatus
    | DrainTaskManager
    | DrainAccepted
    | GetLogs
    | LogChunk
    | SnapshotCoordinator
    | CoordinatorSnapshot
    | TriggerCheckpoint
    | UnalignCheckpoint
    | CheckpointAcknowledged
    | CheckpointDeclined
    | NotifyCheckpoint
    | AwaitsCheckpoint
    | GetCheckpoints
    | CheckpointStatistics
    | JobFileMessage
    | TriggerSavepoint
    | SavepointBegun
    | SavepointDone
    | RescaleJob
    | RescaleDone
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """The bytes of a message.

    >>> decode_message(encode_message(Heartbeat(3, "tm-1", 250)))
    Heartbeat(epoch=3, taskmanager_id='tm-1', sent_ms=250)
    """
    return _encoder.encode(message)


def decode_message(data: bytes) -> Message:
    """The message in these bytes.

    Raises:
        ProtocolError: too large, not MessagePack, or not a message of this protocol version.
    """
    if len(data) > MESSAGE_SIZE_MAX_BYTES:
        raise ProtocolError(
            "A control message is larger than the protocol allows.",
            detail=f"{len(data)} bytes; the limit is {MESSAGE_SIZE_MAX_BYTES}.",
        )
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("Received bytes are not a control message.", detail=str(error)) from None
