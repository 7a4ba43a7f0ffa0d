"""When checkpoints begin, whom they wait for, and when they are complete."""

from __future__ import annotations

import pytest

from zmflow.coordination.checkpoints.savepoints import SavepointRequest
from zmflow.protocol.checkpoints import SnapshotMetrics, StateFile
from zmflow.protocol.messages import (
    AwaitsCheckpoint,
    CancelJob,
    CheckpointAcknowledged,
    CheckpointDeclined,
    CoordinatorSnapshot,
    NotifyCheckpoint,
    Refused,
    SavepointDone,
    TaskStateChanged,
    TriggerCheckpoint,
)
from zmflow.testing.control_plane import ControlPlane, ScriptedWorker

from .checkpointed import (
    EVERY_SECOND,
    behaves,
    checkpoints,
    deployed,
    notified,
    snapshotted,
    source,
    source_and_sink,
    statistics,
    triggered,
)
from .job_graphs import edge, graph, submit, vertex
from .test_job_life import run, status
from .test_restarts import fail, holder

IN_DIRECTORY = {"execution.checkpointing.dir": "/c"}


def attempt_of(worker: ScriptedWorker, vertex_id: str) -> str:
    """The attempt of a vertex that runs in a worker."""
    return next(task.attempt_id for task in worker.live.values() if task.vertex_id == vertex_id)


def finish(cluster: ControlPlane, vertex_id: str, index: int = 0) -> None:
    """A running task finishes."""
    worker = holder(cluster, vertex_id, index)
    cluster.from_worker(worker, worker.report(attempt_of(worker, vertex_id), "FINISHED"))
    cluster.settle()


def acknowledge(
    cluster: ControlPlane, vertex_id: str, number: int, index: int = 0, state: StateFile | None = None
) -> None:
    """A task has written its part of a checkpoint."""
    worker = holder(cluster, vertex_id, index)
    attempt = attempt_of(worker, vertex_id)
    message = CheckpointAcknowledged(0, worker.allocation_id, attempt, number, state, SnapshotMetrics())
    cluster.from_worker(worker, message)
    cluster.settle()


def states(cluster: ControlPlane) -> list[tuple[int, str]]:
    """The newest checkpoints and how far they are."""
    return [(record.checkpoint_id, record.state) for record in checkpoints(cluster)]


def test_a_running_job_takes_a_checkpoint_in_every_interval():
    """The first at a random time within the interval, and each is told to those who took part."""
    cluster = ControlPlane([2], behaviour=behaves())
    run(cluster, source_and_sink())
    cluster.advance(499)
    assert checkpoints(cluster) == []
    cluster.advance(2_001 + 500)
    assert states(cluster) == [(1, "COMPLETED"), (2, "COMPLETED"), (3, "COMPLETED")]
    assert notified(cluster) == [(1, True), (2, True), (3, True)]
    summary = status(cluster).checkpoints
    assert summary is not None
    assert (summary.completed, summary.failed, summary.in_progress, summary.last_id) == (3, 0, 0, 3)


@pytest.mark.parametrize("mode", ["interval", "batch"])
def test_without_an_interval_and_in_batch_mode_there_are_none(mode: str):
    """Then the status says nothing of checkpoints either."""
    job = source_and_sink(settings={"execution.checkpointing.interval": "-1"} if mode == "interval" else {})
    if mode == "batch":
        job = type(job)(job.name, job.vertices, job.edges, job.settings, [], "BATCH")
    cluster = ControlPlane([2], behaviour=behaves())
    run(cluster, job)
    cluster.advance(10_000)
    assert checkpoints(cluster) == []
    assert status(cluster).checkpoints is None
    assert status(cluster).notes[-1].endswith("the job takes no checkpoints.")


def test_enumerators_are_snapshotted_before_any_task_is_told():
    """Only when the last one has answered barriers begin, and only at tasks without running inputs."""
    cluster = ControlPlane([2], behaviour=behaves(snapshots=False))
    run(
        cluster,
        graph([source("a"), source("b"), vertex("t")], [edge("a", "t"), edge("b", "t")], EVERY_SECOND),
    )
    cluster.advance(500)
    assert snapshotted(cluster) == [("a", 1, 0), ("b", 1, 0)]
    for name in ("a", "b"):
        assert triggered(cluster, 1) == []
        cluster.from_worker(holder(cluster, name), CoordinatorSnapshot(0, "j1", name, 1, 0, b""))
        cluster.settle()
    assert triggered(cluster, 1) == ["j1/a/0/0", "j1/b/0/0"]


