"""What a job restores of a snapshot that another job left, and what it is refused for."""

from __future__ import annotations

import msgspec
import pytest

from zmflow.coordination.checkpoints.recovery_plan import RecoveryPlan, foreign_state, plan_recovery
from zmflow.graph.job_graph import JobOperator, JobVertex
from zmflow.protocol.checkpoint_metadata import CheckpointMetadata, OperatorRecord, VertexRecord
from zmflow.protocol.checkpoints import StateFile
from zmflow.state.native_files import foreign_files

from .job_graphs import graph, vertex


def record(
    *operators: str,
    parallelism: int = 2,
    maximum: int = 128,
    finished: tuple[int, ...] = (),
    union: bool = False,
) -> VertexRecord:
    """A vertex of a snapshot, each of whose tasks has a file."""
    chain = [OperatorRecord(name, f"uid-{name}", name) for name in operators]
    files: list[StateFile | None] = [StateFile(f"f{i}", 1, has_union=union) for i in range(parallelism)]
    return VertexRecord("v", "v", parallelism, maximum, chain, files, list(finished))


def job(*chains: tuple[str, ...], parallelism: int = 2, maximum: int = 0) -> list[JobVertex]:
    """Vertices with these operators; ``maximum``: the program names it."""
    vertices = []
    for index, names in enumerate(chains):
        made = msgspec.structs.replace(
            vertex(f"v{index}", parallelism),
            chain=[JobOperator(name, f"uid-{name}", name, "operator") for name in names],
            max_parallelism_set=bool(maximum),
        )
        vertices.append(msgspec.structs.replace(made, max_parallelism=maximum or 128))
    return vertices


def planned(
    vertices: list[JobVertex], *records: VertexRecord, stateful: str = "abc", drops: bool = False
) -> RecoveryPlan:
    """The plan of a job against a snapshot whose operators with these letters have state."""
    metadata = CheckpointMetadata("j", "job", 5, "savepoint", 0, list(records))
    return plan_recovery(graph(vertices, []), metadata, set(stateful), drops=drops)


def verdicts(plan: RecoveryPlan) -> dict[str, str]:
    """What becomes of each operator."""
    return {operator.name: operator.verdict for operator in plan.operators}


def test_files_of_another_state_backend_are_refused():
    """Whatever the operators are: only that backend can open them. What is canonical is anybody's."""
    canonical = record("a")
    native = msgspec.structs.replace(canonical, subtasks=[None, StateFile("f", 1, format="rocksdb")])
    for held, backend, sentence in (
        (canonical, "hashmap", ""),
        (native, "rocksdb", ""),
        (native, "hashmap", foreign_files("rocksdb", "hashmap")),
    ):
        assert foreign_state(CheckpointMetadata("j", "job", 1, "checkpoint", 0, [held]), backend) == sentence


def test_operators_are_matched_wherever_they_are_chained():
    """What has no state is neither missed nor counted."""
    plan = planned(job(("a", "x"), ("n",), ("b",)), record("a", "b", "x", "y"), stateful="ab")
    assert verdicts(plan) == {"a": "restored", "x": "new", "n": "new", "b": "restored"}


def test_state_without_an_operator_is_refused_unless_it_may_be_dropped():
    """The refusal names the operator with its uid."""
    (refused,) = planned(job(("a",)), record("a", "b"), stateful="ab").having("refused")
    assert (refused.name, refused.uid, refused.parallelism) == ("b", "uid-b", 0)
    assert "no such operator" in refused.reason
    assert verdicts(planned(job(("a",)), record("a", "b"), stateful="ab", drops=True))["b"] == "dropped"


def test_a_derived_max_parallelism_gives_way_to_that_of_the_snapshot():
    """Keys stay in their key groups, at any parallelism they can be shared out to."""
    plan = planned(job(("a",), parallelism=3), record("a", maximum=64))
    assert plan.graph.vertices[0].max_parallelism == 64
    assert plan.having("refused") == []


@pytest.mark.parametrize(
    ("vertices", "records", "reason"),
    [
        (job(("a",), maximum=256), [record("a")], "the program says max parallelism 256"),
        (job(("a",), parallelism=100), [record("a", maximum=64)], "cannot be shared out to 100 tasks"),
        (job(("a", "b")), [record("a"), record("b", maximum=64)], "chained to one whose state has 128"),
        (job(("a",)), [record("a", finished=(0,), union=True)], "Some of its tasks had finished"),
    ],
)
def test_what_cannot_be_restored_is_refused(
    vertices: list[JobVertex], records: list[VertexRecord], reason: str
):
    """With the reason."""
    (refused,) = planned(vertices, *records).having("refused")
    assert reason in refused.reason


def test_the_same_max_parallelism_may_be_named():
    """Also where a task had finished, without state that all get."""
    assert planned(job(("a",), maximum=128), record("a", finished=(0,))).having("refused") == []
