"""What clients ask of the JobManager, and the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from zmflow.config import Settings
from zmflow.config.options import JOB_SLOTS_MAX, SCHEDULER
from zmflow.coordination.admission import admit
from zmflow.coordination.cluster_status import taskmanager_status
from zmflow.coordination.job_master import JobMaster
from zmflow.coordination.job_table import JobTable
from zmflow.coordination.log_requests import LogRequests
from zmflow.coordination.peers import Peers
from zmflow.coordination.registered_taskmanager import RegisteredTaskManager
from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.turn import Turn
from zmflow.errors import ClusterError, ZmflowError
from zmflow.graph.job_graph import JobGraph
from zmflow.graph.sharing import slots_required
from zmflow.ids import JobId
from zmflow.protocol import messages as m

__all__ = ["ClientRequests"]


class ClientRequests:
    """Answers clients. What a request changes, it changes in the jobs and the ResourceManager it was given.

    Args:
        name: the JobManager's name.
        settings: the cluster's settings; a job's own settings go over them.
        chance: numbers from 0 to 1, for the jitter of restarts.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        started_wall_ms: int,
        peers: Peers,
        resources: ResourceManager,
        jobs: JobTable,
        logs: LogRequests,
        chance: Callable[[], float],
    ) -> None:
        self._name = name
        self._settings = settings
        self._started_wall_ms = started_wall_ms
        self._peers = peers
        self._resources = resources
        self._jobs = jobs
        self._logs = logs
        self._chance = chance
        self._answers: dict[type, Callable[[Turn, bytes, Any], None]] = {
            m.SubmitJob: self._submit,
            m.WatchJob: self._watch,
            m.CancelJob: self._cancel,
            m.ListJobs: self._list_jobs,
            m.GetJob: self._get_job,
            m.GetCheckpoints: self._get_checkpoints,
            m.TriggerSavepoint: self._trigger_savepoint,
            m.RescaleJob: self._rescale,
            m.GetCluster: self._get_cluster,
            m.DrainTaskManager: self._drain,
            m.GetLogs: self._get_logs,
            m.CollectAck: self._collect_ack,
        }

    def answer(self, turn: Turn, peer: bytes, message: m.Message) -> bool:
        """Answer a request. False for a message that is not a client's to send."""
        answer = self._answers.get(type(message))
        if answer is None:
            return False
        answer(turn, peer, message)
        return True

    # -- jobs -------------------------------------------------------------------------------------

    def _find(self, turn: Turn, peer: bytes, request_id: int, job_id: str) -> JobMaster | None:
        try:
            return self._jobs.find(job_id)
        except ZmflowError as error:
            self._peers.refuse(turn, peer, request_id, error)
            return None

    def _submit(self, turn: Turn, peer: bytes, message: m.SubmitJob) -> None:
        if self._jobs.get(message.job_id) is None:
            try:
                graph = admit(message.job_id, message.job_graph)
                settings = self._settings_of(graph)
                _check_slots_of_job(graph, settings)
                job_id = JobId(message.job_id)
                job = JobMaster(job_id, graph, settings, self._resources, self._chance, turn)
            except ZmflowError as error:
                turn.log("warning", f"A job was refused: {error.message}", job=message.job_id)
                self._peers.refuse(turn, peer, message.request_id, error)
                return
            self._jobs.add(job)
            turn.log("info", f"Job {graph.name!r} was submitted.", job=message.job_id)
        turn.send(peer, m.JobAccepted(turn.epoch, message.request_id, message.job_id))

    def _settings_of(self, graph: JobGraph) -> Settings:
        limit = self._settings.value_of(JOB_SLOTS_MAX)  # the cluster's to set, not the job's
        job = self._settings.with_values(graph.settings, "the job")
        return job.with_values({JOB_SLOTS_MAX.key: limit.text}, limit.where)

    def _watch(self, turn: Turn, peer: bytes, message: m.WatchJob) -> None:
        job = self._find(turn, peer, message.request_id, message.job_id)
        if job is not None and not job.watch(turn, peer, message.request_id, collect=message.collect):
            error = ClusterError(
                f"The rows of job {job.job_id} already go to another client.",
                hint="Only one client can collect the rows of a job.",
            )
            self._peers.refuse(turn, peer, message.request_id, error)

    def _cancel(self, turn: Turn, peer: bytes, message: m.CancelJob) -> None:
        job = self._find(turn, peer, message.request_id, message.job_id)
        if job is not None:
            job.cancel(turn, "a client asked for it")
            turn.send(peer, job.status(message.request_id, turn.now_ms))

    def _list_jobs(self, turn: Turn, peer: bytes, message: m.ListJobs) -> None:
        jobs = [job.summary() for job in self._jobs]
        turn.send(peer, m.JobList(turn.epoch, message.request_id, jobs))

    def _get_job(self, turn: Turn, peer: bytes, message: m.GetJob) -> None:
        job = self._find(turn, peer, message.request_id, message.job_id)
        if job is not None:
            turn.send(peer, job.status(message.request_id, turn.now_ms))

    def _get_checkpoints(self, turn: Turn, peer: bytes, message: m.GetCheckpoints) -> None:
        job = self._find(turn, peer, message.request_id, message.job_id)
        if job is not None:
            records = job.checkpoints.records(turn.now_ms, message.checkpoint_id)
            summary = job.checkpoints.summary()
            turn.send(
                peer,
                m.CheckpointStatistics(turn.epoch, message.request_id, job.job_id, summary, records),
            )

    def _trigger_savepoint(self, turn: Turn, peer: bytes, message: m.TriggerSavepoint) -> None:
        job = self._find(turn, peer, message.request_id, message.job_id)
        if job is None:
            return
        try:
            job.savepoints.request(turn, peer, message, job.state)
        except ZmflowError as error:
            self._peers.refuse(turn, peer, message.request_id, error)

    def _rescale(self, turn: Turn, peer: bytes, message: m.RescaleJob) -> None:
        job = self._find(turn, peer, message.request_id, message.job_id)
        if job is None:
            return
        try:
            job.rescaling.request(turn, peer, message, job.state)
        except ZmflowError as error:
            self._peers.refuse(turn, peer, message.request_id, error)

    def _collect_ack(self, turn: Turn, _peer: bytes, message: m.CollectAck) -> None:
        job = self._jobs.get(message.job_id)
        if job is not None:
            job.to_worker(turn, message)

    # -- the cluster ------------------------------------------------------------------------------

    def _get_cluster(self, turn: Turn, peer: bytes, message: m.GetCluster) -> None:
        def job_name(job_id: str) -> str:
            job = self._jobs.get(job_id)
            return job.summary().name if job is not None else ""

        taskmanagers = [
            taskmanager_status(tm, turn.now_ms, job_name, self._drain_note(tm)) for tm in self._resources
        ]
        jobs = [job.summary() for job in self._jobs]
        status = m.ClusterStatus(
            turn.epoch, message.request_id, self._name, self._started_wall_ms, taskmanagers, jobs
        )
        turn.send(peer, status)

    def _drain_note(self, tm: RegisteredTaskManager) -> str:
        if not tm.draining:
            return ""
        notes = [job.drain_note(tm.taskmanager_id) for job in self._jobs.active()]
        waiting = "; ".join(note for note in notes if note)
        if waiting or not tm.slots_used:
            return waiting
        return f"{tm.slots_used} workers are ending"

    def _drain(self, turn: Turn, peer: bytes, message: m.DrainTaskManager) -> None:
        wanted = message.taskmanager
        found = [tm for tm in self._resources if wanted in (tm.taskmanager_id, tm.host)] or [
            tm for tm in self._resources if wanted and tm.taskmanager_id.startswith(wanted)
        ]
        if not found and not message.drain and self._resources.is_drained(wanted):
            # A host whose TaskManager is stopped meanwhile.
            self._resources.drain([wanted], drain=False)
            turn.send(peer, m.DrainAccepted(turn.epoch, message.request_id, []))
            return
        if not found:
            known = ", ".join(f"{tm.taskmanager_id} on {tm.host}" for tm in self._resources)
            error = ClusterError(
                f"This cluster knows no TaskManager {wanted!r}.",
                detail=f"Registered: {known or 'none'}.",
                hint="Give a host, or the id of a TaskManager or its beginning; see 'zmflow slots'.",
            )
            self._peers.refuse(turn, peer, message.request_id, error)
            return
        names = [wanted] if any(tm.host == wanted for tm in found) else [tm.taskmanager_id for tm in found]
        changed = self._resources.drain(names, drain=message.drain)
        verb = "is being drained" if message.drain else "takes slots again"
        for tm in changed:
            turn.log("info", f"TaskManager {tm.taskmanager_id} on {tm.host} {verb}.")
            turn.tell(tm.taskmanager_id, verb)
            for job in self._jobs.active():
                job.drain(turn, tm.taskmanager_id, drain=message.drain)
                job.proceed(turn)
        ids = [tm.taskmanager_id for tm in found]
        turn.send(peer, m.DrainAccepted(turn.epoch, message.request_id, ids))

    def _get_logs(self, turn: Turn, peer: bytes, message: m.GetLogs) -> None:
        job = self._find(turn, peer, message.request_id, message.job_id)
        if job is None:
            return
        asked = [key for key in job.taskmanagers if self._resources.get(key) is not None]
        if not asked:
            nothing = m.LogChunk(turn.epoch, message.request_id, job.job_id, peer.hex(), "", b"", 0)
            turn.send(peer, nothing)
            return
        self._logs.ask(peer, message.request_id, job.job_id, asked)
        forwarded = msgspec.structs.replace(message, job_id=job.job_id, reply_to=peer.hex())
        for taskmanager_id in asked:
            self._resources.send(turn, taskmanager_id, forwarded)


def _check_slots_of_job(graph: JobGraph, settings: Settings) -> None:
    """Refuse a job that may never hold the slots it needs. The adaptive scheduler makes do with fewer."""
    limit = settings[JOB_SLOTS_MAX]
    need = slots_required(graph.vertices)
    if limit and need > limit and settings[SCHEDULER] != "adaptive":
        raise ClusterError(
            f"The job {graph.name!r} needs {need} slots, and a job may hold {limit}.",
            detail=f"slotmanager.number-of-slots-per-job.max is {limit}.",
            hint="Lower the parallelism, or use jobmanager.scheduler = adaptive.",
        )