def test_an_enumerator_that_began_anew_is_not_the_one_that_is_waited_for():
    """The snapshot of another number changes nothing."""
    cluster = ControlPlane([1], behaviour=behaves(snapshots=False))
    run(cluster, source_and_sink())
    cluster.advance(500)
    cluster.from_worker(cluster.workers[0], CoordinatorSnapshot(0, "j1", "s", 1, 7, b""))
    cluster.settle()
    assert states(cluster) == [(1, "COORDINATORS")]


def test_every_task_has_to_acknowledge():
    """Parts of other attempts, of other checkpoints and repeated ones do not count."""
    cluster = ControlPlane([2], behaviour=behaves(snapshots=False))
    run(cluster, graph([vertex("a"), vertex("b")], [edge("a", "b")], EVERY_SECOND))
    cluster.advance(500)
    acknowledge(cluster, "a", 1)
    acknowledge(cluster, "a", 1)
    acknowledge(cluster, "b", 2)
    worker = holder(cluster, "b")
    stale = CheckpointAcknowledged(1, worker.allocation_id, "j1/b/0/7", 1, None, SnapshotMetrics())
    cluster.to_dispatcher(b"tm-1", stale)
    assert [(r.state, r.acknowledged, r.tasks) for r in checkpoints(cluster)] == [("TASKS", 1, 2)]
    acknowledge(cluster, "b", 1)
    assert states(cluster) == [(1, "COMPLETED")]


def test_nothing_is_complete_before_it_is_stored():
    """The metadata is in the directory of the checkpoint when tasks are told to commit."""
    cluster = ControlPlane([2], behaviour=behaves(state=StateFile("f", 10)))
    cluster.storage_hangs = True
    run(cluster, source_and_sink(settings=IN_DIRECTORY))
    cluster.advance(500)
    assert states(cluster) == [(1, "STORING")]
    assert notified(cluster) == []
    cluster = ControlPlane([2], behaviour=behaves(state=StateFile("f", 10)))
    run(cluster, source_and_sink(2, settings=IN_DIRECTORY))
    cluster.advance(500)
    assert notified(cluster) == [(1, True)]
    (metadata,) = cluster.stored.values()
    assert list(cluster.stored) == ["/c/j1/chk-1"]
    assert (metadata.job_id, metadata.checkpoint_id, metadata.state_bytes) == ("j1", 1, 40)
    assert [v.vertex_id for v in metadata.vertices] == ["s", "t"]
    assert metadata.vertices[0].coordinator == b"s at 1"
    assert [op.operator_id for op in metadata.vertices[1].operators] == ["op-t"]


def test_the_newest_are_retained_and_what_is_older_is_discarded():
    """num-retained decides how many directories there are."""
    cluster = ControlPlane([2], behaviour=behaves())
    run(cluster, source_and_sink(settings={**IN_DIRECTORY, "execution.checkpointing.num-retained": "2"}))
    cluster.advance(3_500)
    assert list(cluster.stored) == ["/c/j1/chk-3", "/c/j1/chk-4"]


@pytest.mark.parametrize(
    ("retention", "end", "kept"),
    [
        ("NO_EXTERNALIZED_CHECKPOINTS", "FINISHED", False),
        ("NO_EXTERNALIZED_CHECKPOINTS", "CANCELED", False),
        ("NO_EXTERNALIZED_CHECKPOINTS", "FAILED", False),
        ("DELETE_ON_CANCELLATION", "FINISHED", False),
        ("DELETE_ON_CANCELLATION", "CANCELED", False),
        ("DELETE_ON_CANCELLATION", "FAILED", True),
        ("RETAIN_ON_CANCELLATION", "FINISHED", False),
        ("RETAIN_ON_CANCELLATION", "CANCELED", True),
        ("RETAIN_ON_CANCELLATION", "FAILED", True),
    ],
)
def test_the_end_of_a_job_keeps_its_checkpoint_or_deletes_it(retention: str, end: str, kept: bool):
    """As Flink does: never of a job that finished."""
    cluster = ControlPlane([2], behaviour=behaves())
    settings = {"restart-strategy.type": "none", **IN_DIRECTORY}
    settings["execution.checkpointing.externalized-checkpoint-retention"] = retention
    client = run(cluster, source_and_sink(settings=settings))
    cluster.advance(600)
    if end == "FINISHED":
        finish(cluster, "s")
        finish(cluster, "t")
    elif end == "FAILED":
        fail(cluster, "t")
    else:
        cluster.say(client, CancelJob(1, 9, "j1"))
        cluster.settle()
    assert status(cluster).summary.state == end
    assert (list(cluster.stored) == ["/c/j1/chk-1"]) is kept


