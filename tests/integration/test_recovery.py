"""Recovery on real daemons: processes that are killed, stopped or told to go while jobs run."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.chaos import neighbour
from tests.chaos.__main__ import main
from tests.chaos.cluster import ChaosCluster
from tests.chaos.jobs import RESTARTS
from tests.chaos.plan import job_orders, kill_decisions
from tests.chaos.processes import is_alive, wait_until
from zmflow import Configuration, StreamExecutionEnvironment
from zmflow.api.environment import environment_context
from zmflow.protocol.messages import JobStatus
from zmflow.protocol.statuses import TaskManagerStatus
from zmflow.runtime.client import ClusterClient
from zmflow.runtime.job_client import RemoteJobClient

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

DEADLINE_S = 30
"""For what takes a second on a machine that has nothing else to do."""

GONE_WITHIN_S = 6
"""A TaskManager that is silent for heartbeat.timeout, 5 s, is gone; a second for what shares the machine."""


@pytest.fixture
def cluster() -> Iterator[ChaosCluster]:
    """Two TaskManagers of two slots; nothing of them may be left afterwards."""
    with ChaosCluster(taskmanagers=2, slots=2) as cluster:
        yield cluster
        orphans = cluster.wait_for_orphans_to_end()
    assert [*orphans, *cluster.left] == []


@pytest.fixture
def client(cluster: ChaosCluster) -> Iterator[ClusterClient]:
    """A connection to its JobManager."""
    client = cluster.client()
    yield client
    client.close()


def submit_endless(cluster: ChaosCluster, parallelism: int) -> str:
    """A job that restarts and never ends; its id."""
    with environment_context(cluster.settings):
        configuration = Configuration.from_dict(RESTARTS["fixed-delay"])
        env = StreamExecutionEnvironment.get_execution_environment(configuration)
        env.set_parallelism(parallelism)
        env.from_sequence(1, 10**12).map(neighbour.paced).rebalance().add_sink(lambda n: None)
        job = env.execute_async("endless")
    assert isinstance(job, RemoteJobClient)
    job.close()
    return job.get_job_id()


def await_status(client: ClusterClient, job_id: str, wanted: Callable[[JobStatus], bool]) -> JobStatus:
    """The first status that is wanted."""
    deadline = time.monotonic() + DEADLINE_S
    while not wanted(status := client.get_job(job_id)):
        assert time.monotonic() < deadline, f"{status.summary.state}: {status.reason}"
    return status


def all_run(status: JobStatus) -> bool:
    """Whether every task runs."""
    return {task.state for vertex in status.vertices for task in vertex.subtasks} == {"RUNNING"}


def attempts(status: JobStatus) -> set[int]:
    """The attempts its tasks are at."""
    return {task.attempt_number for vertex in status.vertices for task in vertex.subtasks}


def workers(taskmanager: TaskManagerStatus) -> list[int]:
    """The pids of the workers in its slots."""
    return [slot.worker_pid for slot in taskmanager.slots if slot.worker_pid]


def working_place(cluster: ChaosCluster, client: ClusterClient) -> tuple[int, TaskManagerStatus]:
    """The first place whose TaskManager has a worker."""
    status = client.cluster_status()
    found = [(place, cluster.status_of(place, status)) for place in cluster.registered]
    return next((place, tm) for place, tm in found if tm is not None and workers(tm))


def test_the_same_seed_decides_the_same() -> None:
    """Whom to kill when and which jobs to run follow from the seed; another seed decides otherwise."""

    def plan(seed: int) -> list[object]:
        kills = list(itertools.islice(kill_decisions(seed, 4, 2), 50))
        jobs = [
            (order.name, order.work_ms, order.strategy, order.overwrite)
            for order in itertools.islice(job_orders(seed, 1), 20)
        ]
        return [kills, jobs]

    assert plan(7) == plan(7)
    assert plan(7) != plan(8)


def test_jobs_end_right_whoever_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten kill -9 of workers and TaskManagers: every job FINISHED, all results right, nothing left."""
    main(["kill", "--kills", "10", "--seed", "7", "--json"])
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["wrong"] == [], said.err
    assert report["left_behind"] == [], said.err
    assert report["jobs_finished"] == report["jobs"] >= 2, said.err
    assert report["kills"] == 10, said.err
    assert report["kills_of_workers"] > 0 < report["kills_of_taskmanagers"]
    assert report["restarts"] > 0
    # Seconds on a machine that runs other tests; the command itself asks for less than one.
    assert report["worker_detection_ms"]["p100"] < 5000, said.err
    assert report["taskmanager_detection_ms"]["p100"] < 5000, said.err


def test_a_killed_worker_leaves_the_job_beside_it_alone() -> None:
    """The neighbour's tasks stay at their first attempt, and its records go on as fast as before."""
    report = neighbour.run(rounds=2)
    assert report.neighbour_restarted == 0
    assert report.victim_restarts == 2
    # Half is what other tests on the machine can take; a job that stands still has none.
    assert max(report.shares) >= 0.5, report


def test_a_silent_taskmanager_is_gone_and_begins_anew_when_it_wakes(
    cluster: ChaosCluster, client: ClusterClient
) -> None:
    """Its job runs elsewhere after 6 s; when it is heard again, what it still ran is ended first."""
    job_id = submit_endless(cluster, parallelism=1)
    await_status(client, job_id, all_run)
    place, silent = working_place(cluster, client)
    stale = workers(silent)
    stopped = time.monotonic()
    os.kill(silent.pid, signal.SIGSTOP)
    assert wait_until(lambda: cluster.status_of(place, client.cluster_status()) is None, DEADLINE_S)
    assert time.monotonic() - stopped < GONE_WITHIN_S
    moved = await_status(client, job_id, lambda status: all_run(status) and status.summary.restarts == 1)
    assert attempts(moved) == {1}
    assert "was silent for" in moved.exceptions[-1].failure.summary
    assert {t.taskmanager_id for v in moved.vertices for t in v.subtasks}.isdisjoint({silent.taskmanager_id})

    os.kill(silent.pid, signal.SIGCONT)
    assert wait_until(lambda: cluster.status_of(place, client.cluster_status()) is not None, DEADLINE_S)
    assert wait_until(lambda: not any(map(is_alive, stale)), DEADLINE_S)
    after = client.cluster_status()
    awake = cluster.status_of(place, after)
    assert awake is not None and awake.taskmanager_id == silent.taskmanager_id
    assert workers(awake) == []
    assert cluster.worker_pids() == [pid for tm in after.taskmanagers for pid in workers(tm)]
    assert attempts(client.get_job(job_id)) == {1}


def test_a_taskmanager_that_is_told_to_stop_takes_leave_first(
    cluster: ChaosCluster, client: ClusterClient
) -> None:
    """SIGTERM: its tasks move at once, the reason says that it was stopped, its processes end."""
    job_id = submit_endless(cluster, parallelism=2)
    await_status(client, job_id, all_run)
    place, leaving = working_place(cluster, client)
    os.kill(leaving.pid, signal.SIGTERM)
    moved = await_status(client, job_id, lambda status: all_run(status) and status.summary.restarts > 0)
    cause = moved.exceptions[-1].failure.summary
    assert leaving.taskmanager_id in cause and cause.endswith("left: it was stopped.")
    assert {t.taskmanager_id for v in moved.vertices for t in v.subtasks}.isdisjoint({leaving.taskmanager_id})
    assert cluster.forget(place).process.returncode == 0
    assert wait_until(lambda: not any(map(is_alive, workers(leaving))), DEADLINE_S)
