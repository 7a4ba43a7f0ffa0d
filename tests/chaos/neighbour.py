"""``python -m tests.chaos neighbour``: kill -9 of a job's worker leaves the job beside it alone."""

from __future__ import annotations

import statistics
import time
from collections import deque

import msgspec

from tests.chaos.cluster import ChaosCluster
from tests.chaos.jobs import RESTARTS
from tests.chaos.processes import signal_marked
from zmflow import Configuration, StreamExecutionEnvironment
from zmflow.api.environment import environment_context
from zmflow.protocol.messages import JobStatus
from zmflow.runtime.client import ClusterClient
from zmflow.runtime.job_client import RemoteJobClient

__all__ = ["SHARE_LEAST", "NeighbourReport", "run"]

SHARE_LEAST = 0.8
"""Records per second around a kill beside those before it. Two quiet windows of the same job differ by up to
a tenth on a shared machine; a neighbour that restarts or stands still loses most of a window."""

WINDOW_S = 2.0
"""Counters reach the client every 200 to 250 ms, so a shorter window would measure them."""

STATE_TIMEOUT_S = 30.0

ENDLESS = 10**12


class NeighbourReport(msgspec.Struct, frozen=True):
    """What the kills did."""

    quiet: list[float]  # records per second beside those before, when nothing happened in between: the noise
    shares: list[float]  # the same when a worker of the victim was killed in between
    victim_restarts: int
    neighbour_restarted: int  # tasks of the neighbour beyond their first attempt

    @property
    def median(self) -> float:
        """The middle one of the shares."""
        return statistics.median(self.shares)

    @property
    def holds(self) -> bool:
        """Whether the neighbour was left alone."""
        undisturbed = self.median >= SHARE_LEAST and self.neighbour_restarted == 0
        return undisturbed and self.victim_restarts == len(self.shares)


class _Watched:
    """A running job and how many records its consumers have taken, by the time that was heard."""

    def __init__(self, client: ClusterClient, job_id: str) -> None:
        self._client = client
        self.job_id = job_id
        self.status = client.watch_job(job_id)
        self.samples: deque[tuple[float, int]] = deque(maxlen=100)  # some 20 s

    def follow(self, until: float) -> None:
        """Take every update until this instant."""
        while (left_s := until - time.monotonic()) > 0:
            for message in self._client.poll(int(left_s * 1000) + 1):
                if isinstance(message, JobStatus):
                    self.status = message
                    taken = sum(task.records_in for task in message.vertices[-1].subtasks)
                    self.samples.append((time.monotonic(), taken))

    def share_around(self, instant: float) -> float:
        """Records per second in the window after an instant beside those in the window before it."""
        after, before = self._rate(instant, instant + WINDOW_S), self._rate(instant - WINDOW_S, instant)
        return round(after / before, 3)

    def _rate(self, start: float, end: float) -> float:
        first = min(self.samples, key=lambda sample: abs(sample[0] - start))
        last = min(self.samples, key=lambda sample: abs(sample[0] - end))
        return (last[1] - first[1]) / (last[0] - first[0])


def paced(number: int) -> int:
    """The number, a millisecond later."""
    time.sleep(0.001)
    return number


def _submit(cluster: ChaosCluster, name: str, *, busy: bool) -> RemoteJobClient:
    with environment_context(cluster.settings):
        configuration = Configuration.from_dict(RESTARTS["fixed-delay"])
        env = StreamExecutionEnvironment.get_execution_environment(configuration)
        env.set_parallelism(2)
        numbers = env.from_sequence(1, ENDLESS)
        if not busy:
            numbers = numbers.map(paced)
        numbers.rebalance().map(lambda n: n + 1).add_sink(lambda n: None)
        client = env.execute_async(name)
    assert isinstance(client, RemoteJobClient)
    return client


def _await_running(client: ClusterClient, job_id: str, restarts: int) -> None:
    deadline = time.monotonic() + STATE_TIMEOUT_S
    while time.monotonic() < deadline:
        status = client.get_job(job_id)
        states = {task.state for vertex in status.vertices for task in vertex.subtasks}
        if states == {"RUNNING"} and status.summary.restarts >= restarts:
            return
    raise AssertionError(f"The job does not run: {status.summary.state}, {status.reason}")


def _worker_of(client: ClusterClient, job_id: str, number: int) -> int:
    slots = [slot for tm in client.cluster_status().taskmanagers for slot in tm.slots]
    held = [slot.worker_pid for slot in slots if slot.job_id == job_id and slot.worker_pid]
    return held[number % len(held)]


def run(*, rounds: int) -> NeighbourReport:
    """Two jobs of two slots each on two TaskManagers; kill a worker of one, so many times."""
    with ChaosCluster(taskmanagers=2, slots=2) as cluster:
        client, ears = cluster.client(), cluster.client()
        jobs = [_submit(cluster, "neighbour", busy=True), _submit(cluster, "victim", busy=False)]
        try:
            neighbour, victim = (job.get_job_id() for job in jobs)
            for job_id in (neighbour, victim):
                _await_running(client, job_id, restarts=0)
            watched = _Watched(ears, neighbour)
            watched.follow(time.monotonic() + 2 * WINDOW_S)
            quiet, shares = [], []
            for number in range(rounds):
                watched.follow(time.monotonic() + WINDOW_S)
                quiet.append(watched.share_around(time.monotonic() - WINDOW_S))
                killed = time.monotonic()
                assert signal_marked(_worker_of(client, victim, number), cluster.mark)
                watched.follow(killed + WINDOW_S)
                _await_running(client, victim, restarts=number + 1)
                shares.append(watched.share_around(killed))
                watched.follow(time.monotonic() + WINDOW_S)
            tasks = [task for vertex in client.get_job(neighbour).vertices for task in vertex.subtasks]
            return NeighbourReport(
                quiet,
                shares,
                client.get_job(victim).summary.restarts,
                sum(task.attempt_number > 0 for task in tasks),
            )
        finally:
            for job in jobs:
                job.close()
            client.close()
            ears.close()
