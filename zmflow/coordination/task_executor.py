"""The TaskManager's brain: its connection to the leader, its workers, and the messages between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from zmflow.config import Settings
from zmflow.config.options import (
    SLOT_MEMORY_LIMIT,
    SLOT_OFFER_TIMEOUT,
    WORKER_START_TIMEOUT,
)
from zmflow.coordination.effects import (
    DeadlinePassed,
    DropFiles,
    Effect,
    Entry,
    Event,
    FromJobManager,
    FromWorker,
    GiveUp,
    JobManagerLost,
    KillWorker,
    Log,
    MemoryExceeded,
    ReadLogs,
    SendToJobManager,
    SendToWorker,
    StartWorker,
    StoreFile,
    Story,
    WorkerExited,
)
from zmflow.coordination.leader_link import LeaderLink
from zmflow.coordination.states import TASK, WorkerEvent
from zmflow.coordination.worker_slots import SLOT_INDEX_MAX, Tenure, WorkerSlots
from zmflow.errors import IncompatiblePeerError
from zmflow.ids import Epoch, TaskManagerId
from zmflow.protocol import messages as m
from zmflow.protocol.job_files import DropJobFiles, StoreJobFile
from zmflow.protocol.resources import size_text
from zmflow.protocol.versions import Versions, check_compatible

__all__ = ["TaskExecutor"]

SLOT_FREE_GRACE_MS = 2_000
"""How long a worker whose job has ended may take to leave by itself: it closes sockets and log files,
some milliseconds. A slot that is not given back delays the next job, so the kill comes soon."""


class TaskExecutor:
    """The decisions of one TaskManager. Call ``start`` once before ``handle``, ``stop`` after it.

    Messages of the JobManager are taken to arrive in order and without loss until the shell reports
    ``JobManagerLost``; so it must report every loss of the connection, also one that ZeroMQ mends by
    itself. The TaskManager then begins anew: whatever was under way is void on both sides.

    Args:
        taskmanager_id: unique to this process.
        host: its name for people.
        slots: how many it offers.
        resources: what they are cut from.
    """

    def __init__(
        self,
        taskmanager_id: TaskManagerId,
        host: str,
        pid: int,
        slots: int,
        resources: m.ResourceProfile,
        settings: Settings,
        versions: Versions,
    ) -> None:
        self._id = taskmanager_id
        self._host = host
        self._pid = pid
        self._settings = settings
        self._versions = versions
        self._epoch = Epoch(0)
        self._resources = resources
        self._link = LeaderLink(settings)
        self._now_ms = 0
        self._slots = WorkerSlots(slots)
        self._files_of: dict[str, None] = {}  # jobs of which there may be files, or copies of state
        self._story = Story()
        self._effects: list[Effect] = []
        self._from_leader: dict[type, Callable[[Any], None]] = {
            m.TaskManagerRegistered: self._registered,
            m.HeartbeatAck: self._link.acknowledged,
            m.UnknownTaskManager: lambda _message: self._greet("the JobManager does not know us"),
            m.AllocateSlot: self._allocate,
            m.AcceptSlot: self._accepted,
            m.RejectSlot: self._rejected,
            m.FreeSlot: self._free,
            m.DeployTasks: self._deploy,
            m.CancelTasks: self._cancel,
            m.OperatorEvent: lambda message: self._to_subtask(message, message.to_subtask),
            m.CollectAck: lambda message: self._to_subtask(message, message.subtask_index),
            m.SnapshotCoordinator: lambda message: self._to_subtask(message, 0),
            m.TriggerCheckpoint: self._about_checkpoint,
            m.UnalignCheckpoint: self._about_checkpoint,
            m.NotifyCheckpoint: self._about_checkpoint,
            m.GetLogs: lambda message: self._do(ReadLogs(message)),
            StoreJobFile: self._store_file,
            DropJobFiles: lambda message: self._drop_files(message.job_id),
        }

    # -- the shape of a brain ---------------------------------------------------------------------

    def start(self, now_ms: int) -> list[Effect]:
        """Say Hello."""
        self._now_ms = now_ms
        self._greet("it starts")
        return self._taken()

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """Decide. The effects are to be carried out in their order."""
        self._now_ms = now_ms
        if isinstance(event, FromJobManager):
            self._from_jobmanager(event.message)
        elif isinstance(event, FromWorker):
            self._from_worker(event.allocation_id, event.message)
        elif isinstance(event, WorkerExited):
            self._worker_exited(event.allocation_id, event.reason)
        elif isinstance(event, JobManagerLost):
            self._greet(f"the JobManager is lost: {event.reason}")
        elif isinstance(event, MemoryExceeded):
            self._memory_exceeded(event.allocation_id, event.used_bytes)
        elif isinstance(event, DeadlinePassed):
            self._deadline_passed()
        else:
            raise TypeError(f"{type(event).__name__} is no event of the TaskExecutor")
        return self._taken()

    def stop(self, reason: str, now_ms: int) -> list[Effect]:
        """Take leave of the JobManager and end every worker; the process is to end after that."""
        self._now_ms = now_ms
        if self._link.registered:
            self._report(m.DeregisterTaskManager(self._epoch, self._id, reason))
        self._abandon_all(reason)
        self._link.greet(now_ms)
        return self._taken()

    def deadline_ms(self) -> int | None:
        """When to call ``handle(DeadlinePassed(), now)``."""
        instants = [self._link.deadline_ms()]
        instants.extend(t.deadline_ms for t in self._slots.all() if t.deadline_ms is not None)
        return min(instants)

    def check(self) -> None:
        """Assert the invariants: a slot has at most one owner; routes lead to living workers."""
        self._slots.check()

    def story(self, *ids: str) -> list[Entry]:
        """What happened to these allocations, attempts or this TaskManager; everything without ids."""
        return self._story.about(*ids)

    def _do(self, effect: Effect) -> None:
        self._effects.append(effect)

    def _taken(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    def _report(self, message: m.Message) -> None:
        self._do(SendToJobManager(message))

    def _tell(self, subject: str, sentence: str, cause: str = "") -> None:
        self._story.tell(self._now_ms, subject, sentence, cause)

    # -- the leader -------------------------------------------------------------------------------

    def _greet(self, why: str) -> None:
        """Let go of everything that runs for the leader that was, and ask who leads."""
        self._abandon_all(why)
        self._link.greet(self._now_ms)
        self._tell(self._id, f"says Hello: {why}")
        self._do(Log("info", f"Saying Hello to the JobManager: {why}.", {"taskmanager": self._id}))
        self._report(m.Hello(self._epoch, self._versions, "taskmanager", self._id))

    def _abandon_all(self, why: str) -> None:
        for tenure in self._slots.all():
            if not tenure.abandoned:
                tenure.abandoned = True
                self._kill(tenure, why)
        for job_id in list(self._files_of):
            self._drop_files(job_id)

    def _from_jobmanager(self, message: m.Message) -> None:
        if message.epoch < self._epoch:
            name = type(message).__name__
            self._tell(self._id, f"dropped {name}: epoch {message.epoch}, ours is {self._epoch}")
            self._do(Log("warning", f"Dropped {name} of an older leader.", {"epoch": str(message.epoch)}))
            return
        if not self._link.expects(message):
            # Sent to what this TaskManager was before its last Hello: the answer comes after it.
            self._tell(self._id, f"ignored {type(message).__name__} while {self._link.state}")
            return
        if isinstance(message, m.Welcome):
            self._welcome(message)
        elif isinstance(message, m.Refused):
            self._refused(message)
        elif message.epoch > self._epoch:
            self._greet(f"a new leader with epoch {message.epoch}")
        elif type(message) in self._from_leader:
            self._from_leader[type(message)](message)
        else:
            name = type(message).__name__
            self._do(Log("warning", f"The JobManager sent {name}, which is not for a TaskManager; ignored."))

    def _welcome(self, message: m.Welcome) -> None:
        if self._link.state != "greeting" and message.epoch == self._epoch:
            return  # a second answer to a Hello that was repeated
        try:
            check_compatible(
                self._versions,
                message.versions,
                our_name=f"the TaskManager {self._id}",
                their_name=f"the JobManager {message.jobmanager}",
            )
        except IncompatiblePeerError as error:
            self._give_up(
                m.Refused(
                    message.epoch,
                    0,
                    type(error).__name__,
                    error.message,
                    error.detail or "",
                    error.hint or "",
                )
            )
            return
        self._abandon_all(f"a new leader with epoch {message.epoch}")
        self._slots.forget_ended()
        self._epoch = Epoch(message.epoch)
        self._link.welcomed(self._now_ms)
        self._tell(self._id, f"welcomed by {message.jobmanager}, epoch {message.epoch}")
        self._report(
            m.RegisterTaskManager(
                self._epoch, self._id, self._host, self._pid, self._slots.slots, self._resources
            )
        )

    def _refused(self, message: m.Refused) -> None:
        if message.request_id == 0:
            self._give_up(message)
        else:
            self._do(Log("warning", f"The JobManager refused: {message.message}", {"detail": message.detail}))

    def _give_up(self, refused: m.Refused) -> None:
        self._tell(self._id, f"refused: {refused.message}")
        self._do(Log("error", refused.message, {"detail": refused.detail, "hint": refused.hint}))
        self._abandon_all("the JobManager refuses this TaskManager")
        self._do(GiveUp(refused))

    def _registered(self, message: m.TaskManagerRegistered) -> None:
        if not self._link.accepted(message, self._now_ms):
            return
        self._do(Log("info", "Registered with the JobManager.", {"epoch": str(self._epoch)}))

    # -- slots ------------------------------------------------------------------------------------

    def _allocate(self, message: m.AllocateSlot) -> None:
        allocation, index = message.allocation_id, message.slot_index
        if self._slots.get(allocation) is not None or self._slots.has_ended(allocation):
            self._tell(allocation, "ignored AllocateSlot: it has been seen")
            return
        if not 0 <= index < SLOT_INDEX_MAX:
            self._report(m.SlotLost(self._epoch, allocation, index, f"there is no slot {index}"))
            return
        owner = self._slots.owner(index)
        if owner is not None:
            # The leader gives a slot away only when it is free: an older tenure is over for it.
            owner.abandoned = True
            self._kill(owner, f"its slot was given to {allocation}")
        needed = message.resources.external_amounts
        external = self._slots.free_pieces(self._resources.external_amounts, needed)
        if external is None:
            reason = f"{', '.join(needed)} of this TaskManager are in use"
            self._report(m.SlotLost(self._epoch, allocation, index, reason))
            return
        tenure = Tenure(allocation, index, message.job_id, message.resources, external)
        tenure.deadline_ms = self._now_ms + self._settings[WORKER_START_TIMEOUT]
        self._slots.add(tenure)
        self._tell(allocation, f"slot {index} goes to job {message.job_id}; its worker starts")
        limit_bytes = self._settings[SLOT_MEMORY_LIMIT]
        self._do(StartWorker(allocation, index, message.job_id, message.resources, external, limit_bytes))

    def _accepted(self, message: m.AcceptSlot) -> None:
        tenure = self._slots.get(message.allocation_id)
        if tenure is None or tenure.abandoned or tenure.advance("accept") != "changed":
            self._tell(message.allocation_id, "ignored AcceptSlot: nothing is on offer")
            return
        tenure.deadline_ms = None
        self._tell(message.allocation_id, "the job takes the slot")

    def _rejected(self, message: m.RejectSlot) -> None:
        tenure = self._slots.get(message.allocation_id)
        if tenure is None or tenure.abandoned:
            self._report_freed(message.allocation_id, -1)
        elif tenure.state == "offered":
            self._tell(message.allocation_id, f"the job does not take the slot: {message.reason}")
            self._end_worker(tenure, "reject")

    def _free(self, message: m.FreeSlot) -> None:
        tenure = self._slots.get(message.allocation_id)
        if tenure is None or tenure.abandoned:
            # Its worker died in the same moment: the slot is free already.
            self._report_freed(message.allocation_id, message.slot_index)
        else:
            self._end_worker(tenure, "free")

    def _report_freed(self, allocation: str, slot_index: int) -> None:
        self._report(m.SlotFreed(self._epoch, allocation, slot_index))

    def _end_worker(self, tenure: Tenure, event: Literal["free", "reject"]) -> None:
        """The slot goes back: a worker that listens is asked to end, one that starts is killed."""
        tenure.to_free = True
        if tenure.state == "starting":
            self._kill(tenure, "the slot is not needed any more", event="free")
        elif tenure.advance(event) == "changed":
            tenure.deadline_ms = self._now_ms + SLOT_FREE_GRACE_MS
            order = m.FreeSlot(self._epoch, tenure.allocation_id, tenure.slot_index)
            self._do(SendToWorker(tenure.allocation_id, order))

    def _kill(self, tenure: Tenure, why: str, event: WorkerEvent = "kill") -> None:
        if tenure.advance(event) != "changed":
            return
        tenure.why, tenure.deadline_ms = why, None
        self._tell(tenure.allocation_id, f"its worker is killed: {why}")
        self._do(KillWorker(tenure.allocation_id, why))

    def _worker_exited(self, allocation: str, reason: str) -> None:
        tenure = self._slots.get(allocation)
        if tenure is None:
            self._tell(allocation, f"ignored the end of its worker: not known ({reason})")
            return
        tenure.advance("exit")
        self._slots.remove(tenure)
        self._tell(allocation, f"its worker is gone: {reason}")
        if tenure.abandoned:
            return
        if tenure.to_free:
            self._report_freed(allocation, tenure.slot_index)
            return
        why = tenure.why or reason
        self._do(
            Log("warning", f"The worker of slot {tenure.slot_index} is gone: {why}", {"job": tenure.job_id})
        )
        self._report(m.SlotLost(self._epoch, allocation, tenure.slot_index, why))

    # -- files and tasks --------------------------------------------------------------------------

    def _store_file(self, message: StoreJobFile) -> None:
        self._files_of[message.job_id] = None
        self._tell(message.job_id, f"its file {message.file.name!r} comes: {message.file.size_bytes} bytes")
        self._do(StoreFile(message.job_id, message.file))

    def _drop_files(self, job_id: str) -> None:
        if job_id in self._files_of:
            del self._files_of[job_id]
            self._tell(job_id, "its files go")
            self._do(DropFiles(job_id))

    def _deploy(self, message: m.DeployTasks) -> None:
        tenure = self._slots.get(message.allocation_id)
        if tenure is None or tenure.state != "active" or tenure.abandoned:
            self._tell(message.allocation_id, "ignored DeployTasks: the slot has no worker for them")
            return
        self._files_of[tenure.job_id] = None
        if not (fresh := self._slots.deploy(tenure, message)):
            self._tell(message.allocation_id, "ignored DeployTasks: they are deployed")
            return
        self._do(SendToWorker(message.allocation_id, msgspec.structs.replace(message, tasks=fresh)))

    def _cancel(self, message: m.CancelTasks) -> None:
        tenure = self._slots.get(message.allocation_id)
        if tenure is None or tenure.state != "active" or tenure.abandoned:
            self._tell(message.allocation_id, "ignored CancelTasks: the worker is gone or going")
            return
        live = [attempt for attempt in message.attempt_ids if attempt in tenure.attempts]
        fresh = [attempt for attempt in live if attempt not in tenure.cancelling]
        if not fresh:
            return
        tenure.cancelling.update(dict.fromkeys(fresh))
        if tenure.deadline_ms is None:
            tenure.deadline_ms = self._now_ms + message.grace_ms
        self._do(SendToWorker(message.allocation_id, message))

    def _about_checkpoint(
        self, message: m.TriggerCheckpoint | m.UnalignCheckpoint | m.NotifyCheckpoint
    ) -> None:
        tenure = self._slots.get(message.allocation_id)
        if tenure is None or tenure.abandoned or tenure.state != "active":
            name = type(message).__name__
            self._tell(message.allocation_id, f"dropped {name}: the worker is gone or going")
            return
        self._do(SendToWorker(message.allocation_id, message))

    def _to_subtask(
        self, message: m.OperatorEvent | m.CollectAck | m.SnapshotCoordinator, subtask_index: int
    ) -> None:
        tenure = self._slots.of_subtask(message.job_id, message.vertex_id, max(0, subtask_index))
        if tenure is None or tenure.abandoned or tenure.state != "active":
            sentence = f"dropped {type(message).__name__} to {message.vertex_id}/{subtask_index}: gone"
            self._tell(message.job_id, sentence)
            return
        self._do(SendToWorker(tenure.allocation_id, message))

    # -- workers ----------------------------------------------------------------------------------

    def _from_worker(self, allocation: str, message: m.Message) -> None:
        tenure = self._slots.get(allocation)
        if tenure is None or tenure.abandoned:
            self._tell(allocation, f"ignored {type(message).__name__}: that tenure is over")
            return
        if isinstance(message, m.WorkerReady):
            self._worker_ready(tenure, message)
        elif isinstance(message, m.TaskStateChanged):
            self._task_changed(tenure, message)
        elif isinstance(message, (m.CheckpointAcknowledged, m.CheckpointDeclined, m.AwaitsCheckpoint)):
            if message.attempt_id in tenure.attempts:
                self._report(msgspec.structs.replace(message, epoch=self._epoch, allocation_id=allocation))
            else:
                self._tell(message.attempt_id, f"ignored {type(message).__name__}: no live attempt")
        elif isinstance(message, (m.TaskMetrics, m.OperatorEvent, m.CollectedRows, m.CoordinatorSnapshot)):
            self._report(msgspec.structs.replace(message, epoch=self._epoch))
        else:
            name = type(message).__name__
            self._do(Log("warning", f"A worker sent {name}; ignored.", {"allocation": allocation}))

    def _worker_ready(self, tenure: Tenure, message: m.WorkerReady) -> None:
        if tenure.advance("ready") != "changed":
            self._tell(tenure.allocation_id, "ignored WorkerReady: not waited for")
            return
        tenure.deadline_ms = self._now_ms + self._settings[SLOT_OFFER_TIMEOUT]
        self._tell(tenure.allocation_id, f"worker {message.pid} is ready; the slot is offered to its job")
        self._report(
            m.OfferSlot(
                self._epoch,
                tenure.allocation_id,
                tenure.slot_index,
                tenure.job_id,
                message.pid,
                message.endpoint,
            )
        )

    def _task_changed(self, tenure: Tenure, message: m.TaskStateChanged) -> None:
        if message.attempt_id not in tenure.attempts:
            self._tell(message.attempt_id, f"ignored {message.state}: no live attempt of this worker")
            return
        if message.state in TASK.terminal:
            del tenure.attempts[message.attempt_id]
            tenure.cancelling.pop(message.attempt_id, None)
            if not tenure.cancelling and tenure.state == "active":
                tenure.deadline_ms = None
        self._tell(message.attempt_id, f"is {message.state}")
        self._report(msgspec.structs.replace(message, epoch=self._epoch, allocation_id=tenure.allocation_id))

    # -- time -------------------------------------------------------------------------------------

    def _deadline_passed(self) -> None:
        now_ms = self._now_ms
        if self._link.gives_up(now_ms):
            self._give_up(self._link.unregistered(self._epoch, self._id))
        elif why := self._link.silence(now_ms):
            self._greet(why)
        elif self._link.beats(now_ms):
            self._report(m.Heartbeat(self._epoch, self._id, now_ms))
        for tenure in self._slots.all():
            if tenure.deadline_ms is not None and now_ms >= tenure.deadline_ms:
                self._overdue(tenure)

    def _overdue(self, tenure: Tenure) -> None:
        if tenure.state == "starting":
            limit_s = self._settings[WORKER_START_TIMEOUT] / 1000
            self._kill(tenure, f"the worker did not start within {limit_s:g} s")
        elif tenure.state == "offered":
            limit_s = self._settings[SLOT_OFFER_TIMEOUT] / 1000
            self._kill(tenure, f"its job did not take the slot within {limit_s:g} s")
        elif tenure.state == "active":
            number = len(tenure.cancelling)
            self._kill(tenure, f"{number} cancelled tasks did not stop within their grace period")
        else:
            self._kill(tenure, "the worker did not end by itself when its job was over")

    def _memory_exceeded(self, allocation: str, used_bytes: int) -> None:
        tenure = self._slots.get(allocation)
        if tenure is not None and not tenure.abandoned:
            limit = size_text(self._settings[SLOT_MEMORY_LIMIT])
            self._kill(
                tenure,
                f"it used {size_text(used_bytes)} of memory, and a slot may use {limit} "
                "(taskmanager.memory.slot-limit)",
            )
