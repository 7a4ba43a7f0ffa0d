"""What a seed decides before anything happens: the cluster, its settings, the jobs, the plan of faults."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from random import Random
from typing import TypeVar

from zmflow.config import Settings
from zmflow.protocol.resources import ResourceProfile
from zmflow.testing.simulation.jobs import (
    CHECKPOINTS,
    CPU_OF_SLOT_MILLIS,
    MEMORY_OF_SLOT_BYTES,
    STRATEGIES,
    JobPlan,
    shapes,
)
from zmflow.testing.simulation.network import Weather

__all__ = [
    "CANCELLATION_MS",
    "FAULTS",
    "HEARTBEAT_TIMEOUT_MS",
    "SETTINGS",
    "WORKER_WAIT_MS",
    "Scenario",
    "draw_scenario",
    "total_resources",
]

T = TypeVar("T")

HEARTBEAT_TIMEOUT_MS = 6_000

CANCELLATION_MS = 3_000

WORKER_WAIT_MS = 3_000
"""How long a worker may take to be ready, and then a job to take its slot."""

SETTINGS = {
    # Few heartbeats: each costs two events of each TaskManager.
    "heartbeat.interval": "2 s",
    "heartbeat.late": "3 s",
    "heartbeat.timeout": f"{HEARTBEAT_TIMEOUT_MS} ms",
    # With the JobManager's margin of 5 s it is longer than the heartbeat timeout of the slowest clock: tasks
    # are given up only after their TaskManager must have noticed that it is cut off.
    "task.cancellation.timeout": f"{CANCELLATION_MS} ms",
    "taskmanager.worker.start-timeout": f"{WORKER_WAIT_MS} ms",
    "taskmanager.slot.timeout": f"{WORKER_WAIT_MS} ms",
    "slot.idle.timeout": "2 s",
    "slot.request.timeout": "10 min",
    "taskmanager.registration.timeout": "-1",
    "jobmanager.adaptive-scheduler.submission.resource-wait-timeout": "10 min",
    "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout": "500 ms",
    "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling": "2 s",
    "jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout": "1 s",
}
"""Of every simulated cluster; a seed adds some. Short where waiting is all that would happen."""

SUBMIT_MAX_MS = 4_000
"""Jobs are submitted within this time, most of them early."""

FAULTS_BEGIN_MS = 300
"""Before this there is hardly anything that could fail."""

FAULT_PHASE_MS = (5_000, 16_000)
"""From one to three heartbeat timeouts: every silence can be noticed, or end in time."""

BURST_MS = 1_500
"""The time in which all faults of some seeds happen: deployment, failover and the next failure."""

SLOT_REQUEST_IMPATIENT_MS = 4_000
"""The slot request timeout of the few clusters in which waiting jobs may fail."""

FAULTS: tuple[tuple[str, int], ...] = (
    ("jobmanager crash", 10),
    ("taskmanager crash", 10),
    ("worker crash", 14),
    ("client crash", 4),
    ("connection broken", 10),
    ("way cut", 14),
    ("component stalled", 10),
    ("clock step", 6),
    ("wall clock step", 2),
    ("taskmanager leaves", 5),
    ("taskmanager joins", 4),
    ("taskmanager drained", 6),
    ("user function fails", 14),
    ("memory exceeded", 5),
    ("old message", 14),
)
"""What the plan of a seed is drawn from, with weights."""


@dataclass(slots=True)
class Scenario:
    """The decisions of one seed."""

    settings: Settings
    memory_limited: bool
    slots: list[int]  # of each TaskManager
    plans: list[JobPlan]
    clients: int
    weather: Weather
    faults: list[tuple[int, str]]  # when, and what kind
    heal_ms: int
    impatient: bool  # jobs that wait for slots may fail
    keeps_draining: bool  # one TaskManager stays drained when the faults are over, and must become empty


def _weighted(chance: Random, table: tuple[tuple[T, int], ...]) -> T:
    return chance.choices([item for item, _ in table], cum_weights=list(accumulate(w for _, w in table)))[0]


@cache
def _settings(mode: str, scheduler: str, failover: str, impatient: bool, memory_limited: bool) -> Settings:
    texts = {
        **SETTINGS,
        "taskmanager.load-balance.mode": mode,
        "jobmanager.scheduler": scheduler,
        "jobmanager.execution.failover-strategy": failover,
    }
    if impatient:
        texts["slot.request.timeout"] = f"{SLOT_REQUEST_IMPATIENT_MS} ms"
        texts["jobmanager.adaptive-scheduler.submission.resource-wait-timeout"] = texts[
            "slot.request.timeout"
        ]
    if memory_limited:
        texts["taskmanager.memory.slot-limit"] = "100 MiB"
    return Settings().with_values(texts, "the simulator")


@cache
def total_resources(slots: int) -> ResourceProfile:
    """What a TaskManager of so many slots has."""
    memory_bytes = slots * MEMORY_OF_SLOT_BYTES
    return ResourceProfile(slots * CPU_OF_SLOT_MILLIS, memory_bytes, memory_bytes // 2)


_ROUGH = (0, 0.02), (0, 0.1), (0, 0.05)


def _draw_plan(chance: Random, number: int, heal_ms: int) -> JobPlan:
    bounded = chance.random() < 0.35
    cancelled = chance.random() < (0.15 if bounded else 0.2)
    watched = chance.random() < 0.25
    submit_ms = int(chance.random() ** 2 * SUBMIT_MAX_MS)
    return JobPlan(
        job_id=f"job{number}",
        shape=chance.choice(shapes()),
        strategy=_weighted(chance, STRATEGIES),
        bounded=bounded,
        submit_ms=submit_ms,
        cancel_ms=submit_ms + int(chance.random() * (heal_ms - submit_ms)) if cancelled else -1,
        watched=watched,
        collected=watched and chance.random() < 0.2,
        priority=chance.randrange(3) if chance.random() < 0.1 else 0,
        checkpoints=_weighted(chance, CHECKPOINTS),
    )


def _draw_weather(chance: Random) -> Weather:
    latency_max_ms = chance.choice((4, 4, 4, 40, 200))
    draw = chance.random()
    if draw < 0.5:
        return Weather(latency_max_ms=latency_max_ms)
    losses, repeats, delays = ((0, 0.002, 0.01), (0, 0.01), (0, 0.01)) if draw < 0.8 else _ROUGH
    return Weather(chance.choice(losses), chance.choice(repeats), chance.choice(delays), latency_max_ms)


def _draw_faults(chance: Random, number: int, heal_ms: int) -> list[tuple[int, str]]:
    begin_ms, end_ms = FAULTS_BEGIN_MS, heal_ms
    if chance.random() < 0.3:  # all at once: each meets what the others have left half done
        begin_ms += int(chance.random() * (end_ms - begin_ms - BURST_MS))
        end_ms = begin_ms + BURST_MS
    span_ms = end_ms - begin_ms
    return sorted(
        (begin_ms + int(chance.random() * span_ms), _weighted(chance, FAULTS)) for _ in range(number)
    )


def draw_scenario(chance: Random) -> Scenario:
    """The scenario of a seed: mostly small, so that there is time for many."""
    heal_ms = int(FAULT_PHASE_MS[0] + chance.random() * (FAULT_PHASE_MS[1] - FAULT_PHASE_MS[0]))
    taskmanagers = chance.choice((1, 2, 2, 2, 2, 3, 3)) if chance.random() < 0.97 else chance.choice((4, 5))
    slots = [chance.choice((1, 1, 2, 2, 2, 2)) for _ in range(taskmanagers)]
    jobs = chance.choice((1, 1, 1, 2, 2, 3))
    impatient = chance.random() < 0.03
    memory_limited = chance.random() < 0.2
    faults = chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 10))
    if chance.random() < 0.2:  # a bad day
        heal_ms += chance.choice((0, FAULT_PHASE_MS[0]))
        faults += chance.choice((5, 8, 12))
    return Scenario(
        settings=_settings(
            chance.choice(("slots", "slots", "tasks", "none")),
            "adaptive" if chance.random() < 0.2 else "default",
            "full" if chance.random() < 0.1 else "region",
            impatient,
            memory_limited,
        ),
        memory_limited=memory_limited,
        slots=slots,
        plans=[_draw_plan(chance, number, heal_ms) for number in range(jobs)],
        clients=1 if jobs == 1 or chance.random() < 0.7 else 2,
        weather=_draw_weather(chance),
        faults=_draw_faults(chance, faults, heal_ms),
        heal_ms=heal_ms,
        impatient=impatient,
        keeps_draining=chance.random() < 0.1,
    )
