"""What restarts after a failure, when, where, and what is remembered of it."""

from __future__ import annotations

import msgspec

from zmflow.coordination.effects import StartWorker
from zmflow.protocol.messages import (
    CancelJob,
    CollectedRows,
    DeployTasks,
    JobStatus,
    TaskFailure,
    TaskStateChanged,
    WatchJob,
)
from zmflow.protocol.parts import RETRACTABLE_ROWS
from zmflow.testing.control_plane import Behaviour, ControlPlane, ScriptedWorker

from .job_graphs import edge, graph, runs_on, submit, vertex
from .test_job_life import free_slots, run, status

FAILURE = TaskFailure("user", "ValueError: bad")
OFTEN = {
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": "100",
    "restart-strategy.fixed-delay.delay": "1 s",
}


def two_pipelines(settings: dict[str, str] | None = None):
    """Two sources of two subtasks, each feeding its own consumer all to all: two regions."""
    return graph(
        [vertex("a"), vertex("b"), vertex("c"), vertex("d")],
        [edge("a", "b"), edge("c", "d")],
        settings or OFTEN,
    )


def attempts(cluster: ControlPlane) -> dict[str, int]:
    """The attempt of every task that runs in a worker now."""
    return {
        task.vertex_id: task.attempt_number
        for worker in cluster.workers
        for task in worker.live.values()
        if task.subtask_index == 0
    }


def holder(cluster: ControlPlane, vertex_id: str, index: int = 0) -> ScriptedWorker:
    """The worker that runs a subtask."""
    return next(
        worker
        for worker in cluster.workers
        for task in worker.live.values()
        if (task.vertex_id, task.subtask_index) == (vertex_id, index)
    )


def fail(cluster: ControlPlane, vertex_id: str, failure: TaskFailure = FAILURE) -> None:
    """A running task fails."""
    worker = holder(cluster, vertex_id)
    attempt = next(task.attempt_id for task in worker.live.values() if task.vertex_id == vertex_id)
    cluster.from_worker(worker, worker.report(attempt, "FAILED", failure))
    cluster.settle()


