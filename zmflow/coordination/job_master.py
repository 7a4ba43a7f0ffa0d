"""One job, from its submission to its end: slots, deployment, failure, cancellation."""

from __future__ import annotations

import msgspec

from zmflow.config import Settings
from zmflow.config.options import LOAD_BALANCE_MODE, SLOT_REQUEST_TIMEOUT, TASK_CANCELLATION_TIMEOUT
from zmflow.coordination.deployment import Wiring
from zmflow.coordination.execution_graph import Execution, ExecutionGraph
from zmflow.coordination.job_watchers import JobWatchers
from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.slot_pool import JobSlot, SlotPool
from zmflow.coordination.slot_sharing import share_slots, slots_required
from zmflow.coordination.states import (
    JOB_IGNORED,
    JOB_TERMINAL,
    JOB_TRANSITIONS,
    TASK_EVENT_OF_REPORT,
    JobEvent,
)
from zmflow.coordination.turn import Turn
from zmflow.graph.job_graph import JobGraph
from zmflow.ids import JobId
from zmflow.protocol.messages import (
    CancelTasks,
    CollectAck,
    CollectedRows,
    DeployTasks,
    JobState,
    JobStatus,
    JobSummary,
    OperatorEvent,
    SlotReady,
    TaskFailure,
    TaskMetrics,
    TaskStateChanged,
)

__all__ = ["JobMaster"]

CANCELLATION_MARGIN_MS = 5_000
"""How long after the grace period a TaskManager may take to report that its worker is gone: a kill and a
message, some milliseconds; seconds mean that the report was lost, and the job ends without it."""


