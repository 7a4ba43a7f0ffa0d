"""The JobManager's brain: peers, jobs and TaskManagers, and which message is whose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from zmflow.config import Settings
from zmflow.config.options import HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT
from zmflow.coordination.admission import admit
from zmflow.coordination.effects import (
    DeadlinePassed,
    Effect,
    Entry,
    Event,
    MessageReceived,
    PeerGone,
    Story,
)
from zmflow.coordination.job_master import JobMaster
from zmflow.coordination.job_table import JobTable
from zmflow.coordination.log_requests import LogRequests
from zmflow.coordination.resource_manager import RegisteredTaskManager, ResourceManager
from zmflow.coordination.turn import Turn
from zmflow.errors import ClusterError, IncompatiblePeerError, ZmflowError
from zmflow.ids import Epoch, JobId
from zmflow.protocol import messages as m
from zmflow.protocol.versions import Versions, check_compatible

__all__ = ["Dispatcher"]

SLOTS_MAX = 4096
"""Slots of one TaskManager: the upper bound of taskmanager.numberOfTaskSlots."""


@dataclass(slots=True)
class _Peer:
    role: Literal["taskmanager", "client"]
    name: str
    greeted: bool = True  # said Hello and has not registered since


class Dispatcher:
    """The leader's decisions, for one term.

    Args:
        epoch: this leader's term, at least 1; messages of a lower one are dropped.
        name: the JobManager's name, for messages to people.
        settings: the cluster's settings; a job's own settings go over them.
        started_wall_ms: wall clock at the start, for what people see.
    """

    def __init__(
        self, epoch: Epoch, name: str, settings: Settings, versions: Versions, started_wall_ms: int
    ) -> None:
        self._epoch = epoch
        self._name = name
        self._settings = settings
        self._versions = versions
        self._started_wall_ms = started_wall_ms
        self._wall_offset_ms: int | None = None
        self._story = Story()
        self._peers: dict[bytes, _Peer] = {}
        self._resources = ResourceManager(epoch, settings[HEARTBEAT_TIMEOUT])
        self._jobs = JobTable()
        self._logs = LogRequests()
        # By the role that may send them; anything else a peer sends is not its to say.
        self._of_taskmanager: dict[type, Callable[[Turn, RegisteredTaskManager, Any], None]] = {
            m.Heartbeat: self._heartbeat,
            m.DeregisterTaskManager: self._deregister,
            m.SlotReady: self._slot_ready,
            m.SlotLost: self._slot_lost,
            m.SlotFreed: self._slot_freed,
            m.TaskStateChanged: self._task_changed,
            m.TaskMetrics: self._task_metrics,
            m.OperatorEvent: self._operator_event,
            m.CollectedRows: self._collected_rows,
            m.LogChunk: self._log_chunk,
        }
        self._of_client: dict[type, Callable[[Turn, bytes, Any], None]] = {
            m.SubmitJob: self._submit,
            m.WatchJob: self._watch,
            m.CancelJob: self._cancel,
            m.ListJobs: self._list_jobs,
            m.GetJob: self._get_job,
            m.GetCluster: self._get_cluster,
            m.GetLogs: self._get_logs,
            m.CollectAck: self._collect_ack,
        }

    # -- the shape of a brain ---------------------------------------------------------------------

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """Decide. The effects are to be carried out in their order."""
        if isinstance(event, MessageReceived):
            if event.wall_ms:
                self._wall_offset_ms = event.wall_ms - now_ms
            turn = self._turn(now_ms, type(event.message).__name__)
            self._received(turn, event.peer, event.message)
        else:
            turn = self._turn(now_ms, type(event).__name__)
            if isinstance(event, PeerGone):
                self._peer_gone(turn, event.peer)
            elif isinstance(event, DeadlinePassed):
                self._deadline_passed(turn)
            else:
                raise TypeError(f"{type(event).__name__} is no event of the Dispatcher")
        self._start_waiting_jobs(turn)
        self._jobs.retire_ended()
        return turn.effects

    def deadline_ms(self) -> int | None:
        """When to call ``handle(DeadlinePassed(), now)``; None: not before something happens."""
        instants = [self._resources.deadline_ms(), *(job.deadline_ms() for job in self._jobs.active())]
        return min((instant for instant in instants if instant is not None), default=None)

    def check(self) -> None:
        """Assert the invariants: a slot has at most one owner, and jobs, tasks and slots agree."""
        self._resources.check()
        for job in self._jobs:
            job.check()

    def story(self, *ids: str) -> list[Entry]:
        """What happened to these jobs, attempts, allocations or TaskManagers; everything without ids."""
        return self._story.about(*ids)

    def _turn(self, now_ms: int, cause: str) -> Turn:
        if self._wall_offset_ms is None:
            self._wall_offset_ms = self._started_wall_ms - now_ms
        return Turn(self._epoch, now_ms, now_ms + self._wall_offset_ms, cause, self._story)

    # -- peers ------------------------------------------------------------------------------------

    def _received(self, turn: Turn, peer: bytes, message: m.Message) -> None:
        if isinstance(message, m.Hello):
            self._hello(turn, peer, message)
            return
        if message.epoch != self._epoch:
            self._wrong_epoch(turn, peer, message)
            return
        known = self._peers.get(peer)
        if known is None:
            self._unknown_peer(turn, peer, message)
        elif isinstance(message, m.RegisterTaskManager) and known.role == "taskmanager":
            self._register(turn, peer, known, message)
        elif known.role == "taskmanager" and type(message) in self._of_taskmanager:
            tm = self._resources.at_peer(peer)
            if tm is None:
                turn.send(peer, m.UnknownTaskManager(self._epoch, getattr(message, "taskmanager_id", "")))
                return
            self._resources.heard(tm, turn.now_ms)
            self._of_taskmanager[type(message)](turn, tm, message)
        elif known.role == "client" and type(message) in self._of_client:
            self._of_client[type(message)](turn, peer, message)
        else:
            turn.log("warning", f"A {known.role} sent {type(message).__name__}; ignored.", peer=peer.hex())

    def _hello(self, turn: Turn, peer: bytes, message: m.Hello) -> None:
        if message.epoch > self._epoch:
            self._wrong_epoch(turn, peer, message)
            return
        kind = "TaskManager" if message.role == "taskmanager" else "client"
        try:
            check_compatible(
                self._versions,
                message.versions,
                our_name=f"the JobManager {self._name}",
                their_name=f"the {kind} {message.name}",
            )
        except IncompatiblePeerError as error:
            turn.log("warning", error.message, peer=message.name)
            self._refuse(turn, peer, 0, error)
            return
        self._peers[peer] = _Peer(message.role, message.name)
        turn.send(peer, m.Welcome(self._epoch, self._versions, self._name))

    def _wrong_epoch(self, turn: Turn, peer: bytes, message: m.Message) -> None:
        age = "an older" if message.epoch < self._epoch else "a newer"
        name = type(message).__name__
        turn.tell(peer.hex(), f"dropped {name}: epoch {message.epoch}, ours is {self._epoch}")
        sentence = f"Dropped {name} of {age} leader's term."
        turn.log("warning", sentence, epoch=str(message.epoch), peer=peer.hex())
        if message.epoch > self._epoch:
            return
        # Not acted upon, but who sent it can stop waiting for the leader that was.
        if isinstance(message, m.Heartbeat):
            turn.send(peer, m.UnknownTaskManager(self._epoch, message.taskmanager_id))
        elif type(message) in self._of_client:
            error = ClusterError(
                "The JobManager has started anew since this client connected.",
                detail=f"The client knows epoch {message.epoch}; {self._name} has epoch {self._epoch}.",
                hint="Connect again; 'zmflow list' shows the jobs it knows.",
            )
            self._refuse(turn, peer, getattr(message, "request_id", 0), error)

    def _unknown_peer(self, turn: Turn, peer: bytes, message: m.Message) -> None:
        # This leader's term is right but the connection is not known: it was given up in between.
        request_id = getattr(message, "request_id", None)
        if isinstance(message, m.Heartbeat):
            turn.send(peer, m.UnknownTaskManager(self._epoch, message.taskmanager_id))
        elif request_id:
            error = ClusterError("The connection to the JobManager was closed.", hint="Try again.")
            self._refuse(turn, peer, request_id, error)
        turn.tell(peer.hex(), f"dropped {type(message).__name__}: no Hello on this connection")

    def _refuse(self, turn: Turn, peer: bytes, request_id: int, error: ZmflowError) -> None:
        kind = type(error).__name__
        refused = m.Refused(
            self._epoch, request_id, kind, error.message, error.detail or "", error.hint or ""
        )
        turn.send(peer, refused)

    def _peer_gone(self, turn: Turn, peer: bytes) -> None:
        if self._peers.pop(peer, None) is None:
            return
        self._logs.client_gone(peer)
        for job in self._jobs:
            job.client_gone(turn, peer)
        tm = self._resources.at_peer(peer)
        if tm is not None:
            self._lost(turn, tm, "closed its connection without taking leave")

    # -- TaskManagers -----------------------------------------------------------------------------

    def _register(self, turn: Turn, peer: bytes, known: _Peer, message: m.RegisterTaskManager) -> None:
        if not 1 <= message.slots <= SLOTS_MAX:
            error = ClusterError(
                f"TaskManager {message.taskmanager_id} offers {message.slots} slots.",
                detail=f"Allowed: 1 to {SLOTS_MAX}.",
                hint="Set taskmanager.numberOfTaskSlots.",
            )
            self._refuse(turn, peer, 0, error)
            return
        tm = self._resources.get(message.taskmanager_id)
        here = self._resources.at_peer(peer)
        if tm is None or known.greeted or here is not tm:
            # A TaskManager that says Hello has let go of what ran there.
            for old in (tm, here):
                if old is not None and self._resources.get(old.taskmanager_id) is old:
                    self._lost(turn, old, "began anew")
            self._resources.register(turn, peer, message)
            known.greeted = False
            turn.tell(message.taskmanager_id, f"registered with {message.slots} slots")
            turn.log(
                "info",
                f"TaskManager {message.taskmanager_id} registered with {message.slots} slots.",
                host=message.host,
            )
            self._supply_changed()
        turn.send(
            peer,
            m.TaskManagerRegistered(
                self._epoch,
                message.taskmanager_id,
                self._settings[HEARTBEAT_INTERVAL],
                self._settings[HEARTBEAT_TIMEOUT],
            ),
        )

    def _heartbeat(self, turn: Turn, tm: RegisteredTaskManager, message: m.Heartbeat) -> None:
        turn.send(tm.peer, m.HeartbeatAck(self._epoch, message.taskmanager_id))

    def _deregister(self, turn: Turn, tm: RegisteredTaskManager, message: m.DeregisterTaskManager) -> None:
        self._lost(turn, tm, f"left: {message.reason}")

    def _lost(self, turn: Turn, tm: RegisteredTaskManager, how: str) -> None:
        sentence = f"TaskManager {tm.taskmanager_id} on {tm.host} {how}."
        jobs = self._resources.remove(tm)
        turn.tell(tm.taskmanager_id, sentence)
        turn.log("warning", sentence, taskmanager=tm.taskmanager_id)
        self._logs.taskmanager_gone(turn, tm.taskmanager_id)
        for job_id in jobs:
            job = self._jobs.get(job_id)
            if job is not None:
                job.taskmanager_lost(turn, tm.taskmanager_id, tm.host, sentence)
        self._supply_changed()

    def _supply_changed(self) -> None:
        for job in self._jobs.active():
            if job.waits_for_slots:
                job.supply_changed()

    def _start_waiting_jobs(self, turn: Turn) -> None:
        # First come, first served; but a job that needs more slots than there are at all does not
        # hold up those behind it: it waits for TaskManagers, not for its turn.
        for job in self._jobs.active():
            if self._resources.free == 0:
                return
            if not job.waits_for_slots or job.slots_required > self._resources.total:
                continue
            if not job.try_start(turn):
                return

    # -- slots and tasks --------------------------------------------------------------------------

    def _job_of(self, turn: Turn, tm: RegisteredTaskManager, allocation: str, what: str) -> JobMaster | None:
        held = self._resources.holder(allocation)
        if held is None or held[0] is not tm:
            turn.tell(allocation, f"ignored {what} from {tm.taskmanager_id}: that tenure is over")
            return None
        return self._jobs.get(held[1].job_id)

    def _slot_ready(self, turn: Turn, tm: RegisteredTaskManager, message: m.SlotReady) -> None:
        job = self._job_of(turn, tm, message.allocation_id, "SlotReady")
        held = self._resources.holder(message.allocation_id)
        if held is None or held[0] is not tm:
            # A worker nobody waits for: it must not sit in its slot for ever.
            turn.send(tm.peer, m.FreeSlot(self._epoch, message.allocation_id, message.slot_index))
        elif job is not None:
            held[1].worker_pid = message.pid
            job.slot_ready(turn, message)

    def _slot_lost(self, turn: Turn, tm: RegisteredTaskManager, message: m.SlotLost) -> None:
        job = self._job_of(turn, tm, message.allocation_id, "SlotLost")
        if job is not None:
            self._resources.freed(turn, message.allocation_id)
            job.slot_lost(turn, message.allocation_id, tm.host, tm.taskmanager_id, message.reason)
            self._supply_changed()

    def _slot_freed(self, turn: Turn, tm: RegisteredTaskManager, message: m.SlotFreed) -> None:
        held = self._resources.holder(message.allocation_id)
        if held is None or held[0] is not tm or held[1].state != "releasing":
            turn.tell(message.allocation_id, "ignored SlotFreed: that tenure is over or was not ended")
            return
        self._resources.freed(turn, message.allocation_id)
        self._supply_changed()

    def _task_changed(self, turn: Turn, tm: RegisteredTaskManager, message: m.TaskStateChanged) -> None:
        job = self._job_of(turn, tm, message.allocation_id, f"{message.state} of {message.attempt_id}")
        if job is not None:
            job.task_changed(turn, message)

    def _task_metrics(self, turn: Turn, tm: RegisteredTaskManager, message: m.TaskMetrics) -> None:
        job = self._job_of(turn, tm, message.allocation_id, "TaskMetrics")
        if job is not None:
            job.metrics(message)

    def _operator_event(self, turn: Turn, _tm: RegisteredTaskManager, message: m.OperatorEvent) -> None:
        job = self._jobs.get(message.job_id)
        if job is not None:
            job.to_worker(turn, message)

    def _collected_rows(self, turn: Turn, _tm: RegisteredTaskManager, message: m.CollectedRows) -> None:
        job = self._jobs.get(message.job_id)
        if job is not None:
            job.rows(turn, message)

    def _log_chunk(self, turn: Turn, tm: RegisteredTaskManager, message: m.LogChunk) -> None:
        chunk = msgspec.structs.replace(message, source=tm.taskmanager_id)
        if not self._logs.answered(turn, chunk):
            turn.tell(message.job_id, f"ignored LogChunk from {tm.taskmanager_id}: nobody waits for it")

    # -- clients ----------------------------------------------------------------------------------

    def _find(self, turn: Turn, peer: bytes, request_id: int, job_id: str) -> JobMaster | None:
        try:
            return self._jobs.find(job_id)
        except ZmflowError as error:
            self._refuse(turn, peer, request_id, error)
            return None

    def _submit(self, turn: Turn, peer: bytes, message: m.SubmitJob) -> None:
        if self._jobs.get(message.job_id) is None:
            try:
                graph = admit(message.job_id, message.job_graph)
                settings = self._settings.with_values(graph.settings, "the job")
            except ZmflowError as error:
                turn.log("warning", f"A job was refused: {error.message}", job=message.job_id)
                self._refuse(turn, peer, message.request_id, error)
                return
            self._jobs.add(JobMaster(JobId(message.job_id), graph, settings, self._resources, turn))
            turn.log("info", f"Job {graph.name!r} was submitted.", job=message.job_id)
        turn.send(peer, m.JobAccepted(self._epoch, message.request_id, message.job_id))

    def _watch(self, turn: Turn, peer: bytes, message: m.WatchJob) -> None:
        job = self._find(turn, peer, message.request_id, message.job_id)
        if job is not None and not job.watch(turn, peer, message.request_id, collect=message.collect):
            error = ClusterError(
                f"The rows of job {job.job_id} already go to another client.",
                hint="Only one client can collect the rows of a job.",
            )
            self._refuse(turn, peer, message.request_id, error)

    def _cancel(self, turn: Turn, peer: bytes, message: m.CancelJob) -> None:
        job = self._find(turn, peer, message.request_id, message.job_id)
        if job is not None:
            job.cancel(turn, "a client asked for it")
            turn.send(peer, job.status(message.request_id, turn.now_ms))

    def _list_jobs(self, turn: Turn, peer: bytes, message: m.ListJobs) -> None:
        jobs = [job.summary() for job in self._jobs]
        turn.send(peer, m.JobList(self._epoch, message.request_id, jobs))

    def _get_job(self, turn: Turn, peer: bytes, message: m.GetJob) -> None:
        job = self._find(turn, peer, message.request_id, message.job_id)
        if job is not None:
            turn.send(peer, job.status(message.request_id, turn.now_ms))

    def _get_cluster(self, turn: Turn, peer: bytes, message: m.GetCluster) -> None:
        status = m.ClusterStatus(
            self._epoch,
            message.request_id,
            self._name,
            self._started_wall_ms,
            self._resources.status(turn.now_ms),
            [job.summary() for job in self._jobs],
        )
        turn.send(peer, status)

    def _get_logs(self, turn: Turn, peer: bytes, message: m.GetLogs) -> None:
        job = self._find(turn, peer, message.request_id, message.job_id)
        if job is None:
            return
        asked = [key for key in job.taskmanagers if self._resources.get(key) is not None]
        if not asked:
            nothing = m.LogChunk(self._epoch, message.request_id, job.job_id, peer.hex(), "", b"", 0)
            turn.send(peer, nothing)
            return
        self._logs.ask(peer, message.request_id, job.job_id, asked)
        forwarded = msgspec.structs.replace(message, job_id=job.job_id, reply_to=peer.hex())
        for taskmanager_id in asked:
            self._resources.send(turn, taskmanager_id, forwarded)

    def _collect_ack(self, turn: Turn, _peer: bytes, message: m.CollectAck) -> None:
        job = self._jobs.get(message.job_id)
        if job is not None:
            job.to_worker(turn, message)

    # -- time -------------------------------------------------------------------------------------

    def _deadline_passed(self, turn: Turn) -> None:
        for tm in self._resources.silent(turn.now_ms):
            silence_s = (turn.now_ms - tm.last_heard_ms) / 1000
            self._lost(turn, tm, f"was silent for {silence_s:.1f} s and is gone")
        for job in self._jobs.active():
            job.deadline_passed(turn)
