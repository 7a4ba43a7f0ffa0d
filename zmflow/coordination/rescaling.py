"""How a running job goes on at another parallelism: a checkpoint, and a restart that is no failure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from zmflow.config import Settings
from zmflow.config.options import JOB_SLOTS_MAX, SCHEDULER
from zmflow.coordination.checkpoints.coordinator import CheckpointAnswer, CheckpointCoordinator
from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.scheduler import Scheduler
from zmflow.coordination.turn import Turn
from zmflow.errors import ClusterError
from zmflow.graph.job_graph import JobGraph, JobVertex
from zmflow.graph.sharing import slots_required
from zmflow.protocol.messages import JobState, RescaleDone, RescaleJob

__all__ = ["RescaleRequest", "Rescaling", "rescaled"]


@dataclass(frozen=True, slots=True)
class RescaleRequest:
    """Who wants which parallelism."""

    peer: bytes
    request_id: int
    parallelism: int
    graph: JobGraph


def rescaled(graph: JobGraph, parallelism: int) -> JobGraph:
    """The job with this parallelism.

    What the program runs in one subtask stays so, with what is fed by it in order, without an exchange.

    Raises:
        ClusterError: more than the key groups of a vertex, or nothing of the job would change.
    """
    fixed = _fixed(graph)
    vertices = []
    for vertex in graph.vertices:
        if vertex.vertex_id in fixed:
            vertices.append(vertex)
            continue
        if not 1 <= parallelism <= vertex.max_parallelism:
            raise ClusterError(
                f"The job {graph.name!r} cannot run at parallelism {parallelism}.",
                detail=f"{vertex.name} has max parallelism {vertex.max_parallelism}.",
                hint="Max parallelism is chosen when a job starts without state: set_max_parallelism().",
            )
        vertices.append(msgspec.structs.replace(vertex, parallelism=parallelism))
    if vertices == graph.vertices:
        raise ClusterError(
            f"The job {graph.name!r} runs at parallelism {parallelism} already, as far as it can.",
            hint="Operators with parallelism 1 keep it.",
        )
    return msgspec.structs.replace(graph, vertices=vertices)


def _fixed(graph: JobGraph) -> set[str]:
    """The vertices that keep their parallelism, and those that must have the same as one of them."""
    fixed = {vertex.vertex_id for vertex in graph.vertices if _is_single(vertex)}
    groups: dict[str, set[str]] = {}
    for vertex in graph.vertices:
        if vertex.co_location_group:
            groups.setdefault(vertex.co_location_group, set()).add(vertex.vertex_id)
    tied = [{edge.source, edge.target} for edge in graph.edges if edge.partitioner == "FORWARD"]
    tied += groups.values()
    grown = True
    while grown:
        more = {vertex for members in tied if members & fixed for vertex in members}
        grown = not more <= fixed
        fixed |= more
    return fixed


def _is_single(vertex: JobVertex) -> bool:
    return vertex.max_parallelism == 1 or (vertex.parallelism_set and vertex.parallelism == 1)


class Rescaling:
    """The rescaling of one job, one at a time.

    Args:
        settings: the cluster's under those of the job.
    """

    def __init__(
        self,
        settings: Settings,
        scheduler: Scheduler,
        checkpoints: CheckpointCoordinator,
        resources: ResourceManager,
    ) -> None:
        self._settings = settings
        self._scheduler = scheduler
        self._checkpoints = checkpoints
        self._resources = resources
        self._waiting: RescaleRequest | None = None  # until the checkpoint is complete
        self._ready: RescaleRequest | None = None  # until all tasks have stopped
        self._applied: RescaleRequest | None = None  # until they run again

    @property
    def wanted(self) -> str:
        """Why all tasks are to restart now; empty: they need not."""
        return f"it goes on at parallelism {self._ready.parallelism}" if self._ready is not None else ""

    def request(self, turn: Turn, peer: bytes, message: RescaleJob, state: JobState) -> None:
        """Take a checkpoint to go on from; ``RescaleDone`` follows.

        Raises:
            ClusterError: the job cannot run so, or not change now.
        """
        scheduler = self._scheduler
        graph = rescaled(scheduler.graph, message.parallelism)
        request = RescaleRequest(peer, message.request_id, message.parallelism, graph)
        why = self._obstacle(graph, state)
        why = why or self._checkpoints.trigger(turn, "checkpoint", "", request)
        if why:
            raise ClusterError(f"The job {scheduler.job_id} cannot be rescaled: {why}.")
        self._waiting = request

    def _obstacle(self, graph: JobGraph, state: JobState) -> str:
        scheduler = self._scheduler
        if state != "RUNNING":
            return f"it is {state}"
        if self._waiting or self._ready or self._applied:
            return "it is being rescaled already"
        if scheduler.pinned:
            return "rows of it were collected already and cannot be taken back"
        if scheduler.layout.executions.count("FINISHED"):
            return "part of it has finished"
        need, limit = slots_required(graph.vertices), self._settings[JOB_SLOTS_MAX]
        if limit and need > limit:
            return f"it would need {need} slots, and a job may hold {limit}"
        there = self._resources.free + self._resources.held(scheduler.job_id)
        if need > there and self._settings[SCHEDULER] != "adaptive":
            return f"it would need {need} slots, and {self._resources.supply()}"
        return ""

    def checkpointed(self, turn: Turn, answer: CheckpointAnswer) -> None:
        """The checkpoint is complete, or was given up; a newer one that is complete does as well."""
        request = self._waiting
        if request is None or answer.request is not request:
            return
        self._waiting = None
        if answer.failure and self._checkpoints.completed_id <= answer.checkpoint_id:
            self._send(turn, request, f"There is no checkpoint to go on from: {answer.failure}")
        else:
            self._ready = request

    def apply(self, turn: Turn) -> bool:
        """All tasks have stopped: lay the job out anew. False when that is not wanted."""
        request, self._ready = self._ready, None
        if request is None:
            return False
        self._scheduler.rescale(turn, request.graph)
        self._applied = request
        return True

    def look(self, turn: Turn, state: JobState) -> None:
        """Answer once the tasks run again, or never will."""
        over = state in ("FAILING", "FAILED", "CANCELLING", "CANCELED", "FINISHED")
        executions = self._scheduler.layout.executions
        runs = executions.count("RUNNING") + executions.count("FINISHED") == executions.total
        if self._applied is not None and (runs or over):
            request, self._applied = self._applied, None
            self._send(turn, request, "" if runs else f"The job is {state}.")
        elif self._ready is not None and over:
            request, self._ready = self._ready, None
            self._send(turn, request, f"The job is {state}.")

    def _send(self, turn: Turn, request: RescaleRequest, failure: str) -> None:
        job_id = self._scheduler.job_id
        done = RescaleDone(turn.epoch, request.request_id, job_id, request.parallelism, failure)
        turn.send(request.peer, done)
