"""A simulated task: ``Task`` and ``SourceLoop`` without their threads, one item of the mailbox at a time.

Aligning, snapshots, restoring and commits are the engine's own: ``TaskCheckpoints`` with all it uses. Only
the writing aside is simulated, because it happens at an instant of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from zmflow.api.sinks import CommitRequest
from zmflow.api.sources import EndOfInput
from zmflow.execution.barrier_alignment import Alignment
from zmflow.execution.chain import Chain
from zmflow.protocol.checkpoints import (
    AwaitsCheckpoint,
    CheckpointAcknowledged,
    CheckpointBarrier,
    CheckpointDeclined,
    NotifyCheckpoint,
    SnapshotMetrics,
    StateFile,
    UnalignCheckpoint,
)
from zmflow.protocol.messages import TaskDeployment
from zmflow.runtime.channels import InputChannel
from zmflow.runtime.checkpoints.pickle_cost import PickleCost
from zmflow.runtime.checkpoints.snapshot_writer import SnapshotWriter
from zmflow.runtime.checkpoints.task_checkpoints import TaskCheckpoints
from zmflow.runtime.shipped_code import load_chain
from zmflow.runtime.sources.source_coordinator import ADD_SPLITS, decode_event
from zmflow.runtime.task_outputs import TaskOutputs
from zmflow.state.native_files import NativeManifest
from zmflow.state.state_file import PickledState
from zmflow.testing.simulation.dataflow.chain import SimulatedChain
from zmflow.testing.simulation.dataflow.channel import END, FlowChannel, FlowOutputs
from zmflow.testing.simulation.dataflow.program import NumbersReader

if TYPE_CHECKING:
    from zmflow.testing.simulation.dataflow.flow import Flow
    from zmflow.testing.simulation.dataflow.slot import FlowSlot

__all__ = ["FlowTask", "SimulatedFailureError"]


def _inline(state: PickledState) -> StateFile:
    data = b"".join(state.parts())
    return StateFile("", len(data), data, state.has_union)


class SimulatedFailureError(Exception):
    """The program fails, because the seed says so."""


class _Aside:
    """The ``SnapshotWriter`` of a task: snapshots are acknowledged later, in any order."""

    def __init__(self, task: FlowTask) -> None:
        self._task = task
        self.waiting: list[CheckpointAcknowledged | CheckpointDeclined] = []

    def write(
        self,
        barrier: CheckpointBarrier,
        state: PickledState,
        metrics: SnapshotMetrics,
        in_flight: PickledState | None,
    ) -> None:
        file = None if state.empty else _inline(state)
        overtaken = None if in_flight is None else _inline(in_flight)
        attempt = self._task.deployment.attempt_id
        number = barrier.checkpoint_id
        if self._task.flow.strikes("snapshot fails", 0.01):
            self.decline(number, "The disk is full.")
        else:
            self.waiting.append(CheckpointAcknowledged(0, "", attempt, number, file, metrics, overtaken))

    def decline(self, checkpoint_id: int, reason: str) -> None:
        attempt = self._task.deployment.attempt_id
        self.waiting.append(CheckpointDeclined(0, "", attempt, checkpoint_id, reason))

    def notified(self, notice: NotifyCheckpoint) -> None:
        """Nothing is shared between checkpoints here."""

    def adopted(self, identity: str, manifest: NativeManifest) -> None:
        raise AssertionError(f"{identity} has no files: {manifest.format}")

    def close(self) -> None:
        self.waiting.clear()


class _NeverTooLong(PickleCost):
    """No forks, which a busy machine would decide about: a seed is to do the same each time."""

    def is_too_long(self, entries: int) -> bool:  # noqa: ARG002 - of the base
        """Whether to fork."""
        return False


class FlowTask:
    """One attempt of a subtask.

    Args:
        slot: where it runs.
        deployment: what it runs.
        inputs: its input channels.
        outputs: what it sends into.
    """

    def __init__(
        self,
        flow: Flow,
        slot: FlowSlot,
        deployment: TaskDeployment,
        inputs: Sequence[FlowChannel],
        outputs: FlowOutputs,
    ) -> None:
        self.flow = flow
        self.deployment = deployment
        self.inputs = inputs
        self.outputs = outputs
        self.control: deque[Any] = deque()
        self.reader: NumbersReader | None = None
        self.phase = "opens"  # runs, awaits, over
        self._slot = slot
        self._open = dict.fromkeys(inputs)
        self._deferred: deque[tuple[Any, Any]] = deque()
        self._in_hand: Sequence[Any] = ()
        self._idle = False  # the reader has nothing
        self._before = 0  # the checkpoint that was taken last when the input ended
        # FlowChannel stands for InputChannel: nothing but its identity matters.
        channels = cast(Sequence[InputChannel], inputs)
        self.checkpoints = TaskCheckpoints(deployment, flow.plan.settings, channels, slot.say)
        self.aside = _Aside(self)
        self.checkpoints._writer = cast(SnapshotWriter, self.aside)
        self.checkpoints._cost = _NeverTooLong()
        self._chain: SimulatedChain | None = None

    def __repr__(self) -> str:
        return self.deployment.attempt_id.partition("/")[2]

    # -- what may happen ------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether it has something to do."""
        if self.phase == "opens" or self._deferred or self.control or self._due:
            return True
        if self.phase == "awaits":
            return any(channel.items for channel in self.inputs)
        if self.phase != "runs":
            return False
        if self.outputs.pending:
            return True
        if self.outputs.full:
            return False
        if self.reader is not None:
            return bool(self._in_hand) or not self._idle or self.checkpoints.assigned.ready
        return any(channel.items for channel in self.inputs)

    @property
    def _due(self) -> bool:
        due_ms = None if self._chain is None else self._chain.due_ms()
        return due_ms is not None and due_ms <= self.flow.now_ms

    def due_ms(self) -> int | None:
        """When it has something to do although nothing comes."""
        return None if self._chain is None or self.phase == "over" else self._chain.due_ms()

    def stuck(self) -> str:
        """What it waits for, for the report of a run that does not come to its end."""
        held = [f"{channel}" for channel in self.inputs if channel in self.checkpoints.blocked]
        barrier = self.checkpoints._alignment.waits_for
        waits = "" if barrier is None else f", waits for the barriers of checkpoint {barrier.checkpoint_id}"
        return f"{self!r} {self.phase}{waits}{', blocked: ' + ' '.join(held) if held else ''}"

    def step(self) -> None:
        """Do one thing."""
        try:
            self._step()
        except SimulatedFailureError:
            self.fail()

    def fail(self) -> None:
        """It fails."""
        self.stop()
        self._slot.task_over(self, "FAILED")

    def stop(self) -> None:
        """It does nothing more."""
        self.phase = "over"
        self.checkpoints.close()

    # -- Task -----------------------------------------------------------------------------------------

    def _step(self) -> None:
        flow = self.flow
        chain = self._chain
        if chain is None:
            self._begin()
            return
        if self._due:
            chain.advance(flow.now_ms)
        elif self.phase == "runs" and self.outputs.pending and flow.chance.random() < 0.3:
            self.outputs.flush()
        elif self.phase == "awaits":
            if self._deferred or self.control or any(channel.items for channel in self.inputs):
                self._control(self._next_item()[1])
        elif self.reader is not None:
            self._source_step(chain, self.reader)
        else:
            self._input_step(chain)
        if (
            self.phase == "awaits"
            and self.checkpoints.last_completed > self._before
            and not chain.awaits_checkpoint
        ):
            self._finished()

    def _begin(self) -> None:
        spec = load_chain(self.deployment.operators)
        chain = SimulatedChain(
            spec,
            self.deployment,
            self.flow.plan,
            restored=self.checkpoints.restored,
            emit=self.outputs.emit,
            commit=self._commit,
            now_ms=lambda: self.flow.now_ms,
        )
        self._chain = chain
        if chain.source is not None and not self.checkpoints.has_finished:
            self._slot.request_split(self)
        if self.deployment.restore is not None:
            if self.deployment.restore.in_flight:
                self.flow.count("overtaken records are sent again")
            self.outputs.restore(self.deployment.restore, self.flow.plan.settings)
        self._slot.report(self, "RUNNING")
        self.phase = "runs"
        if self.checkpoints.has_finished:
            self.outputs.finish()
            self._finished()
        elif chain.source is not None:
            reader = chain.source.create_reader(chain.context)
            assert isinstance(reader, NumbersReader)
            self.reader = reader
            self._in_hand = self.checkpoints.restore_reader(
                cast(Chain, chain), reader, ADD_SPLITS, lambda: self._in_hand
            )
            self.flow.rules.splits_moved(self.deployment.vertex_id)

    def _commit(self, request: CommitRequest[Any]) -> None:
        self.flow.commit(self, request)

    def _next_item(self) -> tuple[Any, Any]:
        if self._deferred:
            return self._deferred.popleft()
        # The mailbox is one queue; in which order others get to put something into it is chance.
        ways = [channel for channel in self.inputs if channel.items]
        at = self.flow.chance.randrange(len(ways) + bool(self.control))
        if at == len(ways):
            return None, self.control.popleft()
        channel = ways[at]
        item = channel.items.popleft()
        if channel.seen:
            channel.seen -= 1
        elif self.checkpoints.overtook(cast(InputChannel, channel), item):
            return None, None
        channel.taken += 1
        return channel, item

    def _look_ahead(self) -> None:
        """What the engine does in its mailbox, where it sees at once what has come."""
        for channel in self.inputs:
            kept = deque[Any]()
            for place, item in enumerate(channel.items):
                if place < channel.seen or not self.checkpoints.overtook(cast(InputChannel, channel), item):
                    kept.append(item)
            channel.items = kept
            channel.seen = len(kept)

    def _unaligned(self, order: UnalignCheckpoint) -> None:
        alignment = self.checkpoints.unaligned(order.barrier)
        self._aligned(alignment)
        if alignment.take is None or not self.checkpoints.overtakes:
            return
        self.flow.count("barriers overtake records")
        for channel in self.inputs:
            channel.seen = 0
        self._deferred = deque(
            (channel, item)
            for channel, item in self._deferred
            if not self.checkpoints.overtook(channel, item)
        )
        self._look_ahead()

    def _input_step(self, chain: SimulatedChain) -> None:
        checkpoints = self.checkpoints
        if checkpoints.overtakes and self.flow.chance.random() < 0.5:
            self._look_ahead()
        if not (self._deferred or self.control or any(channel.items for channel in self.inputs)):
            self.outputs.flush()
            return
        if self.outputs.full and not self._deferred and not self.control:
            return
        channel, item = self._next_item()
        if channel is None:
            self._control(item)
            return
        if channel in checkpoints.blocked:
            checkpoints.hold(channel, item)
            return
        channel.taken -= 1
        if item is END:
            del self._open[channel]
            for alignment in checkpoints.ended(channel):
                self._aligned(alignment)
            if not self._open:
                self._end(chain)
        elif isinstance(item, CheckpointBarrier):
            self._aligned(checkpoints.barrier(channel, item))
        else:
            chain.process(item)

    def _end(self, chain: SimulatedChain) -> None:
        chain.finish()
        self.outputs.finish()
        if not chain.awaits_checkpoint:
            self._finished()
            return
        self._before = self.checkpoints.last_taken
        self.phase = "awaits"
        self._slot.say(AwaitsCheckpoint(0, "", self.deployment.attempt_id, self._before))

    def _finished(self) -> None:
        self.stop()
        self._slot.task_over(self, "FINISHED")

    def _control(self, item: Any) -> None:
        if isinstance(item, CheckpointBarrier):
            self._aligned(self.checkpoints.triggered(item))
        elif isinstance(item, UnalignCheckpoint):
            self._unaligned(item)
        elif isinstance(item, NotifyCheckpoint):
            chain = cast(Chain, self._chain)
            self._aligned(self.checkpoints.notified(chain, self.reader, item))

    def _aligned(self, alignment: Alignment) -> None:
        if alignment.take is not None:
            self.checkpoints.take(cast(Chain, self._chain), cast(TaskOutputs, self.outputs), alignment)
            if self.flow.journal.on:
                self.flow.note(f"{self!r}", f"takes {alignment.take.checkpoint_id}")
        if alignment.resumes:
            self.checkpoints.resume(self._deferred)

    # -- SourceLoop -----------------------------------------------------------------------------------

    def _source_step(self, chain: SimulatedChain, reader: NumbersReader) -> None:
        assigned = self.checkpoints.assigned
        if self._deferred or self.control:
            item = self._next_item()[1]
            if isinstance(item, bytes):
                verb, argument, number = decode_event(item)
                assigned.add(number, verb, argument)
            else:
                self._control(item)
        elif self.outputs.full:
            self.outputs.flush()
        elif self._in_hand:
            size = self.flow.chance.randint(1, len(self._in_hand))
            rows, self._in_hand = self._in_hand[:size], self._in_hand[size:]
            chain.process(rows)
        elif not self._idle:
            polled = reader.poll_next()
            if polled is EndOfInput.END:
                self.reader = None
                self._end(chain)
            elif polled is None:
                self._idle = True
            else:
                self._in_hand = polled
        elif assigned.ready:
            verb, splits = assigned.pop()
            self._idle = False
            if verb == ADD_SPLITS:
                reader.add_splits(splits)
                self._slot.request_split(self)
                self.flow.rules.splits_moved(self.deployment.vertex_id)
            else:
                reader.notify_no_more_splits()
        else:
            self.outputs.flush()
