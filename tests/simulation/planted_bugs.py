"""Known bugs, each as a context that plants it into the brains: what the simulator must find."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import msgspec

from zmflow.coordination import slot_sharing
from zmflow.coordination.checkpoints.completed import CompletedCheckpoint, CompletedCheckpoints
from zmflow.coordination.checkpoints.coordinator import CheckpointCoordinator
from zmflow.coordination.execution_graph import ExecutionGraph
from zmflow.coordination.failover import Regions
from zmflow.coordination.job_file_shipments import JobFileShipments
from zmflow.coordination.job_master import JobMaster
from zmflow.coordination.peers import Peers
from zmflow.coordination.registered_taskmanager import RegisteredTaskManager
from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.scheduler import Scheduler
from zmflow.coordination.slot_pool import SlotPool
from zmflow.coordination.slot_sharing import SlotSharingManager
from zmflow.coordination.task_cancellation import TaskCancellation
from zmflow.coordination.task_executor import TaskExecutor
from zmflow.coordination.worker_slots import WorkerSlots
from zmflow.protocol import messages as m
from zmflow.protocol.session import Session

__all__ = ["BUGS"]


def _instead(owner: type, name: str, function: Callable[..., Any]) -> AbstractContextManager[Any]:
    return mock.patch.object(owner, name, function)


@contextlib.contextmanager
def leader_forgets_the_epoch() -> Iterator[None]:
    """The JobManager acts upon messages of an older term."""
    with _instead(Peers, "admit", lambda self, _turn, peer, _message: self._peers.get(peer)):
        yield


@contextlib.contextmanager
def taskmanager_forgets_the_epoch() -> Iterator[None]:
    """A TaskManager acts upon messages of an older leader."""
    right = TaskExecutor._from_jobmanager

    def wrong(self: TaskExecutor, message: m.Message) -> None:
        right(self, msgspec.structs.replace(message, epoch=max(message.epoch, self._epoch)))

    with _instead(TaskExecutor, "_from_jobmanager", wrong):
        yield


@contextlib.contextmanager
def slots_are_given_away_twice() -> Iterator[None]:
    """The ResourceManager forgets what it has cut from a TaskManager already."""
    with _instead(RegisteredTaskManager, "room", lambda self, _profile: self.slots_total):
        yield


@contextlib.contextmanager
def attempts_are_ignored() -> Iterator[None]:
    """A report about any attempt of a subtask is taken for one about the current attempt, on both sides."""

    def wrong(self: ExecutionGraph, attempt: str) -> Any:
        _, vertex, index, _ = attempt.rsplit("/", 3)
        subtasks = self.vertices.get(vertex, [])
        return subtasks[int(index)] if int(index) < len(subtasks) else None

    def pass_on(self: TaskExecutor, tenure: Any, message: m.TaskStateChanged) -> None:
        tenure.attempts.setdefault(message.attempt_id)
        right(self, tenure, message)

    right = TaskExecutor._task_changed
    with (
        _instead(ExecutionGraph, "get", wrong),
        _instead(TaskExecutor, "_task_changed", pass_on),
    ):
        yield


@contextlib.contextmanager
def allocations_are_ignored() -> Iterator[None]:
    """What is for a worker that is gone is taken to be for another one of the TaskManager."""

    def confused(right: Callable[[TaskExecutor, Any], None]) -> Callable[[TaskExecutor, Any], None]:
        def wrong(self: TaskExecutor, message: Any) -> None:
            others = [tenure for tenure in self._slots.all() if not tenure.abandoned]
            if others and self._slots.get(message.allocation_id) is None:
                message = msgspec.structs.replace(message, allocation_id=others[0].allocation_id)
            right(self, message)

        return wrong

    with (
        _instead(TaskExecutor, "_deploy", confused(TaskExecutor._deploy)),
        _instead(TaskExecutor, "_free", confused(TaskExecutor._free)),
    ):
        yield


@contextlib.contextmanager
def only_the_failed_task_restarts() -> Iterator[None]:
    """Failover forgets the rest of the pipelined region."""
    with _instead(Regions, "restarted_by", lambda _self, failed, _lost=(): list(failed)):
        yield


@contextlib.contextmanager
def a_returned_slot_is_lost() -> Iterator[None]:
    """A slot whose worker has ended is never given away again."""
    with _instead(ResourceManager, "freed", lambda _self, _turn, _allocation: False):
        yield


@contextlib.contextmanager
def failover_does_not_wait_for_cancelled_tasks() -> Iterator[None]:
    """Tasks that are to stop are taken to have stopped, and are not told."""

    def wrong(self: TaskCancellation, turn: Any, executions: Any) -> None:
        for execution in executions:
            for event in ("cancel", "canceled"):
                self._scheduler.layout.executions.advance(execution, event, turn.wall_ms)

    with _instead(TaskCancellation, "cancel", wrong):
        yield


@contextlib.contextmanager
def a_slot_is_offered_and_taken_twice() -> Iterator[None]:
    """A worker that says twice that it is ready makes two offers of its slot, and the job takes both."""

    def offer(self: TaskExecutor, tenure: Any, message: m.WorkerReady) -> None:
        tenure.state = "starting"
        right(self, tenure, message)

    def take(self: Scheduler, turn: Any, tm: Any, slot: Any, message: m.OfferSlot) -> str:
        with _instead(SlotPool, "get", lambda _self, _allocation: None):
            return accept(self, turn, tm, slot, message)

    right, accept = TaskExecutor._worker_ready, Scheduler.offer
    with _instead(TaskExecutor, "_worker_ready", offer), _instead(Scheduler, "offer", take):
        yield


@contextlib.contextmanager
def a_worker_may_start_for_ever() -> Iterator[None]:
    """The TaskManager forgets the limit on the start of a worker."""
    right = WorkerSlots.add

    def wrong(self: WorkerSlots, tenure: Any) -> None:
        tenure.deadline_ms = None
        right(self, tenure)

    with _instead(WorkerSlots, "add", wrong):
        yield


@contextlib.contextmanager
def tasks_of_a_lost_taskmanager_are_kept() -> Iterator[None]:
    """A job is not told that a TaskManager is gone."""
    with _instead(JobMaster, "taskmanager_lost", lambda _self, _turn, _tm, _sentence: None):
        yield


@contextlib.contextmanager
def silent_taskmanagers_are_not_noticed() -> Iterator[None]:
    """The ResourceManager never gives up a TaskManager it does not hear."""
    right = ResourceManager.watch

    def wrong(self: ResourceManager, turn: Any) -> list[Any]:
        for tm in right(self, turn):
            self.heard(turn, tm)
        return []

    with _instead(ResourceManager, "watch", wrong):
        yield


@contextlib.contextmanager
def messages_are_not_numbered() -> Iterator[None]:
    """A session takes whatever comes: lost and repeated messages go unnoticed."""
    with _instead(Session, "admit", lambda _self, _sequence: "next"):
        yield


@contextlib.contextmanager
def workers_survive_the_leader_they_worked_for() -> Iterator[None]:
    """A TaskManager that begins anew lets its workers go on."""
    with _instead(TaskExecutor, "_abandon_all", lambda _self, _why: None):
        yield


@contextlib.contextmanager
def tasks_that_ignore_cancellation_are_left_alone() -> Iterator[None]:
    """The TaskManager passes a cancellation on and does not look whether it is obeyed."""
    right = TaskExecutor._cancel

    def wrong(self: TaskExecutor, message: m.CancelTasks) -> None:
        right(self, msgspec.structs.replace(message, grace_ms=1_000_000))

    with _instead(TaskExecutor, "_cancel", wrong):
        yield


@contextlib.contextmanager
def a_slot_has_room_for_two_jobs() -> Iterator[None]:
    """A TaskManager forks another worker into a slot and lets the one there live."""
    with (
        _instead(WorkerSlots, "owner", lambda _self, _index: None),
        _instead(WorkerSlots, "check", lambda _self: None),
        _instead(ResourceManager, "release", _release_at_once),
    ):
        yield


def _release_at_once(
    self: ResourceManager, turn: Any, allocation: str, *, tell_taskmanager: bool = True
) -> None:
    held = self.holder(allocation)
    if held is not None:
        turn.send(held[0].peer, m.FreeSlot(turn.epoch, allocation, held[1].index))
        self.freed(turn, allocation)


@contextlib.contextmanager
def a_lost_slot_is_still_used() -> Iterator[None]:
    """Tasks stay in a slot whose worker is gone, and the next attempt is sent there."""
    with _instead(JobMaster, "slot_lost", lambda *_arguments: None):
        yield


@contextlib.contextmanager
def co_located_tasks_are_spread() -> Iterator[None]:
    """Sharing forgets co-location where it evens out tasks, and does not check it."""
    right = slot_sharing._offsets

    def wrong(graph: Any, widths: dict[str, int]) -> dict[str, int]:
        vertices = [msgspec.structs.replace(vertex, co_location_group="") for vertex in graph.vertices]
        return right(msgspec.structs.replace(graph, vertices=vertices), widths)

    with (
        mock.patch.object(slot_sharing, "_offsets", wrong),
        _instead(SlotSharingManager, "check", lambda _self, _graph: None),
    ):
        yield


@contextlib.contextmanager
def checkpoints_are_complete_before_they_are_stored() -> Iterator[None]:
    """Tasks are told to commit while the metadata is on its way to the storage."""
    right = CheckpointCoordinator.acknowledged

    def wrong(self: CheckpointCoordinator, turn: Any, message: m.CheckpointAcknowledged) -> None:
        right(self, turn, message)
        pending = self._pending.get(message.checkpoint_id)
        if pending is not None and pending.state == "STORING":
            self._complete(turn, pending)

    with _instead(CheckpointCoordinator, "acknowledged", wrong):
        yield


@contextlib.contextmanager
def tasks_begin_from_a_checkpoint_that_was_given_up() -> Iterator[None]:
    """What was acknowledged by all is taken for complete, although it was never stored."""
    right = CheckpointCoordinator._abort

    def wrong(
        self: CheckpointCoordinator, turn: Any, pending: Any, why: str, *, counted: bool = False
    ) -> None:
        if pending.state == "STORING":
            self._completed.add(CompletedCheckpoint(pending.metadata, pending.location))
        right(self, turn, pending, why, counted=counted)

    with _instead(CheckpointCoordinator, "_abort", wrong):
        yield


@contextlib.contextmanager
def parts_of_older_attempts_count() -> Iterator[None]:
    """A failover goes on with the checkpoint that is under way: what is acknowledged stays acknowledged."""
    right = CheckpointCoordinator.acknowledged

    def any_attempt(self: CheckpointCoordinator, turn: Any, message: m.CheckpointAcknowledged) -> None:
        pending = self._pending.get(message.checkpoint_id)
        subtask = message.attempt_id.rsplit("/", 1)[0]
        for attempt in list(pending.tasks) if pending is not None else []:
            if pending is not None and attempt.rsplit("/", 1)[0] == subtask:
                pending.tasks[message.attempt_id] = pending.tasks.pop(attempt)
        right(self, turn, message)

    def keep(self: CheckpointCoordinator, _turn: Any, _why: str) -> None:
        self._schedule.stop()

    with (
        _instead(CheckpointCoordinator, "acknowledged", any_attempt),
        _instead(CheckpointCoordinator, "abort_all", keep),
        _instead(CheckpointCoordinator, "check", lambda _self: None),
    ):
        yield


@contextlib.contextmanager
def barriers_overtake_the_snapshots_of_enumerators() -> Iterator[None]:
    """Tasks are told to begin without waiting for the split enumerators."""
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
def the_newest_checkpoint_is_deleted_too() -> Iterator[None]:
    """Of the completed checkpoints none is kept on disk."""
    right = CompletedCheckpoints.add

    def wrong(self: CompletedCheckpoints, checkpoint: CompletedCheckpoint) -> list[CompletedCheckpoint]:
        return [*right(self, checkpoint), checkpoint]

    with _instead(CompletedCheckpoints, "add", wrong):
        yield


@contextlib.contextmanager
def finished_tasks_are_waited_for() -> Iterator[None]:
    """A task that finished instead of taking part holds its checkpoint up, for ever without a timeout."""

    def timeless(self: Any, turn: Any) -> None:
        if self._next_ms() is not None and turn.now_ms >= self._next_ms():
            self._begin(turn, "checkpoint")

    with (
        _instead(CheckpointCoordinator, "task_finished", lambda _self, _turn, _execution: None),
        _instead(CheckpointCoordinator, "proceed", timeless),
        _instead(CheckpointCoordinator, "deadline_ms", CheckpointCoordinator._next_ms),
        _instead(CheckpointCoordinator, "check", lambda _self: None),
    ):
        yield


@contextlib.contextmanager
def files_are_sent_to_a_name() -> Iterator[None]:
    """A TaskManager that has registered again is taken to have the files it was sent before."""
    right = JobFileShipments.send

    def wrong(self: JobFileShipments, turn: Any, taskmanager_id: str) -> None:
        if taskmanager_id not in self._sent:
            right(self, turn, taskmanager_id)

    with _instead(JobFileShipments, "send", wrong):
        yield


@contextlib.contextmanager
def files_outlive_their_job() -> Iterator[None]:
    """A TaskManager is not told that the last slot of a job there was given back."""
    with _instead(JobFileShipments, "drop", lambda _self, _turn, _taskmanager_id: None):
        yield


BUGS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    bug.__name__: bug
    for bug in (
        leader_forgets_the_epoch,
        taskmanager_forgets_the_epoch,
        slots_are_given_away_twice,
        attempts_are_ignored,
        allocations_are_ignored,
        only_the_failed_task_restarts,
        a_returned_slot_is_lost,
        failover_does_not_wait_for_cancelled_tasks,
        a_slot_is_offered_and_taken_twice,
        a_worker_may_start_for_ever,
        tasks_of_a_lost_taskmanager_are_kept,
        silent_taskmanagers_are_not_noticed,
        messages_are_not_numbered,
        workers_survive_the_leader_they_worked_for,
        tasks_that_ignore_cancellation_are_left_alone,
        a_slot_has_room_for_two_jobs,
        a_lost_slot_is_still_used,
        co_located_tasks_are_spread,
        checkpoints_are_complete_before_they_are_stored,
        tasks_begin_from_a_checkpoint_that_was_given_up,
        parts_of_older_attempts_count,
        barriers_overtake_the_snapshots_of_enumerators,
        the_newest_checkpoint_is_deleted_too,
        finished_tasks_are_waited_for,
        files_are_sent_to_a_name,
        files_outlive_their_job,
    )
}
"""By name; the docstring says what is wrong."""