def test_a_checkpoint_waits_until_all_tasks_run():
    """It begins when the last one does, without another interval."""
    cluster = ControlPlane([2], behaviour=behaves())
    run(cluster, source_and_sink())
    fail(cluster, "t")
    cluster.advance(90)
    assert checkpoints(cluster) == []
    cluster.advance(600)
    assert states(cluster) == [(1, "COMPLETED")]


def test_there_are_no_more_at_once_than_allowed_and_the_pause_is_kept():
    """The next begins when its time has come and the one before it has been over for long enough."""
    cluster = ControlPlane([2], behaviour=behaves(snapshots=False))
    run(
        cluster,
        graph([vertex("a")], settings={**EVERY_SECOND, "execution.checkpointing.min-pause": "800 ms"}),
    )
    cluster.advance(2_500)
    assert states(cluster) == [(1, "TASKS")]
    acknowledge(cluster, "a", 1)
    cluster.advance(700)
    assert states(cluster) == [(1, "COMPLETED")]
    cluster.advance(100)
    assert states(cluster) == [(1, "COMPLETED"), (2, "TASKS")]


def test_a_newer_one_that_is_complete_subsumes_what_is_older():
    """Its directory goes, and whoever waits for it is told that it need not."""
    cluster = ControlPlane([2], behaviour=behaves(snapshots=False))
    two = {**IN_DIRECTORY, "execution.checkpointing.max-concurrent-checkpoints": "2"}
    run(cluster, graph([vertex("a")], settings={**EVERY_SECOND, **two}))
    cluster.advance(2_900)
    assert states(cluster) == [(1, "TASKS"), (2, "TASKS")]
    acknowledge(cluster, "a", 2)
    records = checkpoints(cluster)
    assert [(r.state, r.counted) for r in records[:2]] == [("ABORTED", False), ("COMPLETED", False)]
    assert records[0].failure == "Checkpoint 2 was complete before it."
    assert notified(cluster) == [(2, True), (1, False)]
    assert [order.location for order in cluster.discarded] == ["/c/j1/chk-1"]


def test_a_part_that_comes_too_late_is_deleted():
    """Its checkpoint was given up, so nobody else would."""
    cluster = ControlPlane([2], behaviour=behaves(snapshots=False))
    settings = {**IN_DIRECTORY, "execution.checkpointing.tolerable-failed-checkpoints": "9"}
    run(cluster, graph([vertex("a")], settings={**EVERY_SECOND, **settings}))
    cluster.advance(3_500)
    acknowledge(cluster, "a", 1, state=StateFile("a-0", 9))
    assert [(order.location, order.names) for order in cluster.discarded] == [
        ("/c/j1/chk-1", ()),
        ("/c/j1/chk-1", ("a-0",)),
    ]


def test_what_was_given_up_is_deleted_again_when_the_job_has_ended():
    """A task may have written after the first time, or nothing could be deleted then."""
    cluster = ControlPlane([2], behaviour=behaves(snapshots=False))
    settings = {**IN_DIRECTORY, "execution.checkpointing.tolerable-failed-checkpoints": "9"}
    run(cluster, graph([vertex("a")], settings={**EVERY_SECOND, **settings}))
    cluster.advance(3_500)
    assert [order.location for order in cluster.discarded] == ["/c/j1/chk-1"]
    finish(cluster, "a", 0)
    locations = [order.location for order in cluster.discarded]
    assert locations.count("/c/j1/chk-1") == 2
    assert locations[-1] == "/c/j1"


# -- tasks that end -------------------------------------------------------------------------------


def test_finished_tasks_do_not_take_part_and_those_behind_them_are_triggered():
    """A task all of whose inputs have finished begins like a source."""
    cluster = ControlPlane([2], behaviour=behaves())
    run(cluster, source_and_sink(2, IN_DIRECTORY, pointwise=True))
    finish(cluster, "s", 0)
    cluster.advance(500)
    assert triggered(cluster, 1) == ["j1/s/1/0", "j1/t/0/0"]
    (metadata,) = cluster.stored.values()
    assert [vertex.finished for vertex in metadata.vertices] == [[0], []]
    finish(cluster, "s", 1)
    cluster.advance(1_000)
    (metadata,) = cluster.stored.values()
    assert metadata.vertices[0].all_finished
    assert metadata.vertices[0].coordinator is None, "nothing asks its enumerator any more"


