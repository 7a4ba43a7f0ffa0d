"""What restarts goes on from the newest checkpoint: which state goes where."""

from __future__ import annotations

import msgspec
import pytest

from zmflow.coordination.checkpoints.completed import CompletedCheckpoint
from zmflow.coordination.checkpoints.restore_assignment import restore_of
from zmflow.graph.job_graph import JobOperator, JobVertex
from zmflow.protocol.checkpoint_metadata import CheckpointMetadata, OperatorRecord, VertexRecord
from zmflow.protocol.checkpoints import OperatorRestore, StateFile
from zmflow.state.keys import key_group_range
from zmflow.testing.control_plane import ControlPlane

from .checkpointed import EVERY_SECOND, behaves, deployed, source, source_and_sink
from .job_graphs import edge, graph, vertex
from .test_checkpoints import finish
from .test_job_life import run, status
from .test_restarts import fail, holder

STATE = StateFile("", 4, b"abcd")


def test_what_restarts_is_restored_from_the_newest_completed_checkpoint():
    """Each task its own file, and the first of a source the state of its enumerator, which begins anew."""
    cluster = ControlPlane([2], behaviour=behaves(state=STATE))
    run(cluster, source_and_sink(2))
    assert deployed(cluster, "s").restore is None
    cluster.advance(1_600)
    fail(cluster, "t")
    cluster.advance(100)
    first, second = deployed(cluster, "s").restore, deployed(cluster, "s", 1).restore
    assert first is not None and second is not None
    assert (first.checkpoint_id, first.coordinator, second.coordinator) == (2, b"s at 2", None)
    assert first.operators == [OperatorRestore("op-s", 2, [STATE], [STATE], own=True)]
    assert deployed(cluster, "s").coordinator_number == 1
    assert status(cluster).checkpoints.restored_id == 2


def test_without_a_completed_checkpoint_tasks_begin_anew():
    """One that was given up is nobody's beginning."""
    cluster = ControlPlane([2], behaviour=behaves(state=STATE, snapshots=False))
    run(cluster, source_and_sink())
    cluster.advance(600)
    fail(cluster, "t")
    cluster.advance(100)
    assert deployed(cluster, "s").restore is None


def test_only_the_region_that_restarts_is_restored():
    """An enumerator that lives on keeps what it knows, and gives back what the newer attempt has not."""
    cluster = ControlPlane([1, 1], behaviour=behaves(state=STATE))
    run(cluster, source_and_sink(2, pointwise=True))
    cluster.advance(600)
    fail(cluster, "t")
    cluster.advance(100)
    assert deployed(cluster, "t", 1).restore is None, "it never stopped"
    restore = deployed(cluster, "s", 0).restore
    assert restore is not None
    assert (restore.checkpoint_id, restore.coordinator) == (1, None)


def test_an_enumerator_that_is_lost_with_its_worker_begins_anew_from_the_checkpoint():
    """All readers restart with it."""
    cluster = ControlPlane([1, 1, 1], behaviour=behaves(state=STATE))
    run(cluster, source_and_sink(2, pointwise=True))
    cluster.advance(600)
    cluster.kill_worker(holder(cluster, "s", 0))
    cluster.advance(200)
    restores = [deployed(cluster, "s", index).restore for index in (0, 1)]
    assert [restore.coordinator for restore in restores] == [b"s at 1", None]


def test_a_vertex_whose_tasks_had_all_finished_only_says_that_it_has_ended():
    """It has neither state nor splits to read."""
    cluster = ControlPlane([2], behaviour=behaves(state=STATE))
    run(cluster, source_and_sink())
    finish(cluster, "s")
    cluster.advance(600)
    fail(cluster, "t")
    cluster.advance(100)
    restore = deployed(cluster, "s").restore
    assert restore is not None
    assert (restore.finished, restore.operators, restore.coordinator) == (True, [], None)
    restore = deployed(cluster, "t").restore
    assert restore is not None and not restore.finished


