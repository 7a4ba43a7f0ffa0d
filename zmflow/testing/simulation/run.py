"""One seed: faults, then calm and the wanted state, then rest."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from zmflow.coordination.effects import Entry
from zmflow.protocol.messages import Hello
from zmflow.testing.simulation.clock import TRUE_RATE
from zmflow.testing.simulation.cluster import Cluster
from zmflow.testing.simulation.faults import Faults
from zmflow.testing.simulation.goal import REST_MS, SETTLE_MS, arrange_draining, at_rest, settled
from zmflow.testing.simulation.jobmanager import VERSIONS, JobManagerProcess
from zmflow.testing.simulation.taskmanager import TaskManagerProcess
from zmflow.testing.simulation.world import Journal, Violation

__all__ = ["PROGRAM", "Outcome", "run_seed"]

PROGRAM = "zmflow.testing.simulation"
"""What repeats a seed."""

LOOK_EVERY_MS = 250
"""Simulated time between two looks at whether the cluster has settled."""

DRAIN_EVERY_MS = 5_000
"""Simulated time between two attempts to say what is to be drained."""

STEPS_MAX = 50_000
"""Events of one seed, a hundred times the usual number. More means that somebody answers for ever."""

STORY_ENTRIES_SHOWN = 60
"""Newest entries of each story in a report: some seconds before the failure."""


@dataclass(slots=True)
class Outcome:
    """What came of a seed."""

    seed: int
    steps: int
    virtual_ms: int
    faults: dict[str, int]
    violation: str = ""
    story: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    program: str = PROGRAM

    @property
    def command(self) -> str:
        """The command that does it again, with its trace."""
        return f"python -m {self.program} --seeds {self.seed} --trace"


def run_seed(seed: int, *, trace: bool = False) -> Outcome:
    """Simulate a cluster from this seed; the same seed always comes to the same."""
    journal = Journal(on=trace)
    cluster = Cluster(seed, journal)
    violation, story = "", []
    try:
        _run(cluster)
    except Violation as broken:
        violation = f"{broken}"
        story = _stories(cluster, broken.about)
    except Exception as error:  # noqa: BLE001 - whatever a brain raises is a finding
        where = traceback.format_exception(error)
        violation = f"{type(error).__name__}: {error}\n{''.join(where[-6:])}"
        story = _stories(cluster, ())
    world = cluster.world
    return Outcome(seed, world.steps, world.agenda.now_ms, world.faults, violation, story, journal.lines)


def _run(cluster: Cluster) -> None:
    Faults(cluster)
    _let_pass(cluster, cluster.scenario.heal_ms)
    _heal(cluster)
    _reach(cluster, settled, SETTLE_MS, "the cluster does not settle")
    for plan in cluster.scenario.plans:
        cluster.cancel(plan)
    _reach(cluster, at_rest, REST_MS, "the cluster does not come to rest")


def _let_pass(cluster: Cluster, until_ms: int) -> None:
    world = cluster.world
    while world.agenda.now_ms < until_ms:
        world.agenda.run_until(min(until_ms, world.agenda.now_ms + LOOK_EVERY_MS))
        if world.steps > STEPS_MAX:
            raise Violation(f"{world.steps} events: somebody answers for ever")


def _heal(cluster: Cluster) -> None:
    """No more faults, everybody is there, and there are slots for every job."""
    world, scenario = cluster.world, cluster.scenario
    world.calm = True
    world.network.heal()
    if world.journal.on:
        world.journal.note(world.agenda.now_ms, "CALM", "the faults are over")
    for component in cluster.components:
        component.clock.set_rate(world.agenda.now_ms, TRUE_RATE)
    if scenario.keeps_draining:
        cluster.emptied = next(iter(cluster.taskmanagers), "")
    # Slots for every job, on machines like the others.
    missing = sum(plan.shape.slots for plan in scenario.plans)
    missing -= sum(tm.slots for tm in cluster.taskmanagers.values() if tm.name != cluster.emptied)
    for _ in range(0, missing, 2):
        cluster.start_taskmanager(2)
    leader = cluster.leader
    if leader is None:
        raise AssertionError("whoever dies is back before the faults are over")
    leader.ask(Hello(0, VERSIONS, "client", "observer"))
    if cluster.emptied or "taskmanager drained" in world.faults:
        # Again and again: who is not registered when it is said does not hear it.
        for wait_ms in range(0, SETTLE_MS // 2, DRAIN_EVERY_MS):
            world.agenda.after(wait_ms, arrange_draining, cluster)


def _reach(cluster: Cluster, missing: Callable[[Cluster], str], bound_ms: int, sentence: str) -> None:
    end_ms = cluster.world.agenda.now_ms + bound_ms
    while True:
        _let_pass(cluster, cluster.world.agenda.now_ms + LOOK_EVERY_MS)
        why = missing(cluster)
        if not why:
            return
        if cluster.world.agenda.now_ms >= end_ms:
            jobs = [plan.job_id for plan in cluster.scenario.plans]
            raise Violation(f"{sentence} within {bound_ms / 1000:g} s: {why}", *jobs, *cluster.taskmanagers)


def _stories(cluster: Cluster, about: tuple[str, ...]) -> list[str]:
    lines = []
    for component in [*cluster.past, *cluster.components]:
        if isinstance(component, (JobManagerProcess, TaskManagerProcess)):
            entries: list[Entry] = component.brain.story(*about)
            now_ms = cluster.world.agenda.now_ms
            shown = entries[-STORY_ENTRIES_SHOWN:]
            if shown:
                clock = component.clock.read(now_ms)
                lines.append(f"{component.name}, whose clock shows {clock} at {now_ms}:")
            lines += [f"  {e.at_ms:>9} {e.subject}: {e.sentence} [{e.cause}]" for e in shown]
    return lines