class JobMaster:
    """The brain of one job. Its methods are the events; effects go to the turn they are given.

    Args:
        settings: the cluster's settings under those of the job.
    """

    def __init__(
        self, job_id: JobId, graph: JobGraph, settings: Settings, resources: ResourceManager, turn: Turn
    ) -> None:
        self.job_id = job_id
        self.state: JobState = "CREATED"
        self.failure: TaskFailure | None = None
        self.slots_required = slots_required(graph)
        self.placement_mode = settings[LOAD_BALANCE_MODE]
        self.taskmanagers: dict[str, None] = {}  # every one that has or had a slot of this job
        self._graph = graph
        self._resources = resources
        self._executions = ExecutionGraph(job_id, graph)
        self._pool = SlotPool()
        self._watchers = JobWatchers(self.status)
        self._grace_ms = max(0, settings[TASK_CANCELLATION_TIMEOUT])
        self._slot_timeout_ms = settings[SLOT_REQUEST_TIMEOUT]
        self._submitted_wall_ms = turn.wall_ms
        self._finished_wall_ms = 0
        self._slots_deadline_ms: int | None = (
            turn.now_ms + self._slot_timeout_ms if self._slot_timeout_ms >= 0 else None
        )
        self._cancel_deadline_ms: int | None = None
        self._deployed_ms: int | None = None
        self._ended_ms: int | None = None
        turn.tell(job_id, f"job {graph.name!r} was submitted; it needs {self.slots_required} slots")

    # -- what people see --------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the job has reached a terminal state."""
        return self.state in JOB_TERMINAL

    @property
    def waits_for_slots(self) -> bool:
        """Whether it has not been granted its slots yet."""
        return self.state == "CREATED" and not len(self._pool)

    @property
    def tasks_total(self) -> int:
        """Number of its subtasks."""
        return self._executions.total

    def summary(self) -> JobSummary:
        """The job in one line."""
        return JobSummary(
            self.job_id,
            self._graph.name,
            self.state,
            self._submitted_wall_ms,
            self._finished_wall_ms,
            self._executions.total,
            self._executions.count("RUNNING"),
            self._executions.count("FINISHED"),
        )

    def status(self, request_id: int, now_ms: int) -> JobStatus:
        """The job in full."""
        end_ms = self._ended_ms if self._ended_ms is not None else now_ms
        return JobStatus(
            self._resources.epoch,
            request_id,
            self.summary(),
            self._reason(),
            self._executions.statuses(self._graph, self._pool),
            self.failure,
            0 if self._deployed_ms is None else end_ms - self._deployed_ms,
        )

    def _reason(self) -> str:
        if self.waits_for_slots:
            return f"waiting for slots: needs {self.slots_required}, {self._resources.supply()}"
        if self.state == "CREATED":
            return f"starting workers: {self._pool.ready} of {len(self._pool)} slots are ready"
        if self.state == "RUNNING":
            running, finished = self._executions.count("RUNNING"), self._executions.count("FINISHED")
            return f"{running} of {self._executions.total} tasks run, {finished} have finished"
        if self.failure is not None:
            return self.failure.summary
        if self.state == "CANCELLING":
            return f"cancelling: {self._executions.live} tasks have not stopped yet"
        return "the job was cancelled" if self.state == "CANCELED" else "all tasks have finished"

    # -- slots ------------------------------------------------------------------------------------

    def try_start(self, turn: Turn) -> bool:
        """Take all slots the job needs, if they are free."""
        if not self.waits_for_slots:
            return False
        grants = self._resources.allocate(turn, self.job_id, self.slots_required, self.placement_mode)
        if not grants:
            return False
        for grant, shared in zip(grants, share_slots(self._graph), strict=True):
            self._pool.add(grant, shared)
            self.taskmanagers[grant.taskmanager_id] = None
        for execution in self._executions.executions():
            self._executions.advance(execution, "schedule")
        self._slots_deadline_ms = None
        self._watchers.progress()
        turn.tell(self.job_id, f"{len(grants)} slots are allocated")
        return True

    def slot_ready(self, turn: Turn, message: SlotReady) -> None:
        """The worker of a slot listens; when all do, the tasks are deployed."""
        slot = self._pool.get(message.allocation_id)
        if slot is None or slot.lost or not self._pool.make_ready(slot, message.endpoint):
            turn.tell(self.job_id, f"ignored SlotReady of {message.allocation_id}: not waited for")
            return
        self._watchers.progress()
        if self.state == "CREATED" and self._pool.all_ready:
            self._deploy(turn)

    def _deploy(self, turn: Turn) -> None:
        wiring = Wiring(self.job_id, self._graph, self._executions, self._pool)
        for slot in self._pool:
            executions = self._in_slot(slot)
            tasks = [wiring.deployment(execution) for execution in executions]
            message = DeployTasks(turn.epoch, slot.grant.allocation_id, tasks)
            self._resources.send(turn, slot.grant.taskmanager_id, message)
            for execution in executions:
                self._executions.advance(execution, "deploy")
        self._deployed_ms = turn.now_ms
        self._advance(turn, "start")

    def slot_lost(self, turn: Turn, allocation: str, host: str, taskmanager_id: str, reason: str) -> None:
        """A worker is gone; the tasks in it failed, and the job with them."""
        slot = self._pool.get(allocation)
        if slot is None or slot.lost:
            return
        sentence = f"The worker of slot {slot.grant.slot_index} of TaskManager {taskmanager_id} on {host} "
        self._lose(turn, [slot], TaskFailure("worker", f"{sentence}was lost: {reason}", host=host))

    def taskmanager_lost(self, turn: Turn, taskmanager_id: str, host: str, sentence: str) -> None:
        """A TaskManager is gone with all its slots of this job."""
        slots = [s for s in self._pool if s.grant.taskmanager_id == taskmanager_id and not s.lost]
        if slots:
            failure = TaskFailure(
                "taskmanager", sentence, host=host, hint="Look at that host and its TaskManager's log."
            )
            self._lose(turn, slots, failure)

    def _lose(self, turn: Turn, slots: list[JobSlot], failure: TaskFailure) -> None:
        for slot in slots:
            slot.lost = True
            for execution in self._in_slot(slot):
                self._executions.advance(execution, "fail")
        turn.tell(self.job_id, failure.summary)
        self._watchers.progress()
        self._fail(turn, failure)
        self._settle(turn)

    def _in_slot(self, slot: JobSlot) -> list[Execution]:
        return [self._executions.at(subtask) for subtask in slot.shared.subtasks]

    # -- tasks ------------------------------------------------------------------------------------

    def task_changed(self, turn: Turn, message: TaskStateChanged) -> None:
        """A worker reports a task's new state."""
        execution = self._executions.get(message.attempt_id)
        slot = self._pool.get(message.allocation_id)
        event = TASK_EVENT_OF_REPORT.get(message.state)
        if execution is None or slot is None or slot.lost or event is None or self.ended:
            turn.tell(self.job_id, f"ignored {message.state} of {message.attempt_id}: stale or not known")
            return
        before = execution.state
        outcome = self._executions.advance(execution, event)
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
        self._watchers.progress()
        if execution.state == "FAILED":
            self._fail(turn, self._cause(execution, slot, message.failure))
        elif execution.state == "CANCELED" and self.state == "RUNNING":
            sentence = f"{execution.vertex_name} ({execution.subtask_index}) stopped without being asked."
            self._fail(turn, TaskFailure("engine", sentence, host=slot.grant.host))
        self._settle(turn)

    @staticmethod
    def _cause(execution: Execution, slot: JobSlot, failure: TaskFailure | None) -> TaskFailure:
        if failure is None:
            failure = TaskFailure("engine", f"{execution.vertex_name} failed without giving a cause.")
        return msgspec.structs.replace(
            failure,
            host=failure.host or slot.grant.host,
            vertex_name=failure.vertex_name or execution.vertex_name,
            subtask_index=execution.subtask_index if failure.subtask_index < 0 else failure.subtask_index,
        )

    def metrics(self, message: TaskMetrics) -> None:
        """Counters of running tasks."""
        for counters in message.tasks:
            execution = self._executions.get(counters.attempt_id)
            if execution is not None and execution.live:
                execution.counters = counters
                self._watchers.progress()

    # -- the end ----------------------------------------------------------------------------------

    def cancel(self, turn: Turn, cause: str) -> None:
        """Stop the job. One that ends already is left to end as it does."""
        if self._advance(turn, "cancel"):
            turn.log("info", f"Job {self._graph.name!r} is being cancelled: {cause}.", job=self.job_id)
            self._cancel_tasks(turn)
            self._settle(turn)

    def _fail(self, turn: Turn, failure: TaskFailure) -> None:
        if (self.state, "fail") in JOB_IGNORED:
            return
        self.failure = failure
        self._advance(turn, "fail")
        turn.log("error", f"Job {self._graph.name!r} fails: {failure.summary}", job=self.job_id)
        self._cancel_tasks(turn)
        self._settle(turn)

    def _cancel_tasks(self, turn: Turn) -> None:
        self._slots_deadline_ms = None
        self._cancel_deadline_ms = turn.now_ms + self._grace_ms + CANCELLATION_MARGIN_MS
        for execution in self._executions.executions():
            self._executions.advance(execution, "cancel")
        for slot in self._pool:
            attempts = [str(e.attempt_id) for e in self._in_slot(slot) if e.state == "CANCELING"]
            if attempts and not slot.lost:
                message = CancelTasks(turn.epoch, slot.grant.allocation_id, attempts, self._grace_ms)
                self._resources.send(turn, slot.grant.taskmanager_id, message)

    def _settle(self, turn: Turn) -> None:
        if self.state == "RUNNING" and self._executions.count("FINISHED") == self._executions.total:
            self._end(turn, "finish")
        elif self.state in ("FAILING", "CANCELLING") and self._executions.live == 0:
            self._end(turn, "settle")

    def _end(self, turn: Turn, event: JobEvent) -> None:
        self._ended_ms = turn.now_ms
        self._finished_wall_ms = turn.wall_ms
        self._slots_deadline_ms = self._cancel_deadline_ms = None
        for slot in self._pool:
            self._resources.release(turn, slot.grant.allocation_id)
        self._graph = _without_blobs(self._graph)
        self._advance(turn, event)
        if self.state != "FINISHED":
            self._watchers.drop_rows()
        turn.log("info", f"Job {self._graph.name!r} is {self.state}.", job=self.job_id)

    def _advance(self, turn: Turn, event: JobEvent) -> bool:
        after = JOB_TRANSITIONS.get((self.state, event))
        if after is None:
            assert (self.state, event) in JOB_IGNORED, f"{event} in {self.state}"
            turn.tell(self.job_id, f"{event} ignored in {self.state}")
            return False
        turn.tell(self.job_id, f"{self.state} → {after} ({event})")
        self.state = after
        self._watchers.push_now(turn)
        return True

    # -- time -------------------------------------------------------------------------------------

    def deadline_ms(self) -> int | None:
        """When ``deadline_passed`` has something to do."""
        instants = (self._slots_deadline_ms, self._cancel_deadline_ms, self._watchers.deadline_ms())
        return min((instant for instant in instants if instant is not None), default=None)

    def deadline_passed(self, turn: Turn) -> None:
        """Do what is due now, if anything."""
        if self._slots_deadline_ms is not None and turn.now_ms >= self._slots_deadline_ms:
            self._fail(turn, self._slots_failure())
        if self._cancel_deadline_ms is not None and turn.now_ms >= self._cancel_deadline_ms:
            sentence = "Tasks did not report their end after cancellation; the job ends without them."
            turn.log("warning", sentence, job=self.job_id)
            for execution in self._executions.executions():
                self._executions.advance(execution, "canceled")
            self._settle(turn)
        self._watchers.push_if_due(turn)

    def _slots_failure(self) -> TaskFailure:
        return TaskFailure(
            "slots",
            f"The job needs {self.slots_required} slots and did not get them within "
            f"{self._slot_timeout_ms / 1000:g} s: {self._resources.supply()}.",
            hint="Start more TaskManagers, raise taskmanager.numberOfTaskSlots, lower the parallelism, "
            "or wait longer with slot.request.timeout.",
        )

    # -- clients and events between workers -------------------------------------------------------

    def supply_changed(self) -> None:
        """The cluster's slots changed; a waiting job says so to its watchers."""
        self._watchers.progress()

    def watch(self, turn: Turn, peer: bytes, request_id: int, *, collect: bool) -> bool:
        """See ``JobWatchers.watch``."""
        return self._watchers.watch(turn, peer, request_id, collect=collect)

    def client_gone(self, turn: Turn, peer: bytes) -> None:
        """A client's connection is closed. A job whose rows it took is cancelled."""
        if self._watchers.gone(peer) and not self.ended:
            self.cancel(turn, "the client that collects its rows is gone")

    def rows(self, turn: Turn, message: CollectedRows) -> None:
        """Rows on their way to the client."""
        if not self._watchers.rows(turn, msgspec.structs.replace(message, epoch=turn.epoch)):
            turn.tell(self.job_id, "collected rows dropped: nobody takes them")

    def to_worker(self, turn: Turn, message: OperatorEvent | CollectAck) -> None:
        """Route to the worker that holds the subtask; the split enumerator lives with subtask 0."""
        index = message.to_subtask if isinstance(message, OperatorEvent) else message.subtask_index
        slot = self._pool.of_subtask(message.vertex_id, max(0, index))
        if slot is None or slot.lost or self.ended:
            turn.tell(self.job_id, f"dropped {type(message).__name__} to {message.vertex_id}/{index}: gone")
            return
        routed = msgspec.structs.replace(message, epoch=turn.epoch)
        self._resources.send(turn, slot.grant.taskmanager_id, routed)

    def check(self) -> None:
        """Job, tasks and slots agree."""
        self._executions.check()
        if self.ended:
            assert self._executions.live == 0, f"{self.state} with live tasks"
        if self.state == "FINISHED":
            assert self._executions.count("FINISHED") == self._executions.total
        if self.state in ("FAILING", "FAILED"):
            assert self.failure is not None, f"{self.state} without a cause"
        for slot in self._pool:
            held = self._resources.holder(slot.grant.allocation_id)
            if not slot.lost and not self.ended:
                assert held is not None and held[1].job_id == self.job_id, slot
            if self.ended and held is not None:
                assert held[1].state == "releasing", f"an ended job keeps {slot.grant.allocation_id}"


def _without_blobs(graph: JobGraph) -> JobGraph:
    """What is kept of an ended job: enough to show it, none of its code."""
    return msgspec.structs.replace(
        graph,
        vertices=[msgspec.structs.replace(vertex, operators=b"") for vertex in graph.vertices],
        py_files=[],
    )