def test_only_the_pipelined_region_of_a_failed_task_restarts():
    """It is cancelled, waits for the delay and runs again in the same worker; the other never stops."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, two_pipelines())
    pids = {worker.pid for worker in cluster.workers}
    fail(cluster, "b")
    waiting = status(cluster)
    assert waiting.summary.state == "RESTARTING"
    assert waiting.reason == "restarts 2 of 4 tasks in 1.0 s: ValueError: bad"
    assert attempts(cluster) == {"c": 0, "d": 0}
    cluster.advance(1_000)
    assert attempts(cluster) == {"a": 1, "b": 1, "c": 0, "d": 0}
    assert {worker.pid for worker in cluster.workers} == pids
    running = status(cluster)
    assert (running.summary.state, running.summary.restarts) == ("RUNNING", 1)


def test_the_full_strategy_restarts_everything():
    """jobmanager.execution.failover-strategy = full is Flink's other strategy."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, two_pipelines({**OFTEN, "jobmanager.execution.failover-strategy": "full"}))
    fail(cluster, "b")
    cluster.advance(1_000)
    assert attempts(cluster) == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_finished_tasks_of_a_failed_region_run_again():
    """What they sent is gone with the tasks that had it."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, two_pipelines())
    worker = holder(cluster, "a")
    attempt = next(task.attempt_id for task in worker.live.values() if task.vertex_id == "a")
    cluster.from_worker(worker, worker.report(attempt, "FINISHED"))
    cluster.settle()
    fail(cluster, "b")
    cluster.advance(1_000)
    assert attempts(cluster)["a"] == 1


def test_a_lost_worker_restarts_what_ran_in_it_in_a_fresh_one():
    """The slot it had is asked for again at once, so that the restart waits for nothing but its delay."""
    cluster = ControlPlane([1, 1], behaviour=runs_on)
    job = graph(
        [vertex("a", 2), vertex("b", 2)],
        [edge("a", "b", pointwise=True)],
        OFTEN,
    )
    run(cluster, job)
    lost = holder(cluster, "a", 1)
    kept = holder(cluster, "a", 0)
    cluster.kill_worker(lost)
    cluster.settle()
    assert len(cluster.workers) == 2, "its successor starts during the delay"
    cluster.advance(1_000)
    fresh = holder(cluster, "a", 1)
    assert fresh.pid != lost.pid
    assert [task.attempt_number for task in fresh.live.values()] == [1, 1]
    assert [task.attempt_number for task in kept.live.values()] == [0, 0]
    entry = status(cluster).exceptions[-1]
    assert "was lost: killed by signal 9" in entry.failure.summary
    assert (entry.restarted_tasks, entry.tasks_total, entry.slot_index) == (2, 4, 0)
    assert entry.restarted == ["vertex a", "vertex b"]
    assert entry.backoff_ms == 1_000


def test_a_subtask_goes_back_to_the_slot_it_had():
    """Every shared slot is in the place of its predecessor after a worker is lost."""
    cluster = ControlPlane([2, 2], behaviour=runs_on)
    run(cluster, graph([vertex("a", 4)], settings=OFTEN))

    def places() -> list[tuple[str, int]]:
        return [(s.taskmanager_id, s.slot_index) for s in status(cluster).vertices[0].subtasks]

    before = places()
    cluster.kill_worker(holder(cluster, "a", 1))
    cluster.kill_worker(holder(cluster, "a", 2))
    cluster.advance(2_000)
    assert places() == before


def test_a_lost_taskmanager_is_replaced_by_spare_slots():
    """Tasks go on elsewhere; those on other TaskManagers never stop."""
    cluster = ControlPlane([1, 1, 1], behaviour=runs_on)
    run(cluster, graph([vertex("a", 2)], settings=OFTEN))
    cluster.disconnect("tm-2", noticed=True)
    cluster.advance(1_000)
    subtasks = status(cluster).vertices[0].subtasks
    assert {s.taskmanager_id for s in subtasks} <= {"tm-1", "tm-3", "tm-2"}
    assert [s.attempt_number for s in subtasks] == [0, 1]
    assert status(cluster).exceptions[-1].failure.kind == "taskmanager"


def test_without_spare_slots_the_job_waits_for_them_up_to_the_timeout():
    """It says what it waits for; a TaskManager that comes lets it go on, none ends it."""
    patient = {**OFTEN, "slot.request.timeout": "20 s", "restart-strategy.fixed-delay.attempts": "1"}
    cluster = ControlPlane([1, 1], behaviour=runs_on)
    client = run(cluster, graph([vertex("a", 2)], settings=patient))
    cluster.stop("tm-2")
    cluster.advance(5_000)
    assert (
        status(cluster).reason
        == "waiting for slots: needs 2, has 1, 0 are free of 1 registered (1 TaskManager)"
    )
    cluster.add_taskmanager(1)
    cluster.settle()
    assert status(cluster).summary.state == "RUNNING"
    cluster.stop("tm-1")
    cluster.advance(1_000)
    failure = client.last(JobStatus).failure
    assert client.last(JobStatus).summary.state == "FAILED"
    assert failure is not None and "fixed-delay" in failure.hint


def test_a_taskmanager_that_comes_back_registers_anew_and_nothing_runs_twice():
    """What it still ran is stopped before anything of it is used again."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, graph([vertex("a")], settings=OFTEN))
    old = cluster.workers[0]
    cluster.disconnect("tm-1", noticed=False)
    cluster.advance(2_000)
    assert [worker.allocation_id for worker in cluster.workers] != [old.allocation_id]
    assert attempts(cluster) == {"a": 1}


def test_failures_while_it_waits_count_once():
    """Concurrent failures are kept beside the first, and cost one attempt."""
    once = {**OFTEN, "restart-strategy.fixed-delay.attempts": "1"}
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, two_pipelines(once))
    fail(cluster, "b")
    cluster.advance(500)
    fail(cluster, "c", TaskFailure("user", "KeyError: worse"))
    cluster.advance(500)
    assert attempts(cluster) == {"a": 1, "b": 1, "c": 1, "d": 1}
    (entry,) = status(cluster).exceptions
    assert entry.failure.summary == "ValueError: bad"
    assert [failure.summary for failure in entry.concurrent] == ["KeyError: worse"]
    assert entry.restarted_tasks == 4
    fail(cluster, "d")
    assert status(cluster).summary.state == "FAILED"


def test_the_history_is_bounded_and_says_how_the_job_ended():
    """The last 16 failures are kept; the last says that nothing followed."""
    few = {**OFTEN, "restart-strategy.fixed-delay.attempts": "20"}
    cluster = ControlPlane([1], behaviour=lambda _s: Behaviour(failure=FAILURE))
    run(cluster, graph([vertex("a")], settings=few))
    cluster.advance(60_000)
    end = status(cluster)
    assert end.summary.state == "FAILED"
    assert end.summary.restarts == 20
    assert len(end.exceptions) == 16
    assert [entry.backoff_ms for entry in end.exceptions[-2:]] == [1_000, -1]


def test_a_task_that_fails_twice_finishes_at_the_third_attempt():
    """The job ends FINISHED with the restarts it took."""
    cluster = ControlPlane([1], behaviour=lambda _s: Behaviour(failure=FAILURE, failures=2))
    run(cluster, graph([vertex("a")], settings=OFTEN))
    cluster.advance(5_000)
    end = status(cluster)
    assert (end.summary.state, end.summary.restarts) == ("FINISHED", 2)
    assert free_slots(cluster) == 1


