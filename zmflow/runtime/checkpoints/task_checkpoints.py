"""``TaskCheckpoints``: what a task does about checkpoints: align, snapshot, restore, commit.

On the task's thread, between two batches: the sinks let go of what was written, the barrier goes out before
any further record, state is pickled. Compressing, writing and the acknowledgement happen aside
(``snapshot_writer``), while records flow again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import msgspec

from zmflow.config import Settings
from zmflow.config.checkpoint_options import (
    CHECKPOINT_INTERVAL,
    CHECKPOINTING_MODE,
    INCREMENTAL_CHECKPOINTS,
)
from zmflow.config.options import RUNTIME_MODE
from zmflow.execution.barrier_alignment import Alignment, BarrierAlignment
from zmflow.execution.chain import Chain
from zmflow.execution.operator_snapshots import RestoredOperator, SnapshotContext
from zmflow.execution.time_events import TIME_EVENTS
from zmflow.protocol.checkpoints import (
    CheckpointBarrier,
    NotifyCheckpoint,
    SnapshotMetrics,
    decode_barrier,
)
from zmflow.protocol.frames import Frame, FrameKind
from zmflow.protocol.messages import TaskDeployment
from zmflow.runtime.channels import END, InputChannel
from zmflow.runtime.checkpoints.in_flight import InFlightRecords
from zmflow.runtime.checkpoints.local_copies import LocalCopies
from zmflow.runtime.checkpoints.pickle_cost import PickleCost
from zmflow.runtime.checkpoints.snapshot_fork import ForkedSnapshot, fork_snapshot
from zmflow.runtime.checkpoints.snapshot_reader import read_restored
from zmflow.runtime.checkpoints.snapshot_writer import Reply, SnapshotWriter
from zmflow.runtime.task_outputs import TaskOutputs
from zmflow.state.operator_state import OperatorStateMode
from zmflow.state.state_file import PickledState, pickle_state
from zmflow.telemetry.logs import get_logger

__all__ = ["AssignedSplits", "TaskCheckpoints"]

READER_SPLITS = "source-splits"
"""Operator state of a source: the splits of its reader, each with how far it was read."""

ROWS_IN_HAND = "source-rows"
"""Operator state of a source: records that its reader has given and that were not processed yet."""


class _Reader(Protocol):
    def add_splits(self, splits: Sequence[Any]) -> None: ...
    def snapshot_state(self, checkpoint_id: int) -> Sequence[Any]: ...
    def notify_checkpoint_complete(self, checkpoint_id: int) -> None: ...


class AssignedSplits:
    """What the enumerator has assigned and the reader was not given yet.

    Each assignment says which snapshot of the enumerator came before it. Until the reader has taken that
    checkpoint too, it must not have the splits, or they would be in both snapshots.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, str, Any]] = deque()
        self._taken = 0  # the checkpoint that was taken, or given up, last

    def add(self, number: int, verb: str, argument: Any) -> None:
        """An assignment has come."""
        self._waiting.append((number, verb, argument))

    def passed(self, checkpoint_id: int) -> None:
        """The reader has taken a checkpoint, or it was given up."""
        self._taken = max(self._taken, checkpoint_id)

    @property
    def ready(self) -> bool:
        """Whether there is one that the reader may have."""
        return bool(self._waiting) and self._waiting[0][0] <= self._taken

    def pop(self) -> tuple[str, Any]:
        """The next one."""
        _, verb, argument = self._waiting.popleft()
        return verb, argument

    def before(self, checkpoint_id: int, verb: str) -> list[Any]:
        """What of it is the reader's in the snapshot of a checkpoint: assigned before the enumerator's."""
        return [
            split
            for number, its_verb, splits in self._waiting
            if its_verb == verb and number < checkpoint_id
            for split in splits
        ]


@dataclass(frozen=True, slots=True)
class _Unwritten:
    """A snapshot that was taken, and is written when what it overtakes is known."""

    barrier: CheckpointBarrier
    forked: ForkedSnapshot | None
    state: PickledState
    metrics: SnapshotMetrics
    records: InFlightRecords = field(default_factory=InFlightRecords)

    def close(self) -> None:
        """It is not wanted any more."""
        if self.forked is not None:
            self.forked.close()
        self.state.close()


