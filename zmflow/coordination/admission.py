"""Which submissions are taken: what would overwhelm the leader is refused before anything is built.

A few bytes can describe a job of a billion channels; the leader serves every job, so it counts first.
"""

from __future__ import annotations

import re

from zmflow.errors import JobGraphError, ProtocolError
from zmflow.graph.job_graph import JobGraph, decode_job_graph
from zmflow.graph.managed_memory import USE_CASES, WEIGHT_MAX
from zmflow.graph.partitioners import consumers_of
from zmflow.graph.sharing import check_co_location, impossible_amount

__all__ = ["CHANNELS_MAX", "TASKS_MAX", "admit"]

TASKS_MAX = 100_000
"""Tasks of one job. Ten times the largest job aimed at; about 30 MB of the leader's memory."""

CHANNELS_MAX = 4_000_000
"""Channels of one job: two thousand subtasks, each connected to two thousand. Each channel is some
hundred bytes of deployment, so this is also where deployment messages become too large."""

JOB_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""Job ids name directories and log files on TaskManagers, so they are nothing but a plain word."""


def admit(job_id: str, job_graph: bytes) -> JobGraph:
    """The JobGraph of a submission that can be run.

    Raises:
        ProtocolError: the id or the bytes are not what a client of ours sends.
        JobGraphError: the job is larger than a leader takes, or no slots can keep its co-location;
            says the size and the limit, or the vertices.
    """
    if JOB_ID.fullmatch(job_id) is None:
        raise ProtocolError("A job id is not a plain word.", detail=repr(job_id[:100]))
    graph = decode_job_graph(job_graph)
    tasks = sum(vertex.parallelism for vertex in graph.vertices)
    _limit(graph, "tasks", tasks, TASKS_MAX)
    parallelism = {vertex.vertex_id: vertex.parallelism for vertex in graph.vertices}
    channels = 0
    if len({edge.edge_id for edge in graph.edges}) < len(graph.edges):
        raise ProtocolError("A JobGraph names an edge twice.", detail=graph.name)
    for edge in graph.edges:
        producers, consumers = parallelism[edge.source], parallelism[edge.target]
        if edge.pointwise:
            channels += sum(len(consumers_of(True, i, producers, consumers)) for i in range(producers))
        else:
            channels += producers * consumers
        _limit(graph, "channels", channels, CHANNELS_MAX)
        if edge.input_index >= len(graph.edges):
            raise ProtocolError("A JobGraph leaves gates without input.", detail=edge.edge_id)
    check_co_location(graph.vertices)
    _check_amounts(graph)
    return graph


def _check_amounts(graph: JobGraph) -> None:
    for group in graph.sharing_groups:
        reason = impossible_amount(group.resources)
        if reason:
            raise ProtocolError(
                "A JobGraph asks for slots that cannot be.",
                detail=f"Slot sharing group {group.name!r}: {reason}",
            )
    for vertex in graph.vertices:
        most = WEIGHT_MAX * max(1, len(vertex.chain))  # a vertex has the sum of its operators' weights
        for use_case, weight in vertex.managed_memory_weights.items():
            if use_case not in USE_CASES or not 1 <= weight <= most:
                raise ProtocolError(
                    "A JobGraph has an impossible weight of managed memory.",
                    detail=f"{vertex.name}: {use_case[:100]!r} has weight {weight}.",
                )


def _limit(graph: JobGraph, what: str, number: int, limit: int) -> None:
    if number > limit:
        raise JobGraphError(
            f"The job {graph.name!r} has more {what} than a JobManager takes.",
            detail=f"It has at least {number}; the limit is {limit}.",
            hint="Lower the parallelism, or let more operators be chained.",
        )