def test_a_task_that_finishes_instead_of_taking_part_is_no_failure():
    """The next checkpoint does without it and begins at once."""
    cluster = ControlPlane([2], behaviour=behaves(snapshots=False))
    run(cluster, graph([vertex("a"), vertex("b")], [edge("a", "b")], EVERY_SECOND))
    cluster.advance(500)
    finish(cluster, "a")
    first, second = checkpoints(cluster)
    assert (first.state, first.counted) == ("ABORTED", False)
    assert first.failure == "vertex a (1/1) finished before it took part."
    assert second.state == "TASKS"
    assert triggered(cluster, 2) == ["j1/b/0/0"]


def test_an_enumerator_whose_readers_have_all_finished_is_not_waited_for():
    """It may be gone before it answers."""
    cluster = ControlPlane([2], behaviour=behaves(snapshots=False))
    run(cluster, source_and_sink())
    cluster.advance(500)
    finish(cluster, "s")
    assert states(cluster) == [(1, "TASKS")]
    assert triggered(cluster, 1) == ["j1/t/0/0"]


def test_a_task_that_only_waits_to_commit_gets_a_checkpoint_at_once():
    """Neither the interval nor the pause delays the end of a bounded job."""
    slow = {"execution.checkpointing.interval": "1 h", "execution.checkpointing.min-pause": "1 min"}
    cluster = ControlPlane([2], behaviour=behaves())
    run(cluster, source_and_sink(settings=slow))
    finish(cluster, "s")
    worker = holder(cluster, "t")
    cluster.from_worker(worker, AwaitsCheckpoint(0, worker.allocation_id, attempt_of(worker, "t")))
    cluster.settle()
    assert notified(cluster) == [(1, True)]
    finish(cluster, "t")
    assert status(cluster).summary.state == "FINISHED"


def test_one_that_began_before_the_end_of_input_does_not_do():
    """What came behind its barrier is not in it; one that is still awaited does."""
    hourly = {
        **EVERY_SECOND,
        "execution.checkpointing.interval": "1 h",
        "execution.checkpointing.timeout": "2 h",
    }
    cluster = ControlPlane([2], behaviour=behaves(snapshots=False))
    run(cluster, graph([vertex("a"), vertex("b")], settings=hourly))
    cluster.advance(1_800_000)
    assert states(cluster) == [(1, "TASKS")]
    worker = holder(cluster, "a")
    cluster.from_worker(worker, AwaitsCheckpoint(0, worker.allocation_id, attempt_of(worker, "a"), 1))
    cluster.settle()
    acknowledge(cluster, "a", 1)
    acknowledge(cluster, "b", 1)
    assert states(cluster) == [(1, "COMPLETED"), (2, "TASKS")]
    cluster.from_worker(worker, AwaitsCheckpoint(0, worker.allocation_id, attempt_of(worker, "b"), 1))
    cluster.settle()
    acknowledge(cluster, "a", 2)
    acknowledge(cluster, "b", 2)
    cluster.advance(10_000)
    assert states(cluster) == [(1, "COMPLETED"), (2, "COMPLETED")]


def test_who_waits_to_commit_still_does_after_others_have_restarted():
    """The restart of another region aborts its checkpoint; the next one begins with the restart."""
    hourly = {**EVERY_SECOND, "execution.checkpointing.interval": "1 h"}
    cluster = ControlPlane([2], behaviour=behaves())
    run(cluster, graph([vertex("a"), vertex("b")], settings=hourly))
    fail(cluster, "b")
    worker = holder(cluster, "a")
    cluster.from_worker(worker, AwaitsCheckpoint(0, worker.allocation_id, attempt_of(worker, "a")))
    cluster.settle()
    assert checkpoints(cluster) == []
    cluster.advance(100)
    assert states(cluster) == [(1, "COMPLETED")]


