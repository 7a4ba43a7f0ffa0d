"""Jobs that take checkpoints, and what tests ask about them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from zmflow.coordination.effects import StartWorker
from zmflow.graph.job_graph import JobGraph, JobVertex
from zmflow.protocol.checkpoint_statistics import CheckpointRecord
from zmflow.protocol.messages import (
    CheckpointStatistics,
    GetCheckpoints,
    Message,
    NotifyCheckpoint,
    SnapshotCoordinator,
    TaskDeployment,
    TriggerCheckpoint,
)
from zmflow.testing.control_plane import Behaviour, ControlPlane

from .job_graphs import edge, graph, vertex

__all__ = [
    "EVERY_SECOND",
    "behaves",
    "checkpoints",
    "deployed",
    "notified",
    "said",
    "snapshotted",
    "source",
    "source_and_sink",
    "statistics",
    "triggered",
]

EVERY_SECOND = {
    "execution.checkpointing.interval": "1 s",
    "execution.checkpointing.timeout": "3 s",
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": "100",
    "restart-strategy.fixed-delay.delay": "100 ms",
}
"""With ``chance`` 0.5 the first checkpoint begins after half a second."""


def source(name: str, parallelism: int = 1) -> JobVertex:
    """A vertex whose chain begins with a source, which has a split enumerator."""
    plain = vertex(name, parallelism)
    chain = [msgspec.structs.replace(plain.chain[0], kind="source")]
    return msgspec.structs.replace(plain, chain=chain)


def source_and_sink(
    parallelism: int = 1, settings: dict[str, str] | None = None, *, pointwise: bool = False
) -> JobGraph:
    """A source ``s`` and what takes its records, ``t``."""
    return graph(
        [source("s", parallelism), vertex("t", parallelism)],
        [edge("s", "t", pointwise=pointwise)],
        {**EVERY_SECOND, **(settings or {})},
    )


def behaves(**how: object) -> Callable[[StartWorker], Behaviour]:
    """Every worker does this, and its tasks run on."""
    behaviour = Behaviour(finishes=False, **how)  # type: ignore[arg-type]
    return lambda _start: behaviour


def checkpoints(cluster: ControlPlane, detailed: int = 0, job_id: str = "j1") -> list[CheckpointRecord]:
    """The newest checkpoints, as a client sees them."""
    return statistics(cluster, detailed, job_id).records


def statistics(cluster: ControlPlane, detailed: int = 0, job_id: str = "j1") -> CheckpointStatistics:
    """All that a client can ask about checkpoints."""
    client = cluster.add_client("asker")
    cluster.say(client, GetCheckpoints(1, 1, job_id, detailed))
    cluster.settle()
    return client.last(CheckpointStatistics)


def said(cluster: ControlPlane, kind: type[Message]) -> list[Message]:
    """What the living workers were told, of a kind."""
    return [m for worker in cluster.workers for m in worker.received if isinstance(m, kind)]


def triggered(cluster: ControlPlane, checkpoint_id: int) -> list[str]:
    """The attempts that were told to begin a checkpoint."""
    return sorted(
        attempt
        for m in said(cluster, TriggerCheckpoint)
        if isinstance(m, TriggerCheckpoint) and m.barrier.checkpoint_id == checkpoint_id
        for attempt in m.attempt_ids
    )


def notified(cluster: ControlPlane) -> list[tuple[int, bool]]:
    """Which ends of checkpoints the living workers were told, in order, each once."""
    news = [m for m in said(cluster, NotifyCheckpoint) if isinstance(m, NotifyCheckpoint)]
    return list(dict.fromkeys((m.checkpoint_id, m.completed) for m in news))


def snapshotted(cluster: ControlPlane) -> list[tuple[str, int, int]]:
    """Source, checkpoint and number of each enumerator that was asked for its snapshot."""
    asked = [m for m in said(cluster, SnapshotCoordinator) if isinstance(m, SnapshotCoordinator)]
    return [(m.vertex_id, m.checkpoint_id, m.coordinator_number) for m in asked]


def deployed(cluster: ControlPlane, vertex_id: str, index: int = 0) -> TaskDeployment:
    """The deployment of the task that runs now."""
    return next(
        task
        for worker in cluster.workers
        for task in worker.live.values()
        if (task.vertex_id, task.subtask_index) == (vertex_id, index)
    )
