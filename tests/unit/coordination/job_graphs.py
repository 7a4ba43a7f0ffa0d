"""JobGraphs for tests of the control plane; their operators are opaque bytes."""

from __future__ import annotations

from zmflow.coordination.effects import StartWorker
from zmflow.graph.job_graph import JobEdge, JobGraph, JobOperator, JobVertex, SharingGroup, encode_job_graph
from zmflow.protocol.job_files import new_job_file
from zmflow.protocol.messages import ResourceProfile, SubmitJob
from zmflow.testing.control_plane import Behaviour

__all__ = ["RUNS_ON", "edge", "graph", "pipeline", "runs_on", "submit", "vertex"]

RUNS_ON = Behaviour(finishes=False)


def runs_on(_start: StartWorker) -> Behaviour:
    """Tasks run until they are cancelled."""
    return RUNS_ON


def vertex(
    name: str,
    parallelism: int = 1,
    group: str = "default",
    *,
    co_location: str = "",
    weights: dict[str, int] | None = None,
) -> JobVertex:
    """A vertex with one operator."""
    operator = JobOperator(f"op-{name}", "", name, "operator")
    return JobVertex(
        name,
        f"vertex {name}",
        parallelism,
        max(128, parallelism),
        group,
        [operator],
        b"code of " + name.encode(),
        co_location,
        weights or {},
    )


def edge(source: str, target: str, *, index: int = 0, pointwise: bool = False) -> JobEdge:
    """An exchange into the gate ``index`` of the target."""
    partitioner = "RESCALE" if pointwise else "REBALANCE"
    return JobEdge(f"{source}-{target}-{index}", source, target, index, partitioner, pointwise)


def graph(
    vertices: list[JobVertex],
    edges: list[JobEdge] | None = None,
    settings: dict[str, str] | None = None,
    resources: dict[str, ResourceProfile] | None = None,
) -> JobGraph:
    """A JobGraph named ``job``; ``resources`` are what its sharing groups ask for."""
    groups = [SharingGroup(name, profile) for name, profile in (resources or {}).items()]
    files = [new_job_file("m.py", "python", b"x = 1"), new_job_file("words", "file", b"a b c")]
    return JobGraph("job", vertices, edges or [], settings or {}, [], "STREAMING", groups, files)


def pipeline(
    parallelism: int = 1, *, separate: bool = False, settings: dict[str, str] | None = None
) -> JobGraph:
    """Two chains joined by an exchange, in one sharing group or in one each."""
    groups = ("a", "b") if separate else ("default", "default")
    return graph(
        [vertex("v1", parallelism, groups[0]), vertex("v2", parallelism, groups[1])],
        [edge("v1", "v2")],
        settings,
    )


def submit(job_id: str, job: JobGraph, *, epoch: int = 1, request_id: int = 7) -> SubmitJob:
    """The submission of a job."""
    return SubmitJob(epoch, request_id, job_id, encode_job_graph(job))
