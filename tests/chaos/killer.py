"""The killer: carries out decisions, and waits each time until the JobManager has noticed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.cluster import ChaosCluster, wall_ms
from tests.chaos.plan import KillDecision
from tests.chaos.processes import signal_marked
from zmflow.errors import ZmflowError
from zmflow.protocol.checkpoint_statistics import CheckpointSummary
from zmflow.protocol.messages import ClusterStatus

__all__ = ["Kill", "Killer", "Victim", "choose"]

NOTICE_TIMEOUT_S = 10.0
"""After this nobody will notice any more: even a silent TaskManager is gone after 5 s."""

VICTIM_TIMEOUT_S = 30.0
"""How long to wait for somebody to kill: between two jobs a cluster has no workers for some 100 ms."""

CHECKPOINT_TIMEOUT_S = 1.0
"""How long to wait for a checkpoint to be under way: jobs have one every half second."""

POLL_INTERVAL_S = 0.01


@dataclass(frozen=True)
class Victim:
    """A process that may be killed, as the JobManager knows it. ``allocation`` is "" for TaskManagers."""

    place: int
    slot: int
    pid: int
    taskmanager_id: str
    allocation: str
    jobs: tuple[tuple[str, str], ...]  # ids and names of those that lose a slot

    @property
    def title(self) -> str:
        """How to call it."""
        return (
            f"worker of slot {self.slot} on TaskManager {self.place}"
            if self.allocation
            else (f"TaskManager {self.place}")
        )


@dataclass(frozen=True)
class Kill:
    """A kill and what came of it. ``noticed_ms`` is 0 when nobody noticed; wall clock, milliseconds."""

    number: int
    victim: Victim
    killed_ms: float
    noticed_ms: float
    said: str  # by the JobManager, about the failure
    in_checkpoint_of: str = ""  # the id of a job that lost a checkpoint which was under way

    @property
    def detection_ms(self) -> float:
        """From the signal to the instant at which the JobManager knew."""
        return self.noticed_ms - self.killed_ms if self.noticed_ms else float("inf")


@dataclass(frozen=True)
class _Begun:
    """A checkpoint of a job that is under way, and how many were complete before it."""

    job_id: str
    completed_before: int


def choose(decision: KillDecision, status: ClusterStatus, cluster: ChaosCluster) -> Victim | None:
    """Who is killed: what the decision says, or the next after it, in the order of places and slots."""
    count = cluster.taskmanagers
    for place in [*range(decision.place, count), *range(decision.place)]:
        tm = cluster.status_of(place, status)
        if tm is None:
            continue
        held = [slot for slot in tm.slots if slot.worker_pid and slot.state == "allocated"]
        if decision.victim == "taskmanager":
            jobs = dict.fromkeys((slot.job_id, slot.job_name) for slot in held)
            return Victim(place, -1, tm.pid, tm.taskmanager_id, "", tuple(jobs))
        for slot in sorted(held, key=lambda slot: (slot.slot_index - decision.slot) % cluster.slots):
            job = (slot.job_id, slot.job_name)
            return Victim(
                place, slot.slot_index, slot.worker_pid, tm.taskmanager_id, slot.allocation_id, (job,)
            )
    return None


class Killer:
    """Kills, watches, and replaces TaskManagers, in the thread that owns the cluster."""

    def __init__(self, cluster: ChaosCluster, decisions: Iterator[KillDecision]) -> None:
        self.kills: list[Kill] = []
        self._cluster = cluster
        self._decisions = decisions
        self._client = cluster.client()
        self._replace_at: dict[int, float] = {}  # place: monotonic instant

    def run(self, seconds: float, kills_max: int, on_kill: Callable[[Kill], None]) -> None:
        """Kill until the time is over or there were enough kills; then every place is filled again."""
        end = time.monotonic() + seconds
        while len(self.kills) < kills_max:
            decision = next(self._decisions)
            due = time.monotonic() + decision.wait_ms / 1000
            self._pass_time(min(due, end))
            if time.monotonic() >= end:
                break
            kill = self._kill(decision)
            self.kills.append(kill)
            on_kill(kill)
        while self._replace_at:
            self._pass_time(max(self._replace_at.values()))
        self._cluster.wait_registered()

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _pass_time(self, until: float) -> None:
        """Let time pass, replacing TaskManagers when they are due."""
        while True:
            now = time.monotonic()
            for place, due in list(self._replace_at.items()):
                if due <= now:
                    del self._replace_at[place]
                    self._cluster.start_taskmanager(place)
            if now >= until:
                return
            self._cluster.poll(min([until, *self._replace_at.values()]) - now)

    def _kill(self, decision: KillDecision) -> Kill:
        give_up = time.monotonic() + VICTIM_TIMEOUT_S
        while time.monotonic() < give_up:
            victim = choose(decision, self._client.cluster_status(), self._cluster)
            begun = self._begun(victim, CHECKPOINT_TIMEOUT_S if decision.in_checkpoint else 0.0)
            killed_ms = wall_ms()
            if victim is not None and signal_marked(victim.pid, self._cluster.mark):
                noticed_ms = self._await_notice(victim)
                lost = self._was_lost(begun)
                if not victim.allocation:
                    self._cluster.forget(victim.place)
                    self._replace_at[victim.place] = time.monotonic() + decision.replaced_after_ms / 1000
                return Kill(
                    len(self.kills) + 1,
                    victim,
                    killed_ms,
                    noticed_ms,
                    self._said_about(victim),
                    begun.job_id if lost else "",
                )
            self._pass_time(time.monotonic() + POLL_INTERVAL_S)
        raise AssertionError(f"There was no {decision.victim} to kill for {VICTIM_TIMEOUT_S:g} s.")

    def _begun(self, victim: Victim | None, patience_s: float) -> _Begun | None:
        """A checkpoint under way of a job that will lose a slot. None when there was none for so long."""
        give_up = time.monotonic() + patience_s
        while victim is not None and victim.jobs:
            for job_id, _ in victim.jobs:
                checkpoints = self._checkpoints(job_id)
                if checkpoints is not None and checkpoints.in_progress:
                    return _Begun(job_id, checkpoints.completed)
            if time.monotonic() >= give_up:
                break
            self._cluster.poll(0)
        return None

    def _was_lost(self, begun: _Begun | None) -> bool:
        """Whether it was not complete. One that all tasks had written when somebody died is nevertheless."""
        checkpoints = None if begun is None else self._checkpoints(begun.job_id)
        return checkpoints is not None and checkpoints.completed == begun.completed_before

    def _checkpoints(self, job_id: str) -> CheckpointSummary | None:
        with contextlib.suppress(ZmflowError):
            return self._client.get_job(job_id).checkpoints
        return None

    def _await_notice(self, victim: Victim) -> float:
        give_up = time.monotonic() + NOTICE_TIMEOUT_S
        while time.monotonic() < give_up:
            status = self._client.cluster_status()
            if victim.allocation:
                known = any(
                    s.allocation_id == victim.allocation for t in status.taskmanagers for s in t.slots
                )
            else:
                known = any(tm.taskmanager_id == victim.taskmanager_id for tm in status.taskmanagers)
            if not known:
                return wall_ms()
            self._cluster.poll(0)
        return 0.0

    def _said_about(self, victim: Victim) -> str:
        for job_id, _ in victim.jobs:
            with contextlib.suppress(ZmflowError):
                for entry in self._client.get_job(job_id).exceptions[-1:]:
                    said = (entry.concurrent or [entry.failure])[-1].summary
                    if victim.taskmanager_id in said:
                        return said
        return ""  # nobody's slot, or one whose tasks were waiting for others anyway
