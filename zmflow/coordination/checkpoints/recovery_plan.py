"""What a job that begins from a checkpoint or savepoint restores of it: operator by operator.

Operators are found by their ids, which follow from their uids. Key groups stay what they were: where
the program leaves max parallelism open, that of the snapshot is adopted; where it names another, the job is
refused.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import msgspec

from zmflow.coordination.checkpoints.in_flight_assignment import homeless_records
from zmflow.graph.job_graph import JobGraph, JobOperator, JobVertex
from zmflow.protocol.checkpoint_metadata import CheckpointMetadata, OperatorRecord, VertexRecord
from zmflow.state.native_files import foreign_files

__all__ = ["OperatorPlan", "RecoveryPlan", "Verdict", "foreign_state", "plan_recovery"]

Verdict: TypeAlias = Literal["restored", "new", "dropped", "refused"]
"""``new``: the snapshot has nothing of it. ``dropped``: the job has no such operator."""

_HOMELESS = (
    "Records were on their way to it on an exchange that the job has not: begin from a savepoint, in which "
    "nothing is on its way."
)
_HOMELESS_DROPPED = "Records that were on their way to it on an exchange that the job has not are dropped."


@dataclass(frozen=True, slots=True)
class OperatorPlan:
    """What becomes of one operator.

    Args:
        name: of the job, or of the snapshot where the job has no such operator.
        parallelism_before: in the snapshot; 0: it is not in it.
        parallelism: in the job; 0: it is not in it.
        reason: why it is refused, or what is to be known; a sentence or empty.
    """

    operator_id: str
    uid: str
    name: str
    verdict: Verdict
    parallelism_before: int = 0
    parallelism: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """What a job restores.

    Args:
        graph: the job with the max parallelism of the snapshot.
        operators: those of the job in its order, then those that only the snapshot has.
    """

    graph: JobGraph
    operators: list[OperatorPlan] = field(default_factory=list)

    def having(self, verdict: Verdict) -> list[OperatorPlan]:
        """The operators of which this becomes."""
        return [operator for operator in self.operators if operator.verdict == verdict]


def foreign_state(metadata: CheckpointMetadata, backend: str) -> str:
    """Why a job with this state backend cannot begin from a checkpoint at all; empty: it can."""
    formats = sorted({file.format for file in metadata.files()})
    return next(filter(None, (foreign_files(each, backend) for each in formats)), "")


def plan_recovery(
    graph: JobGraph, metadata: CheckpointMetadata, stateful: Collection[str], *, drops: bool
) -> RecoveryPlan:
    """Compare a job with a snapshot.

    Args:
        stateful: the ids of the operators that have state in it.
        drops: whether state of operators that the job has not may be dropped.
    """
    records = {o.operator_id: (v, o) for v in metadata.vertices for o in v.operators}
    homeless = homeless_records(graph, metadata)
    vertices: list[JobVertex] = []
    operators: list[OperatorPlan] = []
    for vertex in graph.vertices:
        found = [records[o.operator_id][0] for o in vertex.chain if o.operator_id in records]
        kept = [
            records[o.operator_id][0]
            for o in vertex.chain
            if o.operator_id in records and o.operator_id in stateful
        ]
        maximum = (kept or found)[0].max_parallelism if found else vertex.max_parallelism
        if vertex.max_parallelism_set or maximum < vertex.parallelism:
            maximum = vertex.max_parallelism
        vertices.append(msgspec.structs.replace(vertex, max_parallelism=maximum))
        for operator in vertex.chain:
            record = records.get(operator.operator_id)
            reason = "" if record is None else _refusal(vertex, operator, record[0], stateful, maximum)
            if operator.operator_id in homeless and not drops:
                reason = reason or _HOMELESS
            planned = _of_job(vertex, operator, record, stateful, reason)
            if operator.operator_id in homeless and not planned.reason:
                planned = replace(planned, reason=_HOMELESS_DROPPED)
            operators.append(planned)
    known = {o.operator_id for vertex in graph.vertices for o in vertex.chain}
    for operator_id, (left, of_snapshot) in records.items():
        if operator_id not in known and (operator_id in stateful or operator_id in homeless):
            operators.append(_of_snapshot(left, of_snapshot, drops=drops))
    return RecoveryPlan(msgspec.structs.replace(graph, vertices=vertices), operators)


def _of_job(
    vertex: JobVertex,
    operator: JobOperator,
    record: tuple[VertexRecord, OperatorRecord] | None,
    stateful: Collection[str],
    reason: str,
) -> OperatorPlan:
    before = 0 if record is None else record[0].parallelism
    verdict: Verdict = "new"
    if reason:
        verdict = "refused"
    elif record is not None and (operator.operator_id in stateful or record[0].all_finished):
        verdict = "restored"
        if record[0].all_finished:
            reason = "It had finished, and only says so."
    elif record is not None:
        reason = "It had no state."
    return OperatorPlan(
        operator.operator_id, operator.uid, operator.name, verdict, before, vertex.parallelism, reason
    )


def _refusal(
    vertex: JobVertex, operator: JobOperator, record: VertexRecord, stateful: Collection[str], maximum: int
) -> str:
    """Why the state of an operator cannot be restored; empty where it can."""
    if operator.operator_id not in stateful:
        return ""
    if (
        record.finished
        and not record.all_finished
        and any(f is not None and f.has_union for f in record.subtasks)
    ):
        return "Some of its tasks had finished, and it holds state that every task gets all of."
    if record.max_parallelism == maximum:
        return ""
    if vertex.max_parallelism_set:
        return (
            f"Its state has {record.max_parallelism} key groups, and the program says max parallelism "
            f"{vertex.max_parallelism}."
        )
    if record.max_parallelism < vertex.parallelism:
        return (
            f"Its state has {record.max_parallelism} key groups, which cannot be shared out to "
            f"{vertex.parallelism} tasks."
        )
    return (
        f"Its state has {record.max_parallelism} key groups, and it is chained to one whose state has "
        f"{maximum}."
    )


def _of_snapshot(record: VertexRecord, operator: OperatorRecord, *, drops: bool) -> OperatorPlan:
    reason = "" if drops else "It has state or records on their way to it, and the job has no such operator."
    verdict: Verdict = "dropped" if drops else "refused"
    before = record.parallelism
    return OperatorPlan(operator.operator_id, operator.uid, operator.name, verdict, before, 0, reason)
