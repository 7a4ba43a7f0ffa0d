"""What travels about checkpoints: the barrier, files of a subtask, what it is restored from, messages.

A checkpoint has a number that never goes back within a job, and a *location*: the directory, as a URL of a
``CheckpointStorage``, that its files are in. Files are named relative to it. An empty location means that
all state travels inside messages, and is kept by the JobManager.

=======================  ===================  =====================================================
Message                  From → to            Meaning
=======================  ===================  =====================================================
SnapshotCoordinator      JM → TM → worker     snapshot the split enumerator of a source, before all
CoordinatorSnapshot      worker → TM → JM     here it is
TriggerCheckpoint        JM → TM → worker     these tasks have no running inputs: begin
CheckpointAcknowledged   worker → TM → JM     the snapshot of a subtask is written
CheckpointDeclined       worker → TM → JM     it could not be taken
UnalignCheckpoint        JM → TM → worker     it waits no longer: barriers overtake what is on its way
NotifyCheckpoint         JM → TM → worker     the checkpoint is complete, or will never be
AwaitsCheckpoint         worker → TM → JM     a task has nothing left to do but to commit with a checkpoint
=======================  ===================  =====================================================
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from zmflow.errors import ProtocolError
from zmflow.protocol.control_message import ControlMessage

__all__ = [
    "LOCATION_SIZE_MAX_BYTES",
    "AwaitsCheckpoint",
    "CheckpointAcknowledged",
    "CheckpointBarrier",
    "CheckpointDeclined",
    "CheckpointKind",
    "CheckpointState",
    "CoordinatorSnapshot",
    "InFlightPart",
    "InFlightRestore",
    "NotifyCheckpoint",
    "OperatorRestore",
    "SharedFile",
    "SnapshotCoordinator",
    "SnapshotMetrics",
    "StateFile",
    "SubtaskRestore",
    "TriggerCheckpoint",
    "UnalignCheckpoint",
    "decode_barrier",
    "encode_barrier",
]

CheckpointKind: TypeAlias = Literal["checkpoint", "savepoint", "stop", "drain"]
"""What a snapshot is for. ``stop`` and ``drain`` are savepoints after which the job ends: sources stop behind
the barrier, with ``drain`` event time goes to its end first."""

CheckpointState: TypeAlias = Literal["COORDINATORS", "TASKS", "STORING", "COMPLETED", "ABORTED"]
"""How far a checkpoint is: it waits for split enumerators, for tasks, for its metadata to be stored; or it
has ended."""

LOCATION_SIZE_MAX_BYTES = 4096
"""Longest location of a checkpoint: the longest path of Linux."""


class _Struct(msgspec.Struct, frozen=True, array_like=True):
    pass


class CheckpointBarrier(_Struct, frozen=True):
    """What flows between records: all before it belongs to checkpoint ``checkpoint_id``, nothing after it.

    Args:
        checkpoint_id: number of the checkpoint.
        triggered_wall_ms: when it was triggered, by the JobManager's clock.
        kind: what it is for.
        location: where its files go; empty: into the acknowledgement.
    """

    checkpoint_id: int
    triggered_wall_ms: int
    kind: CheckpointKind = "checkpoint"
    location: str = ""


class SharedFile(_Struct, frozen=True):
    """A file beside the locations of checkpoints, which several of them use. It never changes.

    Args:
        name: its plain name; that of a ``CheckpointStorage`` has ``../shared/`` before it.
        size_bytes: of the file.
        fresh: it was written for this checkpoint; an earlier one that was complete has it otherwise.
    """

    name: str
    size_bytes: int
    fresh: bool = False


class StateFile(_Struct, frozen=True):
    """The state of one subtask: a file, or its bytes where they are few; and shared files it speaks of.

    Args:
        path: relative to the location of its checkpoint; empty when the bytes are inline.
        size_bytes: of the file.
        inline: its bytes, when it has no path.
        has_union: it holds operator state of which every subtask gets all.
        shared: files that a state backend has written in its own format.
        format: the state backend whose format that is; empty where there are none.
        checksum: xxh64 of the file; 0: not known.
    """

    path: str
    size_bytes: int
    inline: bytes = b""
    has_union: bool = False
    shared: list[SharedFile] = []
    format: str = ""
    checksum: int = 0

    @property
    def state_bytes(self) -> int:
        """The size of all state in it, shared files included."""
        return self.size_bytes + sum(file.size_bytes for file in self.shared)


class OperatorRestore(_Struct, frozen=True):
    """What one operator of a subtask is restored from.

    Args:
        operator_id: of the operator, in the files and in the new graph alike.
        parallelism: how many subtasks the operator had.
        keyed: files that hold key groups of the subtask, among others perhaps.
        operator: files whose operator state is shared out over the new subtasks, by old subtask; None for
            one that had none. Where there are as many new subtasks as old ones each takes the file of its
            index whole, and of the others only what every subtask gets.
        own: whether ``operator`` is the one file of the subtask itself, whose operator state it takes whole.
    """

    operator_id: str
    parallelism: int
    keyed: list[StateFile]
    operator: list[StateFile | None]
    own: bool = False


class InFlightPart(_Struct, frozen=True):
    """Records that were on their way to one old subtask.

    Args:
        file: of that subtask, with what was on its way on all its channels.
        gate: the one that the edge led to.
        channels: those whose records are sent again.
    """

    file: StateFile
    gate: int
    channels: list[int]


class InFlightRestore(_Struct, frozen=True):
    """What a subtask sends again over one of its edges before anything else."""

    edge_id: str
    parts: list[InFlightPart]


class SubtaskRestore(_Struct, frozen=True):
    """What a subtask is restored from.

    Args:
        checkpoint_id: the checkpoint.
        location: where its files are.
        operators: those of the chain that have state in it.
        finished: all subtasks of the vertex had finished: it only says that it has ended.
        coordinator: of subtask 0 of a source whose split enumerator begins anew: the enumerator's state.
        in_flight: what it sends again, also when it had finished.
    """

    checkpoint_id: int
    location: str
    operators: list[OperatorRestore]
    finished: bool = False
    coordinator: bytes | None = None
    in_flight: list[InFlightRestore] = []


class SnapshotMetrics(_Struct, frozen=True):
    """How the snapshot of a subtask went; times in microseconds.

    Args:
        start_delay_us: from the trigger until the first barrier was here.
        alignment_us: from the first barrier until the last.
        sync_us: how long the task stood still.
        async_us: how long encoding and writing took beside it.
        state_bytes: size of its state.
        written_bytes: what was written anew; less where files of earlier checkpoints are used again.
        unaligned: whether the barrier overtook records.
        in_flight_bytes: records that were overtaken and are part of the snapshot.
    """

    start_delay_us: int = 0
    alignment_us: int = 0
    sync_us: int = 0
    async_us: int = 0
    state_bytes: int = 0
    written_bytes: int = 0
    unaligned: bool = False
    in_flight_bytes: int = 0


class SnapshotCoordinator(ControlMessage, frozen=True):
    job_id: str
    vertex_id: str
    checkpoint_id: int
    coordinator_number: int


class CoordinatorSnapshot(ControlMessage, frozen=True):
    job_id: str
    vertex_id: str
    checkpoint_id: int
    coordinator_number: int
    state: bytes  # pickled; for the enumerator only (D6)
    failure: str = ""  # a sentence; there is no state then


class TriggerCheckpoint(ControlMessage, frozen=True):
    allocation_id: str
    attempt_ids: list[str]
    barrier: CheckpointBarrier


class CheckpointAcknowledged(ControlMessage, frozen=True):
    allocation_id: str
    attempt_id: str
    checkpoint_id: int
    state: StateFile | None  # None: the subtask has no state
    metrics: SnapshotMetrics
    in_flight: StateFile | None = None  # what its barriers have overtaken


class CheckpointDeclined(ControlMessage, frozen=True):
    allocation_id: str
    attempt_id: str
    checkpoint_id: int
    reason: str  # a sentence


class UnalignCheckpoint(ControlMessage, frozen=True):
    allocation_id: str
    barrier: CheckpointBarrier


class NotifyCheckpoint(ControlMessage, frozen=True):
    allocation_id: str
    checkpoint_id: int
    completed: bool  # False: it was given up; nobody needs to wait for it


class AwaitsCheckpoint(ControlMessage, frozen=True):
    allocation_id: str
    attempt_id: str  # RUNNING until a checkpoint with a greater number that it took part in is complete
    after_checkpoint: int = 0  # the newest one it took part in before its input had ended


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[CheckpointBarrier] = msgspec.msgpack.Decoder(CheckpointBarrier)


def encode_barrier(barrier: CheckpointBarrier) -> bytes:
    """The payload of a barrier's frame.

    >>> decode_barrier(encode_barrier(CheckpointBarrier(7, 0))).checkpoint_id
    7
    """
    return _encoder.encode(barrier)


def decode_barrier(payload: bytes | memoryview) -> CheckpointBarrier:
    """The barrier in a frame.

    Raises:
        ProtocolError: the payload is none.
    """
    if len(payload) > LOCATION_SIZE_MAX_BYTES + 64:
        raise ProtocolError("A barrier is larger than one can be.", detail=f"{len(payload)} bytes.")
    try:
        barrier = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("A barrier on the data plane is damaged.", detail=str(error)) from None
    if barrier.checkpoint_id < 1:
        raise ProtocolError("A barrier has an impossible number.", detail=str(barrier.checkpoint_id))
    return barrier
