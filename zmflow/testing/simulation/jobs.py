"""The jobs of the simulation: shapes of graphs, restart strategies, and what a client wants of one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal, TypeAlias

import msgspec

from zmflow.graph.job_graph import JobEdge, JobGraph, JobOperator, JobVertex, SharingGroup, encode_job_graph
from zmflow.protocol.job_files import new_job_file
from zmflow.protocol.resources import ResourceProfile

__all__ = [
    "CHECKPOINTS",
    "CHECKPOINT_MS",
    "STRATEGIES",
    "CheckpointPlan",
    "JobPlan",
    "JobShape",
    "Strategy",
    "shapes",
    "submission",
]

SHAPES = 160
"""Graphs that are made once per process; a seed picks among them."""

IMPOSSIBLE = ResourceProfile(64_000_000)
"""What no TaskManager has: 64,000 cores."""

_Kind: TypeAlias = Literal["source", "operator"]

FILES = (new_job_file("m.py", "python", b"x = 1"), new_job_file("words", "file", b"a b c"))
"""What some of the jobs bring along: none of them, the first, or both."""

CPU_OF_SLOT_MILLIS = 1000
MEMORY_OF_SLOT_BYTES = 1 << 30
"""What each slot's equal share is, in the simulated cluster."""


@dataclass(frozen=True, slots=True)
class JobShape:
    """A JobGraph without settings, and what the rules say about it."""

    graph: JobGraph
    slots: int  # that it needs at its full parallelism
    groups: dict[str, str]  # sharing group by vertex
    co_located: dict[str, str]  # co-location group by vertex, where there is one
    impossible: bool


@dataclass(frozen=True, slots=True)
class Strategy:
    """A restart strategy: its settings, and how many restarts it allows; -1: any number."""

    settings: tuple[tuple[str, str], ...]
    restarts_max: int


@dataclass(frozen=True, slots=True)
class CheckpointPlan:
    """How a job takes checkpoints. ``commits``: its tasks wait for a last one when their input has ended."""

    settings: tuple[tuple[str, str], ...]
    commits: bool


@dataclass(slots=True)
class JobPlan:
    """A job as its client wants it, and what the client has seen of it."""

    job_id: str
    shape: JobShape
    strategy: Strategy
    bounded: bool
    submit_ms: int
    cancel_ms: int  # -1: never
    watched: bool
    collected: bool  # the job goes with the client that takes its rows
    priority: int = 0
    checkpoints: CheckpointPlan | None = None  # None: it takes none
    cancelled: bool = False  # the client asked for it, or will as soon as it can
    seen_end: str = ""  # the terminal state its client saw


def _strategy(restarts_max: int, kind: str, **settings: str) -> Strategy:
    texts = {f"restart-strategy.{kind}.{key.replace('_', '-')}": text for key, text in settings.items()}
    return Strategy((("restart-strategy.type", kind), *texts.items()), restarts_max)


CHECKPOINT_MS = 4_000
"""The longest interval and the timeout: within this time a checkpoint begins, or is given up."""


def _checkpoints(commits: bool, **settings: str) -> CheckpointPlan:
    texts = {
        "interval": "1 s",
        "timeout": "2 s",
        "tolerable-failed-checkpoints": "1000000",
        **{key.replace("_", "-"): text for key, text in settings.items()},
    }
    return CheckpointPlan(
        tuple((f"execution.checkpointing.{key}", text) for key, text in texts.items()), commits
    )


CHECKPOINTS: tuple[tuple[CheckpointPlan | None, int], ...] = (
    (None, 70),
    (_checkpoints(False, dir="/c"), 8),
    (_checkpoints(True, dir="/c", interval="2 s"), 8),
    (_checkpoints(True, interval="2 s", min_pause="500 ms"), 4),
    (_checkpoints(False, dir="/c", max_concurrent_checkpoints="2", num_retained="2"), 6),
    (_checkpoints(False, dir="/c", tolerable_failed_checkpoints="0"), 4),
)
"""With weights. A checkpoint costs a message in each direction for every task."""

_EXPONENTIAL = {
    "initial_backoff": "200 ms",
    "max_backoff": "2 s",
    "backoff_multiplier": "1.5",
    "jitter_factor": "0.1",
    "reset_backoff_threshold": "10 s",
}