def test_state_of_which_all_get_all_cannot_be_half_finished():
    """What the finished tasks held of it is nowhere; that is nobody's failure."""
    cluster = ControlPlane([2], behaviour=behaves(state=StateFile("f", 1, has_union=True)))
    run(cluster, graph([vertex("a", 2)], settings=EVERY_SECOND))
    finish(cluster, "a", 0)
    cluster.advance(500)
    (record,) = checkpoints(cluster)
    assert (record.state, record.counted) == ("ABORTED", False)
    assert record.failure.startswith("Some tasks of vertex a have finished")


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["declined", "late", "enumerator", "storage", "slow storage"])
def test_a_checkpoint_that_fails_restarts_the_job_when_none_is_tolerated(how: str):
    """The cause names the checkpoint and what was wrong."""
    cluster = ControlPlane([2], behaviour=behaves(snapshots=how not in ("late", "enumerator")))
    if how == "declined":
        cluster.behaviour = behaves(declines="it cannot be pickled")
    cluster.storage_error = "no space left" if how == "storage" else ""
    cluster.storage_hangs = how == "slow storage"
    run(cluster, source_and_sink(settings=IN_DIRECTORY))
    cluster.advance(500)
    if how == "enumerator":
        failed = CoordinatorSnapshot(0, "j1", "s", 1, 0, b"", "it raised KeyError")
        cluster.from_worker(cluster.workers[0], failed)
    cluster.advance(3_050)
    sentence = {
        "declined": "vertex s (1/1) could not take part: it cannot be pickled",
        "late": "It was not complete after 3 s: it waited for the split enumerators of vertex s.",
        "enumerator": "The split enumerator of vertex s could not be snapshotted: it raised KeyError",
        "storage": "Its metadata could not be stored: no space left",
        "slow storage": "It was not complete after 3 s: it waited for its metadata to be stored.",
    }[how]
    first = status(cluster).exceptions[0]
    assert first.failure.kind == "checkpoint"
    assert first.failure.summary == f"Checkpoint 1 failed: {sentence}"
    assert (first.restarted_tasks, first.tasks_total) == (2, 2)
    assert statistics(cluster).summary.last_failure


def test_failures_are_counted_in_a_row():
    """Two are tolerated; one that is complete in between begins the count anew."""
    cluster = ControlPlane([2], behaviour=behaves())
    tolerant = {**IN_DIRECTORY, "execution.checkpointing.tolerable-failed-checkpoints": "2"}
    run(cluster, source_and_sink(settings=tolerant))
    for error in ("full", "full", "", "full", "full", ""):
        cluster.storage_error = error
        cluster.advance(1_000)
    assert status(cluster).summary.restarts == 0
    cluster.storage_error = "full"
    cluster.advance(2_900)
    (entry,) = status(cluster).exceptions
    assert entry.failure.summary == "Checkpoint 9 failed, 3 in a row: Its metadata could not be stored: full"


def test_a_failover_aborts_what_is_under_way_without_blame():
    """Its number is never used again."""
    cluster = ControlPlane([2], behaviour=behaves(snapshots=False))
    run(cluster, source_and_sink())
    cluster.advance(500)
    fail(cluster, "t")
    (record,) = checkpoints(cluster)
    assert (record.state, record.counted, record.failure) == ("ABORTED", False, "Tasks restart.")
    cluster.advance(600)
    assert states(cluster)[-1] == (2, "COORDINATORS")


def test_the_default_strategy_restarts_where_there_are_checkpoints():
    """restart-strategy.type auto is exponential-delay then, as in Flink."""
    cluster = ControlPlane([2], behaviour=behaves())
    run(cluster, source_and_sink(settings={"restart-strategy.type": "auto"}))
    assert status(cluster).notes == [
        "Restart strategy: exponential-delay: attempt 0, next wait 1 s.",
        "After a restart sources read from their beginning: no checkpoint is complete yet.",
    ]
    cluster.advance(500)
    assert status(cluster).notes[1] == "A restart goes on from checkpoint 1."
    fail(cluster, "t")
    assert status(cluster).summary.state == "RESTARTING"


def test_a_setting_that_cannot_be_is_refused_with_the_job():
    """A file system without a directory, or a timeout below Flink's least."""
    for settings, words in (
        ({"execution.checkpointing.storage": "filesystem"}, "execution.checkpointing.dir is not set"),
        ({"execution.checkpointing.timeout": "1 ms"}, "execution.checkpointing.timeout is too short"),
    ):
        cluster = ControlPlane([2])
        client = cluster.add_client()
        cluster.say(client, submit("j1", source_and_sink(settings=settings)))
        cluster.settle()
        assert words in client.last(Refused).message


# -- what is shown --------------------------------------------------------------------------------


