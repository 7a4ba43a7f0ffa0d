"""What clients are shown of the checkpoints of a job. ``messages`` offers them all.

They evolve as messages do: fields are only appended, with a default.
"""

from __future__ import annotations

import msgspec

from zmflow.protocol.checkpoints import CheckpointKind, CheckpointState, SnapshotMetrics

__all__ = ["CheckpointRecord", "CheckpointSummary", "SubtaskSnapshot"]


class _Struct(msgspec.Struct, frozen=True, array_like=True):
    pass


class CheckpointSummary(_Struct, frozen=True):
    """All checkpoints of a job in one line. Times are wall clock, 0 and "" stand for none so far.

    Args:
        interval_ms: time from one to the next.
        completed, failed, aborted: how many there were; *failed* are those that count against
            execution.checkpointing.tolerable-failed-checkpoints, *aborted* the others.
        in_progress: how many are under way.
        last_id, last_wall_ms, last_duration_ms, last_bytes: of the newest completed one.
        last_failure: why the newest failed one failed, in a sentence.
        restored_id: of the checkpoint that tasks were restored from last.
    """

    interval_ms: int
    completed: int = 0
    failed: int = 0
    aborted: int = 0
    in_progress: int = 0
    last_id: int = 0
    last_wall_ms: int = 0
    last_duration_ms: int = 0
    last_bytes: int = 0
    last_failure: str = ""
    restored_id: int = 0


class SubtaskSnapshot(_Struct, frozen=True):
    """What a subtask contributed to a checkpoint; ``after_ms`` after its trigger."""

    vertex_id: str
    vertex_name: str
    subtask_index: int
    after_ms: int
    metrics: SnapshotMetrics


class CheckpointRecord(_Struct, frozen=True):
    """One checkpoint.

    Args:
        duration_ms: from its trigger until it ended, or until now.
        state_bytes, written_bytes: sums over its subtasks.
        alignment_us, sync_us, async_us: the longest of its subtasks.
        tasks, acknowledged: how many subtasks take part, and how many have their snapshot written.
        location: the directory of its files; empty when the JobManager keeps it.
        failure: why it was given up, in a sentence.
        counted: whether that counts against execution.checkpointing.tolerable-failed-checkpoints.
        subtasks: those that have acknowledged; only of the checkpoint that was asked for.
        discarded: its files are deleted.
        unaligned: whether barriers overtook records in a subtask at least.
        in_flight_bytes: what they overtook, all subtasks together.
    """

    checkpoint_id: int
    kind: CheckpointKind
    state: CheckpointState
    triggered_wall_ms: int
    duration_ms: int
    state_bytes: int = 0
    written_bytes: int = 0
    alignment_us: int = 0
    sync_us: int = 0
    async_us: int = 0
    tasks: int = 0
    acknowledged: int = 0
    location: str = ""
    failure: str = ""
    counted: bool = False
    subtasks: list[SubtaskSnapshot] = []
    discarded: bool = False
    unaligned: bool = False
    in_flight_bytes: int = 0