STRATEGIES: tuple[tuple[Strategy, int], ...] = (
    (_strategy(-1, "fixed-delay", attempts="1000000", delay="300 ms"), 30),
    (_strategy(-1, "fixed-delay", attempts="1000000", delay="0 ms"), 20),
    (_strategy(-1, "exponential-delay", **_EXPONENTIAL), 25),
    (
        _strategy(
            -1,
            "failure-rate",
            max_failures_per_interval="1000000",
            failure_rate_interval="1 min",
            delay="200 ms",
        ),
        7,
    ),
    (_strategy(2, "fixed-delay", attempts="2", delay="200 ms"), 6),
    (_strategy(3, "exponential-delay", **_EXPONENTIAL, attempts_before_reset_backoff="3"), 4),
    (
        _strategy(
            1, "failure-rate", max_failures_per_interval="1", failure_rate_interval="5 s", delay="200 ms"
        ),
        4,
    ),
    (_strategy(0, "none"), 4),
)
"""With weights: mostly such as never give up, so that most jobs must survive everything."""


def _vertex(name: str, kind: _Kind, parallelism: int, group: str, co_location: str) -> JobVertex:
    operator = JobOperator(f"op-{name}", "", name, kind)
    return JobVertex(name, f"Vertex {name}", parallelism, 128, group, [operator], b"code", co_location)


def _draw_shape(chance: Random, number: int) -> JobShape:
    count = chance.choice((1, 1, 2, 2, 2, 3, 3, 4))
    widest = chance.choice((1, 1, 2, 2, 2, 3))
    two_groups = count > 1 and chance.random() < 0.25
    groups = [f"g{int(two_groups and index >= count // 2)}" for index in range(count)]
    widths = [widest if chance.random() < 0.7 else chance.randint(1, widest) for _ in range(count)]
    co_located: dict[int, str] = {}
    if count > 1 and chance.random() < 0.3:
        one, other = chance.sample(range(count), 2)
        if groups[one] == groups[other]:
            widths[other] = widths[one]
            co_located = {one: "together", other: "together"}
    edges = []
    for target in range(1, count):
        sources = [target - 1] if chance.random() < 0.8 else chance.sample(range(target), 1)
        if chance.random() < 0.15:
            sources = []  # another pipeline of the same job: a region of its own
        elif target > 1 and chance.random() < 0.15:
            sources = chance.sample(range(target), 2)
        for gate, source in enumerate(sources):
            pointwise = chance.random() < 0.5
            kind = "RESCALE" if pointwise else "REBALANCE"
            edges.append(JobEdge(f"e{source}-{target}", f"v{source}", f"v{target}", gate, kind, pointwise))
    fed = {edge.target for edge in edges}
    vertices = [
        _vertex(
            f"v{index}",
            "operator" if f"v{index}" in fed else "source",
            widths[index],
            groups[index],
            co_located.get(index, ""),
        )
        for index in range(count)
    ]
    impossible = number % 40 == 39
    asks: list[SharingGroup] = []
    if impossible:
        asks = [SharingGroup("g0", IMPOSSIBLE)]
    elif chance.random() < 0.25:
        share = chance.choice((CPU_OF_SLOT_MILLIS // 2, CPU_OF_SLOT_MILLIS))
        asks = [SharingGroup("g0", ResourceProfile(share, MEMORY_OF_SLOT_BYTES // 2))]
    slots = sum(
        max(width for width, group in zip(widths, groups, strict=True) if group == name)
        for name in dict.fromkeys(groups)
    )
    return JobShape(
        JobGraph("job", vertices, edges, {}, [], "STREAMING", asks, list(FILES[: number % 3])),
        slots,
        {vertex.vertex_id: vertex.sharing_group for vertex in vertices},
        {vertex.vertex_id: vertex.co_location_group for vertex in vertices if vertex.co_location_group},
        impossible,
    )


@cache
def shapes() -> tuple[JobShape, ...]:
    """The graphs a seed picks among; the same in every process."""
    chance = Random(20)  # noqa: S311 - reproducible is what it must be
    return tuple(_draw_shape(chance, number) for number in range(SHAPES))


_encoded: dict[tuple[int, Strategy, int, CheckpointPlan | None], bytes] = {}


def submission(plan: JobPlan) -> bytes:
    """The JobGraph of a job as its client submits it, made once for each kind of job."""
    # Shapes live as long as the process.
    key = (id(plan.shape), plan.strategy, plan.priority, plan.checkpoints)
    encoded = _encoded.get(key)
    if encoded is None:
        settings = dict(plan.strategy.settings)
        settings.update(plan.checkpoints.settings if plan.checkpoints is not None else ())
        if plan.priority:
            settings["job.priority"] = str(plan.priority)
        graph = msgspec.structs.replace(plan.shape.graph, settings=settings)
        encoded = _encoded[key] = encode_job_graph(graph)
    return encoded