def test_without_checkpoints_the_default_is_no_restart():
    """restart-strategy.type auto is none until there are checkpoints, as in Flink."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, two_pipelines({"restart-strategy.type": "auto"}))
    fail(cluster, "b")
    end = status(cluster)
    assert end.summary.state == "FAILED"
    assert end.notes[0].startswith("Restart strategy: ")


def test_late_reports_of_an_older_attempt_change_nothing():
    """An attempt that is over can neither finish nor fail its successor."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, graph([vertex("a")], settings=OFTEN))
    allocation = cluster.workers[0].allocation_id
    fail(cluster, "a")
    cluster.advance(1_000)
    for state in ("FINISHED", "FAILED", "CANCELED"):
        cluster.to_dispatcher(b"tm-1", TaskStateChanged(1, allocation, "j1/a/0/0", state))
        cluster.check()
    assert status(cluster).summary.state == "RUNNING"


def test_a_job_whose_rows_were_collected_cannot_restart():
    """Rows that left for the client cannot be taken back; the failure says so."""
    cluster = ControlPlane([1], behaviour=runs_on)
    client = cluster.add_client()
    cluster.say(client, submit("j1", graph([vertex("a")], settings=OFTEN)))
    cluster.say(client, WatchJob(1, 2, "j1", collect=True))
    cluster.settle()
    cluster.from_worker(cluster.workers[0], CollectedRows(0, "j1", "a", "c", 0, 0, b"rows", False))
    cluster.settle()
    fail(cluster, "a")
    failure = client.last(JobStatus).failure
    assert client.last(JobStatus).summary.state == "FAILED"
    assert failure is not None
    assert failure.summary == "ValueError: bad"
    assert "cannot be taken back" in failure.hint


def test_a_job_whose_rows_are_taken_back_restarts():
    """Those of a cached stream do not count before the job has finished."""
    cluster = ControlPlane([1], behaviour=runs_on)
    client = cluster.add_client()
    cluster.say(client, submit("j1", graph([vertex("a")], settings=OFTEN)))
    cluster.say(client, WatchJob(1, 2, "j1", collect=True))
    cluster.settle()
    rows = CollectedRows(0, "j1", "a", f"{RETRACTABLE_ROWS}1", 0, 0, b"rows", False)
    cluster.from_worker(cluster.workers[0], rows)
    cluster.settle()
    fail(cluster, "a")
    cluster.advance(1_000)
    assert client.last(JobStatus).summary.state == "RUNNING"
    assert attempts(cluster) == {"a": 1}
    assert [sent.attempt_number for sent in client.all(CollectedRows)] == [0]


def test_cancelling_a_job_that_waits_to_restart_ends_it():
    """Nothing runs that would have to stop, so it is CANCELED at once."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, graph([vertex("a")], settings=OFTEN))
    fail(cluster, "a")
    client = cluster.add_client("second")
    cluster.say(client, CancelJob(1, 1, "j1"))
    cluster.settle()
    assert status(cluster).summary.state == "CANCELED"
    cluster.advance(10_000)
    assert free_slots(cluster) == 1


def test_a_task_that_ignores_cancellation_gives_up_its_worker():
    """The restart goes on in a fresh worker, once the old one is gone."""

    def stubborn_first(start: StartWorker) -> Behaviour:
        return Behaviour(finishes=False, obeys_cancel=start.allocation_id != "a1-1")

    cluster = ControlPlane([1], behaviour=stubborn_first, settings={"task.cancellation.timeout": "2 s"})
    run(cluster, graph([vertex("a"), vertex("b")], [edge("a", "b")], settings=OFTEN))
    fail(cluster, "b")
    cluster.advance(1_900)
    assert status(cluster).reason.startswith("restarts 2 of 2 tasks when 1 of them have stopped")
    cluster.advance(2_000)
    assert attempts(cluster) == {"a": 1, "b": 1}


def test_a_source_whose_enumerator_is_lost_begins_anew_with_every_reader():
    """Readers elsewhere have their splits from the enumerator that went with the worker of subtask 0."""
    cluster = ControlPlane([1, 1], behaviour=runs_on)
    source = vertex("s", 2)
    kinds = [type(source.chain[0])("op-s", "", "s", "source")]
    job = graph([msgspec.structs.replace(source, chain=kinds)], settings=OFTEN)
    run(cluster, job)
    cluster.kill_worker(holder(cluster, "s", 1))
    cluster.advance(1_000)
    assert [s.attempt_number for s in status(cluster).vertices[0].subtasks] == [0, 1]
    cluster.kill_worker(holder(cluster, "s", 0))
    cluster.advance(1_000)
    assert [s.attempt_number for s in status(cluster).vertices[0].subtasks] == [1, 2]
    numbers = {
        task.coordinator_number
        for worker in cluster.workers
        for message in worker.received[-1:]
        if isinstance(message, DeployTasks)
        for task in message.tasks
    }
    assert numbers == {1}
