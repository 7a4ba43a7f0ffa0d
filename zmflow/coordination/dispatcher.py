"""The JobManager's brain: which message is whose, and what follows when TaskManagers come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from zmflow.config import Settings
from zmflow.config.options import HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT
from zmflow.coordination.client_requests import ClientRequests
from zmflow.coordination.effects import (
    CheckpointLoaded,
    CheckpointStored,
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
from zmflow.coordination.peers import Peer, Peers
from zmflow.coordination.registered_taskmanager import RegisteredTaskManager
from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.turn import Turn
from zmflow.errors import ClusterError
from zmflow.ids import Epoch
from zmflow.protocol import messages as m
from zmflow.protocol.versions import Versions

__all__ = ["Dispatcher"]

SLOTS_MAX = 4096
"""Slots of one TaskManager: the upper bound of taskmanager.numberOfTaskSlots."""


class Dispatcher:
    """The leader's decisions, for one term.

    Args:
        epoch: this leader's term, at least 1; messages of a lower one are dropped.
        name: the JobManager's name, for messages to people.
        settings: the cluster's settings; a job's own settings go over them.
        started_wall_ms: wall clock at the start, for what people see.
        chance: numbers from 0 to 1, for the jitter of restarts.
    """

    def __init__(
        self,
        epoch: Epoch,
        name: str,
        settings: Settings,
        versions: Versions,
        started_wall_ms: int,
        chance: Callable[[], float],
    ) -> None:
        self._epoch = epoch
        self._settings = settings
        self._started_wall_ms = started_wall_ms
        self._wall_offset_ms: int | None = None
        self._story = Story()
        self._peers = Peers(epoch, name, versions)
        self._resources = ResourceManager(epoch, settings)
        self._jobs = JobTable()
        self._logs = LogRequests()
        self._requests = ClientRequests(
            name, settings, started_wall_ms, self._peers, self._resources, self._jobs, self._logs, chance
        )
        # What a TaskManager may say; anything else it sends is not its to say.
        self._of_taskmanager: dict[type, Callable[[Turn, RegisteredTaskManager, Any], None]] = {
            m.Heartbeat: self._heartbeat,
            m.DeregisterTaskManager: self._deregister,
            m.OfferSlot: self._slot_offered,
            m.SlotLost: self._slot_lost,
            m.SlotFreed: self._slot_freed,
            m.TaskStateChanged: self._task_changed,
            m.TaskMetrics: self._task_metrics,
            m.OperatorEvent: self._operator_event,
            m.CollectedRows: self._collected_rows,
            m.LogChunk: self._log_chunk,
            m.CoordinatorSnapshot: self._coordinator_snapshot,
            m.CheckpointAcknowledged: self._about_checkpoint,
            m.CheckpointDeclined: self._about_checkpoint,
            m.AwaitsCheckpoint: self._about_checkpoint,
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
            elif isinstance(event, CheckpointStored):
                self._checkpoint_stored(turn, event)
            elif isinstance(event, CheckpointLoaded):
                self._checkpoint_loaded(turn, event)
            else:
                raise TypeError(f"{type(event).__name__} is no event of the Dispatcher")
        for entry in self._resources.match(turn):
            job = self._jobs.get(entry.job_id)
            if job is not None:
                job.unfittable(turn, entry)
        for active in self._jobs.active():
            active.answer(turn)
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

    def _received(self, turn: Turn, peer: bytes, message: m.Message) -> None:
        if isinstance(message, m.Hello):
            self._peers.greet(turn, peer, message)
            return
        known = self._peers.admit(turn, peer, message)
        if known is None:
            return
        if isinstance(message, m.RegisterTaskManager) and known.role == "taskmanager":
            self._register(turn, peer, known, message)
        elif known.role == "taskmanager" and type(message) in self._of_taskmanager:
            tm = self._resources.at_peer(peer)
            if tm is None:
                turn.send(peer, m.UnknownTaskManager(self._epoch, getattr(message, "taskmanager_id", "")))
                return
            self._resources.heard(turn, tm)
            self._of_taskmanager[type(message)](turn, tm, message)
        elif known.role != "client" or not self._requests.answer(turn, peer, message):
            turn.log("warning", f"A {known.role} sent {type(message).__name__}; ignored.", peer=peer.hex())

    def _peer_gone(self, turn: Turn, peer: bytes) -> None:
        if not self._peers.gone(peer):
            return
        self._logs.client_gone(peer)
        for job in self._jobs:
            job.client_gone(turn, peer)
        tm = self._resources.at_peer(peer)
        if tm is not None:
            self._lost(turn, tm, "closed its connection without taking leave")

    # -- TaskManagers -----------------------------------------------------------------------------

    def _register(self, turn: Turn, peer: bytes, known: Peer, message: m.RegisterTaskManager) -> None:
        resources = message.resources
        amounts = (resources.cpu_millis, resources.memory_bytes, resources.managed_memory_bytes)
        if not 1 <= message.slots <= SLOTS_MAX or min(amounts) < 0:
            error = ClusterError(
                f"TaskManager {message.taskmanager_id} offers {message.slots} slots.",
                detail=f"Allowed: 1 to {SLOTS_MAX}, with resources that are not negative.",
                hint="Set taskmanager.numberOfTaskSlots.",
            )
            self._peers.refuse(turn, peer, 0, error)
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
        turn.send(tm.peer, m.HeartbeatAck(self._epoch, message.taskmanager_id, message.sent_ms))

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
                job.taskmanager_lost(turn, tm, sentence)
                job.proceed(turn)
        self._supply_changed()

    def _supply_changed(self) -> None:
        for job in self._jobs.active():
            job.supply_changed()

    # -- slots and tasks --------------------------------------------------------------------------

    def _job_of(self, turn: Turn, tm: RegisteredTaskManager, allocation: str, what: str) -> JobMaster | None:
        held = self._resources.holder(allocation)
        if held is None or held[0] is not tm:
            turn.tell(allocation, f"ignored {what} from {tm.taskmanager_id}: that tenure is over")
            return None
        return self._jobs.get(held[1].job_id)

    def _slot_offered(self, turn: Turn, tm: RegisteredTaskManager, message: m.OfferSlot) -> None:
        allocation = message.allocation_id
        held = self._resources.holder(allocation)
        if held is None or held[0] is not tm or held[1].state == "releasing":
            # A worker nobody waits for: it must not sit in its slot for ever.
            turn.send(tm.peer, m.RejectSlot(self._epoch, allocation, "nobody waits for this slot"))
            return
        slot = held[1]
        job = self._jobs.get(slot.job_id)
        refusal = "its job is not known" if job is None else job.offer(turn, tm, slot, message)
        if refusal or job is None:
            turn.tell(allocation, f"the offer is rejected: {refusal}")
            self._resources.release(turn, allocation, tell_taskmanager=False)
            turn.send(tm.peer, m.RejectSlot(self._epoch, allocation, refusal))
            if job is not None:
                job.declare(turn)
            return
        slot.worker_pid = message.pid
        self._resources.accept(turn, allocation)
        job.proceed(turn)

    def _slot_lost(self, turn: Turn, tm: RegisteredTaskManager, message: m.SlotLost) -> None:
        job = self._job_of(turn, tm, message.allocation_id, "SlotLost")
        held = self._resources.holder(message.allocation_id)
        if held is None or held[0] is not tm:
            return
        index, released = held[1].index, held[1].state == "releasing"
        self._resources.freed(turn, message.allocation_id)
        if job is not None and not released:
            job.slot_lost(turn, message.allocation_id, tm, index, message.reason)
            job.proceed(turn)
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
            job.proceed(turn)

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

    # -- checkpoints ------------------------------------------------------------------------------

    def _coordinator_snapshot(
        self, turn: Turn, _tm: RegisteredTaskManager, message: m.CoordinatorSnapshot
    ) -> None:
        job = self._jobs.get(message.job_id)
        if job is not None:
            job.checkpoints.coordinator_snapshot(turn, message)
            job.proceed(turn)

    def _about_checkpoint(
        self,
        turn: Turn,
        tm: RegisteredTaskManager,
        message: m.CheckpointAcknowledged | m.CheckpointDeclined | m.AwaitsCheckpoint,
    ) -> None:
        job = self._job_of(turn, tm, message.allocation_id, type(message).__name__)
        if job is None:
            return
        if isinstance(message, m.CheckpointAcknowledged):
            job.checkpoints.acknowledged(turn, message)
        elif isinstance(message, m.CheckpointDeclined):
            job.checkpoints.declined(turn, message)
        else:
            job.checkpoints.awaits(turn, message)
        job.proceed(turn)

    def _checkpoint_stored(self, turn: Turn, event: CheckpointStored) -> None:
        job = self._jobs.get(event.job_id)
        if job is not None:
            job.checkpoints.stored(turn, event.checkpoint_id, event.error)
            job.proceed(turn)

    def _checkpoint_loaded(self, turn: Turn, event: CheckpointLoaded) -> None:
        job = self._jobs.get(event.job_id)
        if job is not None:
            job.loaded(turn, event)
            job.proceed(turn)

    # -- time -------------------------------------------------------------------------------------

    def _deadline_passed(self, turn: Turn) -> None:
        for tm in self._resources.watch(turn):
            silence_s = (turn.now_ms - tm.last_heard_ms) / 1000
            self._lost(turn, tm, f"was silent for {silence_s:.1f} s and is gone")
        for job in self._jobs.active():
            job.deadline_passed(turn)
