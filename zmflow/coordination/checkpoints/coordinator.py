"""The checkpoints of one job: when one is triggered, whom it waits for, when it is complete.

A checkpoint goes through the table of ``states.CHECKPOINT``. First the split enumerators of all sources are
snapshotted. Only then the tasks without running inputs are told to send barriers: what an enumerator had
assigned before its snapshot is on the connections ahead of that, so each split is in one snapshot and not in
two. Every task that had not finished acknowledges. The metadata is written last, and when it is where it
belongs everybody is told, and what is older is superfluous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zmflow.coordination.checkpoints.checkpoint_files import CheckpointFiles
from zmflow.coordination.checkpoints.completed import CompletedCheckpoint, CompletedCheckpoints
from zmflow.coordination.checkpoints.failures import failed_in_a_row, lateness
from zmflow.coordination.checkpoints.history import CheckpointHistory
from zmflow.coordination.checkpoints.orders import CheckpointOrders
from zmflow.coordination.checkpoints.pending import PendingCheckpoint
from zmflow.coordination.checkpoints.restore_assignment import Restores
from zmflow.coordination.checkpoints.schedule import CheckpointSchedule
from zmflow.coordination.checkpoints.settings import CheckpointSettings
from zmflow.coordination.effects import StoreCheckpoint
from zmflow.coordination.execution_graph import Execution
from zmflow.coordination.job_layout import JobLayout
from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.scheduler import Scheduler
from zmflow.coordination.slots import Subtask
from zmflow.coordination.turn import Turn
from zmflow.ids import JobId
from zmflow.protocol.checkpoint_statistics import CheckpointRecord, CheckpointSummary
from zmflow.protocol.checkpoints import (
    AwaitsCheckpoint,
    CheckpointAcknowledged,
    CheckpointDeclined,
    CheckpointKind,
    CoordinatorSnapshot,
    SubtaskRestore,
)
from zmflow.protocol.messages import JobState, TaskFailure

__all__ = ["CheckpointAnswer", "CheckpointCoordinator"]


@dataclass(frozen=True, slots=True)
class CheckpointAnswer:
    """What became of a checkpoint that somebody asked for; ``failure`` is empty when it is complete."""

    request: object
    checkpoint_id: int
    location: str
    failure: str


class CheckpointCoordinator:
    """The checkpoints of one job.

    Args:
        scheduler: whose layout and slots are asked anew each time: they change when the job scales.
        chance: numbers from 0 to 1, for the instant of the first checkpoint.
    """

    def __init__(
        self,
        job_id: JobId,
        settings: CheckpointSettings,
        scheduler: Scheduler,
        resources: ResourceManager,
        chance: Callable[[], float],
    ) -> None:
        self._job_id = job_id
        self._settings = settings
        self._scheduler = scheduler
        self._orders = CheckpointOrders(job_id, scheduler, resources)
        self._pending: dict[int, PendingCheckpoint] = {}
        self._completed = CompletedCheckpoints(settings.retained)
        self._history = CheckpointHistory()
        self._files = CheckpointFiles(job_id, self._history)
        self._restores = Restores()
        self._newest_id = 0
        self._failures_in_a_row = 0
        self._failure: TaskFailure | None = None
        self._answers: list[CheckpointAnswer] = []
        self._schedule = CheckpointSchedule(settings, chance)
        self._stopped = False  # a savepoint that stops the job is complete: its tasks are ending
        self._news = False
        self._awaiting: dict[str, int] = {}  # attempts that need one with a greater number than this

    @property
    def newest_id(self) -> int:
        """The number of the newest one, whatever became of it; 0: there was none."""
        return self._newest_id

    @property
    def completed_id(self) -> int:
        """The number of the one that a restart begins from; 0: there is none."""
        latest = self._completed.latest
        return 0 if latest is None else latest.checkpoint_id

    @property
    def stopping(self) -> bool:
        """Whether the job ends with a savepoint that is under way, or complete."""
        return self._stopped or any(pending.stops for pending in self._pending.values())

    # -- what people see --------------------------------------------------------------------------

    def summary(self) -> CheckpointSummary | None:
        """All checkpoints in one line; None for a job that takes none."""
        if not self._settings.enabled and not self._newest_id:
            return None
        return self._history.summary(self._settings.interval_ms, len(self._pending), self._restores.newest_id)

    def records(self, now_ms: int, detailed_id: int) -> list[CheckpointRecord]:
        """The newest checkpoints, one of them task by task."""
        return self._history.records(self._pending.values(), now_ms, detailed_id)

    def note(self) -> str:
        """What a restart means for the sources of this job."""
        latest = self._completed.latest
        if latest is not None:
            return f"A restart goes on from checkpoint {latest.checkpoint_id}."
        if self._settings.enabled:
            return "After a restart sources read from their beginning: no checkpoint is complete yet."
        return "After a restart sources read from their beginning: the job takes no checkpoints."

    # -- triggers ---------------------------------------------------------------------------------

    def started(self, turn: Turn) -> None:
        """All tasks are deployed."""
        self._schedule.start(turn.now_ms)
        self._look_who_waits()

    def trigger(
        self, turn: Turn, kind: CheckpointKind, location: str = "", request: object | None = None
    ) -> str:
        """Begin a snapshot that somebody asks for, whatever else is under way.

        Args:
            location: where it goes; empty: where checkpoints go.
            request: comes back with ``take_answers``.

        Returns:
            Why it cannot be taken now, without a full stop; empty when it begins.
        """
        if not self._settings.streaming:
            return "a job in BATCH mode takes none"
        if not self._every_task_runs:
            return "not all of its tasks run"
        if self.stopping:
            return "it is being stopped with another one"
        self._begin(turn, kind, location, request)
        return ""

    def take_answers(self) -> list[CheckpointAnswer]:
        """What became of requests since the last call."""
        answers, self._answers = self._answers, []
        return answers

    def take_news(self) -> bool:
        """Whether a checkpoint began or ended since the last call."""
        news, self._news = self._news, False
        return news

    def proceed(self, turn: Turn) -> None:
        """Give up what takes too long, let barriers overtake records where aligning does, and begin what is
        due. Called while the job is RUNNING."""
        for pending in list(self._pending.values()):
            unaligned_ms = pending.unaligned_ms(self._settings.aligned_timeout_ms)
            if unaligned_ms is not None and turn.now_ms >= unaligned_ms:
                pending.unaligned = True
                turn.tell(self._job_id, f"checkpoint {pending.checkpoint_id} goes on unaligned")
                self._orders.unalign(turn, pending.barrier)
            if turn.now_ms >= pending.triggered_ms + self._settings.timeout_ms:
                why = lateness(pending, self._layout, self._settings.timeout_ms)
                self._abort(turn, pending, why, counted=True)
        due_ms = self._next_ms()
        if due_ms is not None and turn.now_ms >= due_ms and self._failure is None:
            self._begin(turn, "checkpoint")

    def deadline_ms(self) -> int | None:
        """When ``proceed`` has something to do although nothing has happened."""
        instants = [self._next_ms()]
        instants += [pending.triggered_ms + self._settings.timeout_ms for pending in self._pending.values()]
        after_ms = self._settings.aligned_timeout_ms
        instants += [pending.unaligned_ms(after_ms) for pending in self._pending.values()]
        return min((instant for instant in instants if instant is not None), default=None)

    def _next_ms(self) -> int | None:
        """When the next checkpoint is to begin; None: not before something happens."""
        if self._periodic_count >= self._settings.concurrent_max or self.stopping:
            return None
        return self._schedule.next_ms if self._every_task_runs else None

    @property
    def _periodic_count(self) -> int:
        return sum(p.kind == "checkpoint" and p.request is None for p in self._pending.values())

    @property
    def _layout(self) -> JobLayout:
        return self._scheduler.layout

    @property
    def _every_task_runs(self) -> bool:
        executions = self._layout.executions
        running = executions.count("RUNNING")
        return running > 0 and running + executions.count("FINISHED") == executions.total

    def _begin(
        self, turn: Turn, kind: CheckpointKind, location: str = "", request: object | None = None
    ) -> None:
        self._newest_id += 1
        number = self._newest_id
        if kind == "checkpoint":
            self._schedule.begun(turn.now_ms)
        coordinators = {source: self._layout.coordinators[source] for source in self._layout.unread_sources()}
        pending = PendingCheckpoint(
            number,
            kind,
            location or self._settings.location(number),
            turn.now_ms,
            turn.wall_ms,
            coordinators,
            request,
        )
        self._pending[number] = pending
        self._news = True
        turn.tell(self._job_id, f"{kind} {number} begins")
        self._orders.snapshot_enumerators(turn, number, coordinators)
        if not coordinators:
            self._begin_tasks(turn, pending)

    def _begin_tasks(self, turn: Turn, pending: PendingCheckpoint) -> None:
        pending.advance("snapshotted")
        pending.begin_tasks(self._layout)
        heads = {head.attempt_id: head.subtask for head in self._layout.heads()}
        # To those that only wait for a checkpoint no barrier comes: their inputs have ended.
        waiting = {attempt: pending.tasks[attempt] for attempt in self._awaiting if attempt in pending.tasks}
        self._orders.trigger(turn, pending.barrier, heads | waiting)
        if not pending.tasks:
            self._abort(turn, pending, "All tasks have finished.")

    # -- what it waits for ------------------------------------------------------------------------

    def coordinator_snapshot(self, turn: Turn, message: CoordinatorSnapshot) -> None:
        """The snapshot of a split enumerator is here, or cannot be taken."""
        pending = self._pending.get(message.checkpoint_id)
        source = message.vertex_id
        if pending is None or pending.coordinators.get(source) != message.coordinator_number:
            turn.tell(self._job_id, f"ignored a snapshot of the enumerator of {source}: not waited for")
            return
        if message.failure:
            name = self._layout.vertex_names([(source, 0)])[0]
            why = f"The split enumerator of {name} could not be snapshotted: {message.failure}"
            self._abort(turn, pending, why, counted=True)
            return
        del pending.coordinators[source]
        pending.coordinator_states[source] = message.state
        if not pending.coordinators:
            self._begin_tasks(turn, pending)

    def acknowledged(self, turn: Turn, message: CheckpointAcknowledged) -> None:
        """A task has written its snapshot."""
        pending = self._pending.get(message.checkpoint_id)
        execution = self._layout.executions.get(message.attempt_id)
        if (
            pending is None
            or execution is None
            or not pending.acknowledge(message, execution.vertex_name, turn.now_ms)
        ):
            self._too_late(turn, message, self._history.location_of(message.checkpoint_id))
            return
        if why := self._files.acknowledged(pending.location, message):
            self._too_late(turn, message, pending.location)
            self._abort(turn, pending, f"Of {execution.vertex_name}, {why}.")
            return
        if pending.tasks:
            return
        mixed = [vertex for vertex in pending.half_unions() if not self._input_ended(vertex)]
        if mixed:
            name = self._layout.vertex_names([(mixed[0], 0)])[0]
            why = f"Some tasks of {name} have finished, and it holds state that every task gets all of."
            self._abort(turn, pending, why)
            return
        pending.acknowledged_by_all(self._job_id, self._layout)
        if pending.location:
            number, location = pending.checkpoint_id, pending.location
            turn.do(StoreCheckpoint(self._job_id, number, location, pending.metadata))
        else:
            self._complete(turn, pending)

    def _input_ended(self, vertex: str) -> bool:
        """Whether all tasks of a vertex have finished or have only to commit: none will ask for its state."""
        executions = self._layout.executions.vertices[vertex]
        return all(e.state == "FINISHED" or e.attempt_id in self._awaiting for e in executions)

    def _too_late(self, turn: Turn, message: CheckpointAcknowledged, location: str) -> None:
        turn.tell(message.attempt_id, f"ignored its part of checkpoint {message.checkpoint_id}")
        self._files.too_late(turn, message, location)

    def declined(self, turn: Turn, message: CheckpointDeclined) -> None:
        """A task cannot take part."""
        pending = self._pending.get(message.checkpoint_id)
        subtask = pending.tasks.get(message.attempt_id) if pending is not None else None
        if pending is None or subtask is None:
            turn.tell(message.attempt_id, f"ignored that it declines checkpoint {message.checkpoint_id}")
            return
        why = f"{self._layout.task_name(subtask)} could not take part: {message.reason}"
        self._abort(turn, pending, why, counted=True)

    def stored(self, turn: Turn, checkpoint_id: int, error: str) -> None:
        """The metadata of a checkpoint was written, or was not."""
        pending = self._pending.get(checkpoint_id)
        if pending is None:
            turn.tell(self._job_id, f"checkpoint {checkpoint_id} was stored too late")
        elif error:
            self._abort(turn, pending, f"Its metadata could not be stored: {error}", counted=True)
        else:
            self._complete(turn, pending)

    # -- tasks end, or wait for their last checkpoint ---------------------------------------------

    def task_finished(self, turn: Turn, execution: Execution) -> None:
        """A task has finished. What waits for its part waits in vain: the next one does without it."""
        self._awaiting.pop(execution.attempt_id, None)
        unread = self._layout.unread_sources()
        for pending in list(self._pending.values()):
            if execution.attempt_id in pending.tasks:
                name = self._layout.task_name(execution.subtask)
                self._abort(turn, pending, f"{name} finished before it took part.")
                if pending.kind == "checkpoint":
                    self._schedule.hurry()
            elif pending.state == "COORDINATORS" and execution.subtask[0] not in unread:
                # Its enumerator has nothing left to say, and may be gone before it answers.
                pending.coordinators.pop(execution.subtask[0], None)
                if not pending.coordinators:
                    self._begin_tasks(turn, pending)

    def awaits(self, turn: Turn, message: AwaitsCheckpoint) -> None:
        """A task has only to commit: a checkpoint begins at once, unless one that is under way will do."""
        if self._layout.executions.get(message.attempt_id) is None or not self._settings.enabled:
            turn.tell(message.attempt_id, "ignored that it awaits a checkpoint: stale, or there are none")
            return
        self._awaiting[message.attempt_id] = message.after_checkpoint
        for pending in self._pending.values():
            if subtask := pending.tasks.get(message.attempt_id):
                # What fed it may run on, waiting as it does, and sends no barriers behind its end.
                self._orders.trigger(turn, pending.barrier, {message.attempt_id: subtask})
        self._look_who_waits()

    def _look_who_waits(self) -> None:
        """Begin a checkpoint at once if a task waits for one and none of those under way will do."""
        executions = self._layout.executions
        for attempt, after in list(self._awaiting.items()):
            execution = executions.get(attempt)
            if execution is None or execution.state != "RUNNING":
                del self._awaiting[attempt]
            elif not any(p.kind != "savepoint" and p.checkpoint_id > after for p in self._pending.values()):
                self._schedule.hurry()

    # -- the end of a checkpoint ------------------------------------------------------------------

    def _complete(self, turn: Turn, pending: PendingCheckpoint) -> None:
        number, metadata = pending.checkpoint_id, pending.metadata
        del self._pending[number]
        pending.advance("stored")
        pending.end(turn.now_ms)
        self._history.add(pending)
        self._news = True
        self._failures_in_a_row = 0
        self._schedule.completed(turn.now_ms)
        turn.tell(self._job_id, f"{pending.kind} {number} is complete")
        if pending.request is not None:
            self._answers.append(CheckpointAnswer(pending.request, number, pending.location, ""))
        if pending.kind != "savepoint":
            # A savepoint is nobody's restart, so nothing is committed for it.
            self._orders.notify(turn, number, completed=True)
            self._awaiting = {task: after for task, after in self._awaiting.items() if after >= number}
        self._look_who_waits()
        if pending.kind == "savepoint":
            return  # as in Flink: somebody may delete it or begin from it, so no restart relies on it
        self._stopped = self._stopped or pending.stops
        for older in list(self._pending.values()):
            if older.subsumable and older.checkpoint_id < number:
                self._abort(turn, older, f"Checkpoint {number} was complete before it.")
        owned = pending.kind == "checkpoint"
        for dropped in self._completed.add(CompletedCheckpoint(metadata, pending.location, owned)):
            self._files.drop(turn, dropped.checkpoint_id, dropped.location)

    def _abort(self, turn: Turn, pending: PendingCheckpoint, why: str, *, counted: bool = False) -> None:
        """Give a checkpoint up. ``counted``: it is a failure; above what is tolerated, the job's."""
        number = pending.checkpoint_id
        del self._pending[number]
        pending.advance("abort")
        pending.end(turn.now_ms, why, counted=counted)
        self._history.add(pending)
        self._news = True
        turn.tell(self._job_id, f"{pending.kind} {number} is given up: {why}")
        if pending.request is not None:
            self._answers.append(CheckpointAnswer(pending.request, number, pending.location, why))
        self._orders.notify(turn, number, completed=False)
        self._files.drop(turn, number, pending.location)
        if not counted:
            return
        turn.log("warning", f"Checkpoint {number} failed: {why}", job=self._job_id)
        if pending.kind == "checkpoint":
            self._failures_in_a_row += 1
            if self._failures_in_a_row > self._settings.failures_tolerated:
                self._failure = failed_in_a_row(number, why, self._failures_in_a_row)
                self._failures_in_a_row = 0

    def take_failure(self) -> TaskFailure | None:
        """Why the job has to restart, when checkpoints failed more often than is tolerated."""
        failure, self._failure = self._failure, None
        return failure

    def abort_all(self, turn: Turn, why: str) -> None:
        """Tasks are to restart, or the job ends: nothing that is under way can be completed."""
        for pending in list(self._pending.values()):
            self._abort(turn, pending, why)
        self._schedule.stop()
        self._failure, self._stopped = None, False

    def ended(self, turn: Turn, state: JobState) -> None:
        """The job is in this terminal state: its checkpoints go, or stay as the settings say."""
        self.abort_all(turn, f"The job is {state}.")
        kept = self._completed.forget()
        for location in self._history.take_given_up():
            self._files.discard(turn, location)
        directory = self._settings.directory if self._newest_id else ""
        if self._settings.keeps(state):
            self._files.keep(turn, directory)
        else:
            self._files.end(turn, kept, directory)
        self._history.forget_details()

    # -- restores and checks ----------------------------------------------------------------------

    def restores(self, layout: JobLayout, subtasks: Sequence[Subtask]) -> dict[Subtask, SubtaskRestore]:
        """What these subtasks, which are being deployed, are restored from."""
        return self._restores.assign(layout, subtasks, self._completed.latest)

    def begin_from(self, checkpoint: CompletedCheckpoint) -> None:
        """The job, which has no checkpoint yet, begins from this one; its own have greater numbers."""
        self._completed.add(checkpoint)
        self._files.claim(checkpoint)
        self._newest_id = checkpoint.checkpoint_id

    def reject_restored(self, turn: Turn, why: str) -> bool:
        """Tasks cannot be restored from the newest checkpoint: begin from the one before it. False when none
        is kept; True also where another task has said so before."""
        latest = self._completed.latest
        if latest is None or latest.checkpoint_id != self._restores.newest_id:
            return latest is not None
        before = self._completed.reject_latest()
        if before is None:
            return False
        sentence = (
            f"Checkpoint {latest.checkpoint_id} cannot be restored; the job goes back to "
            f"{before.checkpoint_id}, and what was committed since may come again. {why}"
        )
        turn.log("warning", sentence, job=self._job_id)
        turn.tell(self._job_id, f"checkpoint {latest.checkpoint_id} is rejected")
        return True

    def check(self) -> None:
        """Whoever is waited for runs, and no more checkpoints are under way than may be."""
        self._files.check()
        assert self._periodic_count <= self._settings.concurrent_max, list(self._pending)
        assert list(self._pending) == sorted(self._pending), "checkpoints begin in the order of their numbers"
        latest = self._completed.latest
        executions = self._layout.executions
        for number, pending in self._pending.items():
            assert latest is None or number > latest.checkpoint_id or not pending.subsumable, number
            assert pending.state not in ("COMPLETED", "ABORTED"), f"{number} is {pending.state}"
            assert (pending.state == "COORDINATORS") >= bool(pending.coordinators), number
            assert (pending.state == "TASKS") == bool(pending.tasks), f"{number} is {pending.state}"
            for attempt in pending.tasks:
                execution = executions.get(attempt)
                assert execution is not None, f"{number} waits for {attempt}, which is over"
                assert execution.state == "RUNNING", f"{number} waits for {attempt}: {execution.state}"