class TaskCheckpoints:
    """The checkpoints of one task. Everything but the writing is on the task's thread.

    Args:
        deployment: what the task runs, and what it goes on from.
        settings: the TaskManager's under the job's.
        channels: its input channels.
        reply: sends what has become of a snapshot.
        copies_dir: where second copies of snapshots of the job may be; empty: nowhere.
    """

    def __init__(
        self,
        deployment: TaskDeployment,
        settings: Settings,
        channels: Sequence[InputChannel],
        reply: Reply,
        copies_dir: str = "",
    ) -> None:
        # In BATCH mode none are taken, whatever the interval: nobody must wait for one.
        self.enabled = settings[CHECKPOINT_INTERVAL] > 0 and settings[RUNTIME_MODE] != "BATCH"
        self._deployment = deployment
        self._settings = settings
        self._alignment = BarrierAlignment(channels, settings[CHECKPOINTING_MODE] == "EXACTLY_ONCE")
        self._held: list[tuple[Any, Any]] = []
        self._copies = LocalCopies(copies_dir, deployment, settings)
        self._writer = SnapshotWriter(deployment, settings, reply, self._copies)
        self._incremental = settings[INCREMENTAL_CHECKPOINTS]
        self._cost = PickleCost()
        self.assigned = AssignedSplits()
        self._unwritten: _Unwritten | None = None
        self.last_completed = 0
        self.last_taken = 0
        restore = deployment.restore
        if restore is not None:
            self.assigned.passed(restore.checkpoint_id)

    @property
    def attempt_id(self) -> str:
        """The task's."""
        return self._deployment.attempt_id

    # -- restoring ----------------------------------------------------------------------------------

    @property
    def has_finished(self) -> bool:
        """Whether the task had finished in the checkpoint it goes on from: it only says so."""
        restore = self._deployment.restore
        return restore is not None and restore.finished

    def restored(self, operator_id: str) -> RestoredOperator | None:
        """What an operator goes on from; None where it begins anew."""
        return read_restored(
            self._deployment, operator_id, self._settings, self._writer.adopted, self._copies
        )

    def restore_reader(
        self, chain: Chain, reader: _Reader, add_verb: str, in_hand: Callable[[], Sequence[Any]]
    ) -> list[Any]:
        """Give the reader of a source its splits; from now on it takes part in checkpoints.

        Args:
            in_hand: of the batch that the reader gave last, what is not processed yet.

        Returns:
            What was in hand when the checkpoint was taken: to be processed first.
        """
        store = chain.state.functions(0).store
        splits = store.take(READER_SPLITS, OperatorStateMode.SPLIT)
        if splits:
            reader.add_splits(splits)

        def add(context: SnapshotContext) -> None:
            assigned = self.assigned.before(context.checkpoint_id, add_verb)
            context.add_list(READER_SPLITS, [*reader.snapshot_state(context.checkpoint_id), *assigned])
            context.add_list(ROWS_IN_HAND, in_hand())

        chain.state.add_part(0, add)
        return store.take(ROWS_IN_HAND, OperatorStateMode.SPLIT)

    # -- aligning -----------------------------------------------------------------------------------

    @property
    def blocked(self) -> set[Any]:
        """The channels whose records have to wait; always the same set."""
        return self._alignment.blocked

    def hold(self, channel: InputChannel, item: Any) -> None:
        """Something came on a channel that has to wait."""
        self._held.append((channel, item))

    def barrier(self, channel: InputChannel, barrier: CheckpointBarrier) -> Alignment:
        """A barrier came on a channel."""
        outcome = self._alignment.barrier(channel, barrier, _now_us())
        self._overtaken(outcome)
        return outcome

    def ended(self, channel: InputChannel) -> list[Alignment]:
        """A channel has ended."""
        outcomes = self._alignment.ended(channel)
        for outcome in outcomes:
            self._overtaken(outcome)
        return outcomes

    def triggered(self, barrier: CheckpointBarrier) -> Alignment:
        """The coordinator asks this task, whose inputs have all finished; their ends may not be here yet."""
        return self._alignment.triggered(barrier, _now_us())

    def unaligned(self, barrier: CheckpointBarrier) -> Alignment:
        """A checkpoint is not to wait for barriers; a task whose inputs cannot be overtaken waits all the
        same."""
        if not self._deployment.overtakes or self.has_finished:
            return Alignment()
        outcome = self._alignment.unaligned(barrier, _now_us())
        self._overtaken(outcome)
        return outcome

    @property
    def overtakes(self) -> bool:
        """Whether what comes before the barriers of some channels belongs to a snapshot that was taken."""
        return self._unwritten is not None

    def overtook(self, channel: InputChannel, item: Any) -> bool:
        """Something was seen in the mailbox, in order, while a snapshot overtakes it. True for a barrier that
        was only waited for: there is nothing more to it."""
        unwritten = self._unwritten
        alignment = self._alignment
        if unwritten is None or channel not in alignment.behind:
            return False
        kind = item.kind if item.__class__ is Frame else None
        if item.__class__ is CheckpointBarrier or kind == FrameKind.BARRIER:
            number = (item if kind is None else decode_barrier(item.payload)).checkpoint_id
            expected = number <= alignment.overtaking
            self._overtaken(alignment.passed(channel, number))
            return expected
        if item is END or kind == FrameKind.END_OF_DATA:
            self._overtaken(alignment.passed(channel, alignment.overtaking))
        elif kind == FrameKind.DATA or (kind is None and item.__class__ not in TIME_EVENTS):
            unwritten.records.add(channel, item)
        return False

    def _overtaken(self, outcome: Alignment) -> None:
        """What became of a snapshot that overtakes records."""
        if outcome.forgets:
            self._forget()
        unwritten = self._unwritten
        if unwritten is None or not outcome.overtaken or outcome.take is not None:
            return
        self._unwritten = None
        metrics = msgspec.structs.replace(unwritten.metrics, in_flight_bytes=unwritten.records.size_bytes)
        self._write(unwritten, metrics)

    def _forget(self) -> None:
        unwritten, self._unwritten = self._unwritten, None
        if unwritten is not None:
            unwritten.close()

    def resume(self, deferred: deque[tuple[Any, Any]]) -> None:
        """The channels go on: what was held comes before everything else."""
        deferred.extendleft(reversed(self._held))
        self._held = []

    # -- the snapshot -------------------------------------------------------------------------------

    def take(self, chain: Chain, outputs: TaskOutputs, alignment: Alignment) -> None:
        """Take a snapshot now."""
        barrier = alignment.take
        assert barrier is not None
        number = barrier.checkpoint_id
        began = time.perf_counter()
        chain.prepare_checkpoint(number)
        outputs.emit_barrier(barrier)
        emitted = time.perf_counter()
        forked = prepared = None
        try:
            files = self._incremental and barrier.kind == "checkpoint" and bool(barrier.location)
            prepared = chain.state.prepare(number, barrier.triggered_wall_ms, files=files)
            state = PickledState((), chain.state.frozen(prepared))
            entries = chain.state.entries
            if self._cost.is_too_long(entries):
                took = partial(self._cost.measured_forked, entries)
                forked = fork_snapshot(lambda: pickle_state(chain.state.collect(prepared)), took)
            else:
                cpu_began = time.thread_time()
                state = pickle_state(chain.state.collect(prepared), chain.state.frozen(prepared))
                self._cost.measured(entries, time.thread_time() - cpu_began)
        except Exception as error:  # noqa: BLE001 - whatever user code raises: the checkpoint fails, not the task
            if prepared is not None:
                prepared.close()
            get_logger().warning("a snapshot could not be taken", checkpoint=number, why=repr(error))
            self._writer.decline(number, f"{type(error).__name__}: {error}")
            return
        finally:
            self.last_taken = number
            self.assigned.passed(number)
        now = time.perf_counter()
        delay_us = max(0, _wall_us() - barrier.triggered_wall_ms * 1000 - int((now - began) * 1e6))
        aligned_us = int(began * 1e6) - alignment.began_us if alignment.began_us else 0
        metrics = SnapshotMetrics(
            start_delay_us=max(0, delay_us - aligned_us),
            alignment_us=max(0, aligned_us),
            sync_us=int((now - emitted) * 1e6),
            unaligned=bool(alignment.overtakes),
        )
        unwritten = _Unwritten(barrier, forked, state, metrics)
        if alignment.overtakes:
            self._unwritten = unwritten
        else:
            self._write(unwritten, metrics)

    def _write(self, snapshot: _Unwritten, metrics: SnapshotMetrics) -> None:
        in_flight = snapshot.records.pickled() if metrics.in_flight_bytes else None
        if snapshot.forked is not None:
            self._writer.write_forked(snapshot.barrier, snapshot.forked, snapshot.state, metrics, in_flight)
        else:
            self._writer.write(snapshot.barrier, snapshot.state, metrics, in_flight)

    def notified(self, chain: Chain, reader: _Reader | None, notice: NotifyCheckpoint) -> Alignment:
        """A checkpoint is complete, or was given up."""
        number = notice.checkpoint_id
        self._writer.notified(notice)
        if notice.completed:
            self.last_completed = max(self.last_completed, number)
            chain.checkpoint_completed(number)
            if reader is not None:
                reader.notify_checkpoint_complete(number)
            return Alignment()
        chain.state.aborted(number)
        self.assigned.passed(number)
        outcome = self._alignment.aborted(number)
        self._overtaken(outcome)
        return outcome

    def close(self) -> None:
        """The task ends: nobody waits for what is still being written."""
        self._forget()
        self._writer.close()


def _now_us() -> int:
    return int(time.perf_counter() * 1e6)


def _wall_us() -> int:
    return time.time_ns() // 1000
