"""Known bugs of the data plane, each as a context that plants it: what the simulated jobs must find."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from msgspec import structs

from zmflow.coordination.checkpoints import restore_assignment
from zmflow.coordination.checkpoints.coordinator import CheckpointCoordinator
from zmflow.coordination.checkpoints.orders import CheckpointOrders
from zmflow.execution.barrier_alignment import Alignment, BarrierAlignment
from zmflow.execution.sink_commits import SinkCommits
from zmflow.runtime.checkpoints import snapshot_reader
from zmflow.runtime.checkpoints.in_flight import InFlightRecords
from zmflow.runtime.checkpoints.task_checkpoints import AssignedSplits, TaskCheckpoints
from zmflow.runtime.sources.split_assignments import SplitAssignments
from zmflow.testing.simulation.dataflow.channel import FlowOutputs
from zmflow.testing.simulation.dataflow.slot import FlowSlot
from zmflow.testing.simulation.dataflow.task import FlowTask

__all__ = ["DATAFLOW_BUGS"]


def _instead(owner: Any, name: str, value: Any) -> AbstractContextManager[Any]:
    return mock.patch.object(owner, name, value)


@contextlib.contextmanager
def a_barrier_leaves_after_a_later_record() -> Iterator[None]:
    """A task sends the barrier behind the records that it makes next."""
    late: dict[int, Any] = {}
    emit, right = FlowOutputs.emit, FlowOutputs.emit_barrier

    def barrier(self: FlowOutputs, item: Any) -> None:
        if late.get(id(self)) is not None:
            right(self, late.pop(id(self)))
        late[id(self)] = item

    def rows(self: FlowOutputs, batch: Any) -> None:
        emit(self, batch)
        if late.get(id(self)) is not None:
            right(self, late.pop(id(self)))

    with _instead(FlowOutputs, "emit_barrier", barrier), _instead(FlowOutputs, "emit", rows):
        yield


@contextlib.contextmanager
def a_blocked_channel_leaks() -> Iterator[None]:
    """Records behind a barrier are processed before the others have come."""
    right = BarrierAlignment.barrier

    def wrong(self: BarrierAlignment, *arguments: Any) -> Alignment:
        outcome = right(self, *arguments)
        self.blocked.clear()
        return outcome

    with _instead(BarrierAlignment, "barrier", wrong):
        yield


@contextlib.contextmanager
def sinks_commit_before_completion() -> Iterator[None]:
    """What is prepared for a checkpoint is committed when the barrier comes."""
    right = SinkCommits.prepare

    def wrong(self: SinkCommits, checkpoint_id: int) -> None:
        right(self, checkpoint_id)
        self.completed(checkpoint_id)

    with _instead(SinkCommits, "prepare", wrong):
        yield


@contextlib.contextmanager
def held_records_are_lost() -> Iterator[None]:
    """What came on a blocked channel is forgotten when it goes on."""

    def wrong(self: TaskCheckpoints, deferred: Any) -> None:
        deferred.extendleft([each for each in reversed(self._held) if each[1].__class__ is not list])
        self._held = []

    with _instead(TaskCheckpoints, "resume", wrong):
        yield


@contextlib.contextmanager
def rows_in_hand_are_lost() -> Iterator[None]:
    """Records that the reader has given and nobody has processed are in no snapshot."""
    right = TaskCheckpoints.restore_reader

    def wrong(self: TaskCheckpoints, chain: Any, reader: Any, verb: str, _in_hand: Any) -> Any:
        return right(self, chain, reader, verb, list)

    with _instead(TaskCheckpoints, "restore_reader", wrong):
        yield


@contextlib.contextmanager
def state_of_the_wrong_range_is_restored() -> Iterator[None]:
    """After rescaling, the last of the files with key groups of a subtask is not read."""
    right = restore_assignment._meeting

    def wrong(*arguments: Any) -> Any:
        files = right(*arguments)
        return files[:-1] if len(files) > 1 else files

    with _instead(restore_assignment, "_meeting", wrong):
        yield


@contextlib.contextmanager
def operator_state_is_dealt_out_badly() -> Iterator[None]:
    """After rescaling, every subtask takes the operator state of all."""
    right = snapshot_reader.redistribute

    def wrong(subtasks: Any, parallelism: int) -> Any:
        return right(subtasks, 1) * parallelism

    with _instead(snapshot_reader, "redistribute", wrong):
        yield


@contextlib.contextmanager
def splits_overtake_the_barrier() -> Iterator[None]:
    """A reader is given at once what was assigned after the snapshot of the enumerator."""
    with _instead(AssignedSplits, "ready", property(lambda self: bool(self._waiting))):
        yield


@contextlib.contextmanager
def a_reader_gives_back_what_it_has() -> Iterator[None]:
    """A restarted reader gives back what is in its checkpoint, too."""
    right = SplitAssignments.take_back
    with (
        _instead(SplitAssignments, "take_back", lambda self, subtask, _restored=0: right(self, subtask)),
        _instead(SplitAssignments, "completed", lambda _self, _number: None),
    ):
        yield


@contextlib.contextmanager
def splits_of_a_failed_reader_are_lost() -> Iterator[None]:
    """Nothing comes back from a reader that restarts."""
    with _instead(SplitAssignments, "take_back", lambda *_: []):
        yield


@contextlib.contextmanager
def readers_ask_when_a_checkpoint_may_have_begun() -> Iterator[None]:
    """A reader says that it runs before it asks: what its last attempt was given is in no snapshot."""
    request, report = FlowSlot.request_split, FlowSlot.report

    def later(self: FlowSlot, task: FlowTask) -> None:
        if task.phase != "opens":
            request(self, task)

    def first(self: FlowSlot, task: FlowTask, state: str) -> None:
        report(self, task, state)
        if state == "RUNNING" and self.flow.master.is_source(task.deployment.vertex_id):
            self.down.append(("ask", task))

    def ask(self: FlowSlot, task: FlowTask) -> None:
        if self.flow.chance.random() < 0.9:  # it takes its time: a checkpoint begins and ends meanwhile
            self.down.append(("ask", task))
        else:
            request(self, task)

    with (
        _instead(FlowSlot, "request_split", later),
        _instead(FlowSlot, "report", first),
        mock.patch.object(FlowSlot, "_ask", ask, create=True),
    ):
        yield


@contextlib.contextmanager
def the_end_of_a_channel_is_no_barrier() -> Iterator[None]:
    """A task waits for the barriers of channels that have ended."""

    def wrong(self: BarrierAlignment, channel: Any) -> list[Alignment]:
        self.blocked.discard(channel)
        return []

    with _instead(BarrierAlignment, "ended", wrong):
        yield


@contextlib.contextmanager
def what_is_prepared_is_not_in_the_snapshot() -> Iterator[None]:
    """What waits for its commit is lost with the task."""
    right = SinkCommits.snapshot_state

    def wrong(self: SinkCommits, context: Any) -> None:
        right(self, context)
        context.operator[:] = [state for state in context.operator if state.name != "committables"]

    with _instead(SinkCommits, "snapshot_state", wrong):
        yield


@contextlib.contextmanager
def commits_of_the_restored_checkpoint_are_forgotten() -> Iterator[None]:
    """What a checkpoint was complete for, and nobody committed, is dropped at the restart."""
    with _instead(SinkCommits, "begin", lambda self: self._pending.clear()):
        yield


@contextlib.contextmanager
def barriers_overtake_the_enumerator() -> Iterator[None]:
    """Tasks are told to begin without waiting for the split enumerators, which answer later."""
    right = CheckpointCoordinator._begin

    def wrong(self: CheckpointCoordinator, turn: Any, kind: Any, *rest: Any) -> None:
        right(self, turn, kind, *rest)
        pending = self._pending.get(self._newest_id)
        if pending is not None and pending.coordinators:
            pending.coordinators.clear()
            self._begin_tasks(turn, pending)

    with _instead(CheckpointCoordinator, "_begin", wrong):
        yield


@contextlib.contextmanager
def tasks_that_only_wait_are_not_told() -> Iterator[None]:
    """A task whose input has ended takes part only when a barrier comes, and none does."""
    right = CheckpointOrders.trigger

    def wrong(self: CheckpointOrders, turn: Any, barrier: Any, tasks: Any) -> None:
        heads = {execution.attempt_id for execution in self._scheduler.layout.heads()}
        right(self, turn, barrier, {attempt: task for attempt, task in tasks.items() if attempt in heads})

    with _instead(CheckpointOrders, "trigger", wrong):
        yield


@contextlib.contextmanager
def overtaken_records_are_lost() -> Iterator[None]:
    """What barriers overtake is in no snapshot."""
    with _instead(InFlightRecords, "add", lambda *_: None):
        yield


@contextlib.contextmanager
def records_behind_a_barrier_count_as_overtaken() -> Iterator[None]:
    """What comes on a channel whose barrier has come is recorded, too: it comes again from its source."""
    right = TaskCheckpoints.overtook

    def wrong(self: TaskCheckpoints, channel: Any, item: Any) -> bool:
        unwritten = self._unwritten
        if unwritten is not None and channel not in self._alignment.behind and isinstance(item, list):
            unwritten.records.add(channel, item)
        return right(self, channel, item)

    with _instead(TaskCheckpoints, "overtook", wrong):
        yield


@contextlib.contextmanager
def overtaken_records_of_tasks_that_are_gone_are_lost() -> Iterator[None]:
    """After scaling down, a task sends again only what its own channel had."""
    right = restore_assignment.in_flight_of

    def wrong(*arguments: Any) -> Any:
        return [
            structs.replace(
                restore, parts=[structs.replace(p, channels=p.channels[:1]) for p in restore.parts]
            )
            for restore in right(*arguments)
        ]

    with _instead(restore_assignment, "in_flight_of", wrong):
        yield


@contextlib.contextmanager
def overtaken_records_come_from_every_sender() -> Iterator[None]:
    """Each task of the vertex before sends again what was on its way to all."""
    right = restore_assignment.in_flight_of

    def wrong(graph: Any, vertex: Any, _index: int, metadata: Any) -> Any:
        return right(graph, structs.replace(vertex, parallelism=1), 0, metadata)

    with _instead(restore_assignment, "in_flight_of", wrong):
        yield


DATAFLOW_BUGS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    bug.__name__: bug
    for bug in (
        a_barrier_leaves_after_a_later_record,
        a_blocked_channel_leaks,
        sinks_commit_before_completion,
        held_records_are_lost,
        rows_in_hand_are_lost,
        state_of_the_wrong_range_is_restored,
        operator_state_is_dealt_out_badly,
        splits_overtake_the_barrier,
        a_reader_gives_back_what_it_has,
        splits_of_a_failed_reader_are_lost,
        readers_ask_when_a_checkpoint_may_have_begun,
        the_end_of_a_channel_is_no_barrier,
        what_is_prepared_is_not_in_the_snapshot,
        commits_of_the_restored_checkpoint_are_forgotten,
        barriers_overtake_the_enumerator,
        tasks_that_only_wait_are_not_told,
        overtaken_records_are_lost,
        records_behind_a_barrier_count_as_overtaken,
        overtaken_records_of_tasks_that_are_gone_are_lost,
        overtaken_records_come_from_every_sender,
    )
}
"""By name; the docstring says what is wrong."""