def test_the_adaptive_scheduler_shares_state_out_anew():
    """Another parallelism gets the files whose key groups meet its own, and all operator state."""
    settings = {
        "jobmanager.scheduler": "adaptive",
        "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout": "100 ms",
        "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling": "1 s",
        "jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout": "100 ms",
    }
    cluster = ControlPlane([1], behaviour=behaves(state=STATE), settings=settings)
    run(cluster, graph([source("s", 2), vertex("t", 2)], [edge("s", "t")], EVERY_SECOND))
    cluster.advance(1_000)
    assert status(cluster).summary.tasks_total == 2
    cluster.add_taskmanager(1)
    cluster.advance(3_000)
    assert status(cluster).summary.tasks_total == 4
    restore = deployed(cluster, "t", 1).restore
    assert restore is not None
    assert restore.operators == [OperatorRestore("op-t", 1, [STATE], [STATE])]
    first = deployed(cluster, "s").restore
    assert first is not None
    assert first.coordinator == f"s at {first.checkpoint_id}".encode()


def checkpoint(
    parallelism: int, *, union: bool = False, finished: tuple[int, ...] = ()
) -> CompletedCheckpoint:
    """One vertex with an operator ``x``, a file for each subtask."""
    files = [StateFile(f"x-{index}", 1, has_union=union and index == 0) for index in range(parallelism)]
    left = [None if index in finished else file for index, file in enumerate(files)]
    record = VertexRecord(
        "old", "old", parallelism, 128, [OperatorRecord("x", "", "x")], left, list(finished), b"enumerator"
    )
    return CompletedCheckpoint(CheckpointMetadata("j", "job", 5, "checkpoint", 0, [record]), "/c")


def restored(vertex_parallelism: int, index: int, found: CompletedCheckpoint) -> OperatorRestore:
    """What the operator of a subtask gets."""
    records = {"x": found.metadata.vertices[0]}
    restore = restore_of(_vertex(vertex_parallelism), index, found, records, enumerator=False)
    (operator,) = restore.operators
    return operator


def _vertex(parallelism: int) -> JobVertex:
    plain = vertex("new", parallelism)
    return msgspec.structs.replace(plain, chain=[JobOperator("x", "", "x", "operator")])


@pytest.mark.parametrize("before", [1, 2, 3, 5, 8, 100, 128])
@pytest.mark.parametrize("after", [1, 2, 3, 4, 7, 100, 128])
def test_each_subtask_gets_the_files_of_the_owners_of_its_key_groups(before: int, after: int):
    """Neither one too few nor one too many, whatever the parallelism was and is."""
    found = checkpoint(before)
    for index in range(after):
        own = set(key_group_range(index, 128, after))
        meeting = [f"x-{old}" for old in range(before) if own & set(key_group_range(old, 128, before))]
        assert [file.path for file in restored(after, index, found).keyed] == meeting


def test_union_state_needs_the_files_of_all():
    """Also where each subtask has its own again; keyed state is only its own."""
    operator = restored(2, 1, checkpoint(2, union=True))
    assert (operator.own, [f.path for f in operator.operator if f]) == (False, ["x-0", "x-1"])
    assert [file.path for file in operator.keyed] == ["x-1"]


def test_a_subtask_that_had_finished_among_others_has_nothing_to_begin_from():
    """It is not told that its vertex is finished: its reader asks for splits and gets none."""
    operator = restored(2, 0, checkpoint(2, finished=(0,)))
    assert (operator.own, operator.operator, operator.keyed) == (True, [None], [])


def test_operators_are_found_wherever_they_were_chained():
    """The new vertex has one operator of the old one, and another that has no state."""
    found = checkpoint(1)
    records = {"x": found.metadata.vertices[0]}
    chain = [JobOperator("new", "", "new", "source"), JobOperator("x", "", "x", "operator")]
    other = msgspec.structs.replace(vertex("v"), chain=chain)
    restore = restore_of(other, 0, found, records, enumerator=True)
    assert [operator.operator_id for operator in restore.operators] == ["x"]
    assert restore.coordinator is None, "another source's enumerator"
