"""One job, from its submission to its end: slots, deployment, failure, restarts, cancellation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from zmflow.config import Settings
from zmflow.config.options import JOB_PRIORITY, SCHEDULER
from zmflow.coordination import job_failures
from zmflow.coordination.adaptive_scheduler import AdaptiveScheduler
from zmflow.coordination.checkpoints.coordinator import CheckpointCoordinator
from zmflow.coordination.checkpoints.job_recovery import JobRecovery
from zmflow.coordination.checkpoints.savepoints import Savepoints
from zmflow.coordination.checkpoints.settings import checkpoint_settings
from zmflow.coordination.effects import CheckpointLoaded
from zmflow.coordination.execution_graph import ExecutionGraph
from zmflow.coordination.job_restarts import JobRestarts
from zmflow.coordination.job_view import JobTimes, JobView, drain_note, job_status, job_summary
from zmflow.coordination.job_watchers import JobWatchers
from zmflow.coordination.registered_taskmanager import RegisteredTaskManager, Slot
from zmflow.coordination.rescaling import RescaleRequest, Rescaling
from zmflow.coordination.resource_manager import ResourceManager, Unfittable
from zmflow.coordination.scheduler import Scheduler
from zmflow.coordination.slots import PhysicalSlot, Subtask
from zmflow.coordination.states import JOB, TASK_EVENT_OF_REPORT, JobEvent
from zmflow.coordination.task_cancellation import TaskCancellation
from zmflow.coordination.turn import Turn
from zmflow.graph.job_graph import JobGraph
from zmflow.ids import JobId
from zmflow.protocol.messages import (
    CollectAck,
    CollectedRows,
    JobState,
    JobStatus,
    JobSummary,
    OfferSlot,
    OperatorEvent,
    TaskFailure,
    TaskMetrics,
    TaskStateChanged,
)
from zmflow.protocol.parts import RETRACTABLE_ROWS

__all__ = ["JobMaster"]


class JobMaster:
    """The brain of one job. Its methods are the events; effects go to the turn they are given.

    Args:
        settings: the cluster's settings under those of the job.
        chance: numbers from 0 to 1, for the jitter of restarts.
    """

    def __init__(
        self,
        job_id: JobId,
        graph: JobGraph,
        settings: Settings,
        resources: ResourceManager,
        chance: Callable[[], float],
        turn: Turn,
    ) -> None:
        self.job_id = job_id
        self.state: JobState = "CREATED"
        self.failure: TaskFailure | None = None
        self.taskmanagers: dict[str, None] = {}  # every one that has or had a slot of this job
        self._graph = graph
        self._resources = resources
        adaptive = settings[SCHEDULER] == "adaptive"
        kind = AdaptiveScheduler if adaptive else Scheduler
        self.scheduler: Scheduler = kind(job_id, graph, settings, resources)
        snapshots = checkpoint_settings(job_id, graph, settings)
        self.checkpoints = CheckpointCoordinator(job_id, snapshots, self.scheduler, resources, chance)
        self.scheduler.restores = self.checkpoints.restores
        self.savepoints = Savepoints(job_id, settings, self.checkpoints, chance)
        self.rescaling = Rescaling(settings, self.scheduler, self.checkpoints, resources)
        self._restarts = JobRestarts(settings, chance, checkpoints=snapshots.enabled)
        self._watchers = JobWatchers(self.status)
        self._cancellation = TaskCancellation(settings, self.scheduler, resources)
        self._times = JobTimes(turn.wall_ms)
        self._given: dict[Subtask, None] = {}  # subtasks whose rows left for the client, for good
        turn.tell(job_id, f"job {graph.name!r} was submitted; it needs {self.scheduler.need_text()} slots")
        self._recovery = JobRecovery(job_id, graph, settings)
        self._loads = bool(self._recovery.location)
        resources.admit(job_id, settings[JOB_PRIORITY], self.scheduler.mode)
        if self._loads:
            self._recovery.begin(turn)
        else:
            self.scheduler.schedule(turn, self._executions.executions())

    def loaded(self, turn: Turn, event: CheckpointLoaded) -> None:
        """What the job is to begin from was read, or cannot be."""
        if self.ended or not self._loads:
            return
        found = self._recovery.loaded(turn, event)
        if isinstance(found, TaskFailure):
            self._fail(turn, found)
            return
        self._loads = False
        self._graph = found.graph
        self.scheduler.adopt(found.graph)
        self.checkpoints.begin_from(found.checkpoint)
        self.scheduler.schedule(turn, self._executions.executions())

    # -- what people see --------------------------------------------------------------------------

    @property
    def _executions(self) -> ExecutionGraph:
        return self.scheduler.layout.executions

    @property
    def ended(self) -> bool:
        """Whether the job has reached a terminal state."""
        return self.state in JOB.terminal

    @property
    def waits_for_slots(self) -> bool:
        """Whether tasks of it wait for slots."""
        return not self._loads and self.state in ("CREATED", "RESTARTING") and self.scheduler.waits_for_slots

    @property
    def tasks_total(self) -> int:
        """Number of its subtasks."""
        return self._executions.total

    def summary(self) -> JobSummary:
        """The job in one line."""
        return job_summary(self._view())

    def status(self, request_id: int, now_ms: int) -> JobStatus:
        """The job in full."""
        return job_status(self._view(), self._resources.epoch, request_id, now_ms)

    def _view(self) -> JobView:
        return JobView(
            self.job_id,
            self.state,
            self.failure,
            self._times,
            self.scheduler,
            self._restarts,
            self._resources,
            self.checkpoints,
            self._recovery.location if self._loads else "",
        )

    # -- slots ------------------------------------------------------------------------------------

    def offer(self, turn: Turn, tm: RegisteredTaskManager, slot: Slot, message: OfferSlot) -> str:
        """A slot is offered. Empty when the job takes it, else why it does not."""
        if self.ended or self.state in ("FAILING", "CANCELLING"):
            return f"the job is {self.state}"
        refusal = self.scheduler.offer(turn, tm, slot, message)
        if not refusal:
            self.taskmanagers[tm.taskmanager_id] = None
            self._watchers.progress()
        return refusal

    def declare(self, turn: Turn) -> None:
        """What the job holds has changed: say what it wants once more."""
        if not self.ended:
            self.scheduler.declare(turn)

    def slot_lost(
        self, turn: Turn, allocation: str, tm: RegisteredTaskManager, index: int, reason: str
    ) -> None:
        """A worker is gone, or could not start; what ran there has failed."""
        failure = job_failures.worker_lost(tm, index, reason)
        slot = self.scheduler.pool.get(allocation)
        if slot is not None:
            self._lose(turn, [slot], failure)
        elif self.state in ("CREATED", "RESTARTING") and self._restarts.pending is None:
            # It was on its way: the tasks that wait for it cannot start, which is a failure of theirs.
            waiting = [e.subtask for e in self._executions.executions() if e.state == "SCHEDULED"]
            self._failed(turn, waiting, failure, tm.taskmanager_id, index)

    def taskmanager_lost(self, turn: Turn, tm: RegisteredTaskManager, sentence: str) -> None:
        """A TaskManager is gone with all its slots of this job."""
        self.scheduler.draining.pop(tm.taskmanager_id, None)
        hint = "Look at that host and its TaskManager's log."
        failure = TaskFailure("taskmanager", sentence, host=tm.host, hint=hint)
        self._lose(turn, self.scheduler.pool.on(tm.taskmanager_id), failure)

    def _lose(self, turn: Turn, slots: Sequence[PhysicalSlot], failure: TaskFailure) -> None:
        again: list[Subtask] = []
        for slot in slots:
            for subtask in self.scheduler.lose(slot, turn.now_ms):
                again.append(subtask)
                self._executions.advance(self._executions.at(subtask), "fail", turn.wall_ms)
        turn.tell(self.job_id, failure.summary)
        self._watchers.progress()
        layout = self.scheduler.layout
        failed = [subtask for subtask in again if self._executions.at(subtask).state != "CANCELED"]
        if self.state in ("FAILING", "CANCELLING"):
            self._settle(turn)
        elif failed or layout.unserved_sources():
            where = slots[0] if slots else None
            index = where.slot_index if where is not None and failure.kind == "worker" else -1
            self._failed(turn, failed, failure, where.taskmanager_id if where else "", index)
        elif not self.ended:
            self.scheduler.declare(turn)

    def unfittable(self, turn: Turn, entry: Unfittable) -> None:
        """No TaskManager there is could ever hold a slot the job needs: it fails at once."""
        self._fail(turn, job_failures.unfittable_slots(entry))

    def drain(self, turn: Turn, taskmanager_id: str, *, drain: bool) -> None:
        """A TaskManager is being emptied, or is not any more."""
        if not self.ended:
            self.scheduler.drain(turn, taskmanager_id, drain=drain)

    def drain_note(self, taskmanager_id: str) -> str:
        """Why tasks are still on a TaskManager that is being emptied; empty when none are."""
        return drain_note(self._view(), taskmanager_id, given=bool(self._given))

    # -- tasks ------------------------------------------------------------------------------------

    def task_changed(self, turn: Turn, message: TaskStateChanged) -> None:
        """A worker reports a task's new state."""
        execution = self._executions.get(message.attempt_id)
        slot = self.scheduler.pool.get(message.allocation_id)
        event = TASK_EVENT_OF_REPORT.get(message.state)
        if execution is None or slot is None or event is None or self.ended:
            turn.tell(self.job_id, f"ignored {message.state} of {message.attempt_id}: stale or not known")
            return
        before = execution.state
        outcome = self._executions.advance(execution, event, turn.wall_ms)
        turn.tell(message.attempt_id, f"{before} → {execution.state} ({event}, {outcome})")
        if outcome == "rejected":
            turn.log(
                "warning",
                f"A report {message.state} of a task in {before} makes no sense; ignored.",
                attempt=message.attempt_id,
            )
        if outcome != "changed":
            return
        if message.counters is not None:
            execution.counters = message.counters
        if message.accumulators:
            execution.accumulators = message.accumulators
        self._watchers.progress()
        if execution.state == "FINISHED":
            self.scheduler.finished(turn, execution.subtask)
            self.checkpoints.task_finished(turn, execution)
        elif execution.state == "FAILED":
            cause = job_failures.task_cause(execution, slot, message.failure)
            self._failed(turn, [execution.subtask], cause, slot.taskmanager_id, slot.slot_index)
        elif execution.state == "CANCELED" and before != "CANCELING":
            cause = job_failures.stopped_unasked(execution, slot)
            self._failed(turn, [execution.subtask], cause, slot.taskmanager_id, slot.slot_index)
        self._settle(turn)

    def metrics(self, message: TaskMetrics) -> None:
        """Counters and accumulators of running tasks."""
        self._executions.take_accumulators(message.accumulators)
        for counters in message.tasks:
            execution = self._executions.get(counters.attempt_id)
            if execution is not None and execution.live:
                execution.counters = counters
                self._watchers.progress()

    # -- failure and restart ----------------------------------------------------------------------

    def _failed(
        self, turn: Turn, failed: Sequence[Subtask], failure: TaskFailure, taskmanager_id: str, index: int
    ) -> None:
        """Tasks have failed: restart what that concerns, or end the job."""
        if JOB.after(self.state, "fail") is None:
            return
        everything = self.scheduler.restarts_everything or self._restarts.full
        if failure.kind == "restore":
            if not self.checkpoints.reject_restored(turn, failure.summary):
                why = "It does not restart: no older checkpoint is kept."
                self._fail(turn, self._restarts.refused(failure, why))
                return
            everything = True  # nobody may go on from what the others cannot
        layout = self.scheduler.layout
        subtasks = layout.every_subtask() if everything else layout.restarted_by(failed)
        given = next((subtask for subtask in subtasks if subtask in self._given), None)
        if given is not None:
            refusal = f"Rows of {layout.task_name(given)} were collected already and cannot be taken back."
            self._fail(turn, self._restarts.refused(failure, refusal))
            return
        final = self._restarts.failed(turn, layout, subtasks, failure, taskmanager_id, index)
        if final is not None:
            self._fail(turn, final)
            return
        turn.log("warning", f"Job {self._graph.name!r} restarts {len(subtasks)} tasks: {failure.summary}")
        self._stop(turn, subtasks)

    def _stop(self, turn: Turn, subtasks: Iterable[Subtask]) -> None:
        """Cancel what still runs of the tasks that are to be restarted, and ask for slots they will need."""
        self.checkpoints.abort_all(turn, "Tasks restart.")
        self._cancellation.cancel(turn, [self._executions.at(subtask) for subtask in subtasks])
        self._advance(turn, "restart")
        self.scheduler.declare(turn)

    def proceed(self, turn: Turn) -> None:
        """Take every step that nothing stands in the way of. Called at the end of what may clear the way."""
        if self._loads:
            return
        if self.state == "RUNNING":
            self._rearrange(turn)
        if self.state == "RUNNING":
            self._snapshot(turn)
        pending = self._restarts.pending
        if pending is not None and self.state == "RESTARTING":
            if turn.now_ms < pending.due_ms or any(self._executions.at(s).live for s in pending.subtasks):
                return
            subtasks = self._restarts.begin(turn, self.job_id)
            self._cancellation.forget()
            if pending.planned:
                self.scheduler.leave_draining(turn, subtasks)
            if not self.rescaling.apply(turn):
                self.scheduler.schedule(turn, self.scheduler.layout.renew(subtasks))
        if self.state in ("CREATED", "RESTARTING") and self.scheduler.deploy(turn):
            if self._times.deployed_ms is None:
                self._times.deployed_ms = turn.now_ms
            self._advance(turn, "start")
            self.checkpoints.started(turn)

    def _snapshot(self, turn: Turn) -> None:
        """Take the checkpoint that is due; restart everything when too many have failed."""
        self.checkpoints.proceed(turn)
        failure = self.checkpoints.take_failure()
        if failure is not None:
            self._failed(turn, self.scheduler.layout.every_subtask(), failure, "", -1)
        if self.checkpoints.take_news():
            self._watchers.progress()

    def _rearrange(self, turn: Turn) -> None:
        """Move tasks off a draining TaskManager, or scale, by a restart that is nobody's failure."""
        why = self.rescaling.wanted
        subtasks = self.scheduler.layout.every_subtask() if why else self.scheduler.next_move(turn.now_ms)
        why = why or "they leave a draining TaskManager"
        if not subtasks and self.scheduler.wants_to_rescale(turn.now_ms):
            subtasks = self.scheduler.layout.every_subtask()
            why = "there are slots for a higher parallelism"
        if subtasks:
            self._restarts.planned(turn, subtasks, why)
            turn.log("info", f"Job {self._graph.name!r} restarts {len(subtasks)} tasks: {why}.")
            self._stop(turn, subtasks)

    # -- the end ----------------------------------------------------------------------------------

    def cancel(self, turn: Turn, cause: str) -> None:
        """Stop the job. One that ends already is left to end as it does."""
        if self._advance(turn, "cancel"):
            turn.log("info", f"Job {self._graph.name!r} is being cancelled: {cause}.", job=self.job_id)
            self._wind_up(turn)

    def _fail(self, turn: Turn, failure: TaskFailure) -> None:
        if JOB.after(self.state, "fail") is None:
            return
        self.failure = failure
        self._advance(turn, "fail")
        turn.log("error", f"Job {self._graph.name!r} fails: {failure.summary}", job=self.job_id)
        self._wind_up(turn)

    def _wind_up(self, turn: Turn) -> None:
        self._restarts.pending = None
        self.checkpoints.abort_all(turn, "The job ends.")
        self.scheduler.withdraw(turn)
        self._cancellation.cancel(turn, self._executions.executions())
        self._settle(turn)

    def _settle(self, turn: Turn) -> None:
        if self.state == "RUNNING" and self._executions.count("FINISHED") == self._executions.total:
            self._end(turn, "finish")
        elif self.state in ("FAILING", "CANCELLING") and self._executions.live == 0:
            self._end(turn, "settle")

    def _end(self, turn: Turn, event: JobEvent) -> None:
        self._times.ended_ms, self._times.finished_wall_ms = turn.now_ms, turn.wall_ms
        self._cancellation.forget()
        self.checkpoints.ended(turn, JOB.transitions[self.state, event])
        self.scheduler.end(turn)
        self._graph = self.scheduler.graph  # without its code
        self._advance(turn, event)
        if self.state != "FINISHED":
            self._watchers.drop_rows()
        turn.log("info", f"Job {self._graph.name!r} is {self.state}.", job=self.job_id)

    def _advance(self, turn: Turn, event: JobEvent) -> bool:
        after = JOB.after(self.state, event)
        if after is None:
            assert (self.state, event) in JOB.ignored, f"{event} in {self.state}"
            turn.tell(self.job_id, f"{event} ignored in {self.state}")
            return False
        turn.tell(self.job_id, f"{self.state} → {after} ({event})")
        self.state = after
        self._watchers.push_now(turn)
        return True

    # -- time -------------------------------------------------------------------------------------

    def deadline_ms(self) -> int | None:
        """When ``deadline_passed`` has something to do."""
        instants = [self._cancellation.deadline_ms, self._watchers.deadline_ms()]
        if self.state in ("CREATED", "RUNNING", "RESTARTING"):
            pending = self._restarts.pending
            if pending is None:
                instants.append(self.scheduler.deadline_ms(running=self.state == "RUNNING"))
                if self.state == "RUNNING":
                    instants.append(self.checkpoints.deadline_ms())
            elif not any(self._executions.at(subtask).live for subtask in pending.subtasks):
                instants.append(pending.due_ms)
        return min((instant for instant in instants if instant is not None), default=None)

    def deadline_passed(self, turn: Turn) -> None:
        """Do what is due now, if anything."""
        if self._cancellation.is_overdue(turn.now_ms):
            self._give_up_cancelling(turn)
        if self.state in ("CREATED", "RUNNING", "RESTARTING") and self._restarts.pending is None:
            if self.scheduler.slots_are_overdue(turn.now_ms):
                waiting = [e.subtask for e in self._executions.executions() if e.state == "SCHEDULED"]
                need, supply = self.scheduler.need_text(), self._resources.supply()
                self._failed(
                    turn, waiting, job_failures.no_slots(need, self.scheduler.wait_timeout_ms, supply), "", -1
                )
            self.scheduler.return_idle(turn)
        self.proceed(turn)
        self._watchers.push_if_due(turn)

    def _give_up_cancelling(self, turn: Turn) -> None:
        slots = self._cancellation.give_up(turn)
        self._lose(turn, slots, TaskFailure("worker", "A worker whose tasks did not stop was given up."))
        self._settle(turn)

    # -- clients and events between workers -------------------------------------------------------

    def supply_changed(self) -> None:
        """The cluster's slots changed; a waiting job says so to its watchers."""
        if self.waits_for_slots:
            self._watchers.progress()

    def answer(self, turn: Turn) -> None:
        """Answer the clients who wait for savepoints or another parallelism. Called after every event."""
        for answer in self.checkpoints.take_answers():
            if isinstance(answer.request, RescaleRequest):
                self.rescaling.checkpointed(turn, answer)
                self.proceed(turn)
            else:
                self.savepoints.answer(turn, answer)
        self.savepoints.look(turn, self.state)
        self.rescaling.look(turn, self.state)

    def watch(self, turn: Turn, peer: bytes, request_id: int, *, collect: bool) -> bool:
        """See ``JobWatchers.watch``."""
        return self._watchers.watch(turn, peer, request_id, collect=collect)

    def client_gone(self, turn: Turn, peer: bytes) -> None:
        """A client's connection is closed. A job whose rows it took is cancelled."""
        if self._watchers.gone(peer) and not self.ended:
            self.cancel(turn, "the client that collects its rows is gone")

    def rows(self, turn: Turn, message: CollectedRows) -> None:
        """Rows on their way to the client. Those of an older attempt are dropped."""
        subtasks = self._executions.vertices.get(message.vertex_id, [])
        index = message.subtask_index
        if not 0 <= index < len(subtasks) or subtasks[index].attempt_number != message.attempt_number:
            turn.tell(self.job_id, "collected rows dropped: of an attempt that is over")
        elif self._watchers.rows(turn, msgspec.structs.replace(message, epoch=turn.epoch)):
            if not message.transactional and not message.collect_id.startswith(RETRACTABLE_ROWS):
                self._given[message.vertex_id, index] = None
                self.scheduler.pinned = True
        else:
            turn.tell(self.job_id, "collected rows dropped: nobody takes them")

    def to_worker(self, turn: Turn, message: OperatorEvent | CollectAck) -> None:
        """Route to the worker that holds the subtask; the split enumerator lives with subtask 0."""
        index = message.to_subtask if isinstance(message, OperatorEvent) else message.subtask_index
        logical = self.scheduler.layout.sharing.logical_slot((message.vertex_id, max(0, index)))
        if logical is None or self.ended:
            turn.tell(self.job_id, f"dropped {type(message).__name__} to {message.vertex_id}/{index}: gone")
            return
        routed = msgspec.structs.replace(message, epoch=turn.epoch)
        self._resources.send(turn, logical.physical.taskmanager_id, routed)

    def check(self) -> None:
        """Job, tasks and slots agree."""
        self.checkpoints.check()
        if not self.ended:
            self.scheduler.check()
        else:
            assert self._executions.live == 0, f"{self.state} with live tasks"
            for slot in self.scheduler.pool:
                held = self._resources.holder(slot.allocation_id)
                assert held is None or held[1].state == "releasing", f"ended, keeps {slot.allocation_id}"
        assert self.state != "FINISHED" or self._executions.count("FINISHED") == self._executions.total
        assert self.state not in ("FAILING", "FAILED") or self.failure is not None, "failed without a cause"
        if self.state == "RUNNING":
            assert self._restarts.pending is None, "RUNNING while it waits to restart"
            assert not self._executions.count("SCHEDULED"), "RUNNING while tasks wait"