def test_the_last_ten_are_shown_and_one_task_by_task():
    """Each with what it took, the one that was asked for with its subtasks."""
    cluster = ControlPlane([2], behaviour=behaves(state=StateFile("", 7, b"1234567")))
    run(cluster, source_and_sink(2))
    cluster.advance(14_600)
    records = checkpoints(cluster, detailed=14)
    assert [record.checkpoint_id for record in records] == list(range(6, 16))
    assert records[-1].subtasks == []
    detail = records[-2]
    assert (detail.tasks, detail.acknowledged, detail.state_bytes, detail.location) == (4, 4, 28, "")
    assert [(s.vertex_name, s.subtask_index) for s in detail.subtasks] == [
        ("vertex s", 0),
        ("vertex t", 0),
        ("vertex t", 1),
        ("vertex s", 1),
    ]


def test_messages_about_checkpoints_do_not_reach_workers_that_are_gone():
    """A TaskManager drops what is for a tenure that is over."""
    cluster = ControlPlane([1], behaviour=behaves())
    run(cluster, source_and_sink())
    worker = cluster.workers[0]
    cluster.to_taskmanager("tm-1", NotifyCheckpoint(1, "a1-99", 1, True))
    before = len(worker.received)
    cluster.settle()
    assert len(worker.received) == before
    late = CheckpointAcknowledged(0, worker.allocation_id, "j1/s/0/9", 1, None, SnapshotMetrics())
    cluster.from_worker(worker, late)
    cluster.from_worker(worker, TaskStateChanged(0, worker.allocation_id, "j1/s/0/0", "RUNNING"))
    cluster.settle()
    assert status(cluster).summary.state == "RUNNING"
    assert not [m for m in worker.received if isinstance(m, TriggerCheckpoint)]


# -- what somebody asks for -----------------------------------------------------------------------


def test_a_savepoint_is_taken_beside_a_checkpoint_and_restores_nobody():
    """It is neither limited by what is under way nor subsumed, and nothing is committed for it."""
    cluster = ControlPlane([2], behaviour=behaves(snapshots=False))
    run(cluster, graph([vertex("a")], settings={**EVERY_SECOND, **IN_DIRECTORY}))
    job = cluster.dispatcher._jobs.find("j1")
    cluster.advance(500)
    turn = cluster.dispatcher._turn(cluster.now_ms, "test")
    wisher = cluster.add_client("wisher")
    wish = SavepointRequest(wisher.peer, 7, stops=False)
    assert job.checkpoints.trigger(turn, "savepoint", "/s/1", wish) == ""
    assert [(r.kind, r.location) for r in checkpoints(cluster)][1] == ("savepoint", "/s/1")
    acknowledge(cluster, "a", 2)
    assert wisher.last(SavepointDone) == SavepointDone(1, 7, "j1", 2, "/s/1")
    assert list(cluster.stored) == ["/s/1"]
    assert states(cluster) == [(1, "TASKS"), (2, "COMPLETED")]
    assert notified(cluster) == []
    acknowledge(cluster, "a", 1)
    assert notified(cluster) == [(1, True)]
    fail(cluster, "a")
    assert job.checkpoints.trigger(turn, "savepoint", "/s/2") == "not all of its tasks run"
    cluster.advance(100)
    restore = deployed(cluster, "a").restore
    assert restore is not None and restore.checkpoint_id == 1


def test_a_savepoint_that_is_given_up_says_why():
    """Its failure is not the job's."""
    cluster = ControlPlane([2], behaviour=behaves(declines="no"))
    hourly = {**EVERY_SECOND, "execution.checkpointing.interval": "1 h"}
    run(cluster, graph([vertex("a")], settings=hourly))
    job = cluster.dispatcher._jobs.find("j1")
    turn = cluster.dispatcher._turn(cluster.now_ms, "test")
    wisher = cluster.add_client("wisher")
    wish = SavepointRequest(wisher.peer, 7, stops=False)
    assert job.checkpoints.trigger(turn, "savepoint", "/s/1", wish) == ""
    worker = holder(cluster, "a")
    declined = CheckpointDeclined(0, worker.allocation_id, attempt_of(worker, "a"), 1, "no")
    cluster.from_worker(worker, declined)
    cluster.settle()
    why = "vertex a (1/1) could not take part: no"
    assert wisher.last(SavepointDone) == SavepointDone(1, 7, "j1", 1, "/s/1", why, False)
    assert status(cluster).summary.state == "RUNNING"
