"""What must hold of the data plane, at every step and in the end."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import TYPE_CHECKING

from zmflow.coordination.checkpoints.completed import CompletedCheckpoint
from zmflow.protocol.checkpoints import SubtaskRestore
from zmflow.state.snapshot_files import open_state_file
from zmflow.testing.simulation.dataflow.program import Row, Split
from zmflow.testing.simulation.world import Violation

if TYPE_CHECKING:
    from zmflow.testing.simulation.dataflow.flow import Flow

__all__ = ["FlowRules"]


class FlowRules:
    """The rules.

    1. A split is with the enumerator or with one reader, never twice.
    2. So it is in every completed checkpoint.
    3. Nothing is committed before a checkpoint that it is part of is complete, and never two things under
       one name.
    4. Tasks are restored from checkpoints that were not discarded.
    5. In the end every record was written to each sink exactly once, and counted once; in at-least-once mode
       none is missing.
    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._completed_id = 0
        self._discarded: dict[str, None] = {}
        self._visible: dict[str, dict[str, tuple[Row, ...]]] = {name: {} for name in flow.plan.sinks}

    def splits_moved(self, vertex: str) -> None:
        """Splits of a source have come to a reader or an enumerator."""
        master = self._flow.master
        held: list[Split] = []
        for slot in master.slots.values():
            enumerator = slot.enumerators.get(vertex)
            if enumerator is not None and enumerator.number == master.layout.coordinators[vertex]:
                held += getattr(enumerator._enumerator, "splits", [])
            for task in slot.tasks.values():
                if task.deployment.vertex_id == vertex and task.reader is not None:
                    held += task.reader.splits
        _each_once(held, f"{vertex} holds")

    def completed(self, checkpoint: CompletedCheckpoint | None) -> None:
        """This is the checkpoint that a restart would begin from."""
        if checkpoint is None or checkpoint.checkpoint_id == self._completed_id:
            return
        self._completed_id = checkpoint.checkpoint_id
        self._flow.note("master", f"checkpoint {checkpoint.checkpoint_id} is complete")
        for vertex in checkpoint.metadata.vertices:
            if vertex.coordinator is None:
                continue
            held: list[Split] = list(pickle.loads(vertex.coordinator))
            operator_id = vertex.operators[0].operator_id
            for file in vertex.subtasks:
                if file is not None:
                    for state in open_state_file(file, None).operator(operator_id):
                        held += state.elements if state.name == "source-splits" else []
            _each_once(held, f"checkpoint {checkpoint.checkpoint_id} holds of {vertex.vertex_id}")

    def committed(self, vertex: str, checkpoint_id: int, name: str, rows: tuple[Row, ...]) -> None:
        """Rows become visible."""
        self._flow.note(vertex, f"{name.partition('/')[2]} is committed for {checkpoint_id}: {rows}")
        if checkpoint_id > self._completed_id:
            raise Violation(f"{name} is committed for {checkpoint_id}, complete is {self._completed_id}")
        known = self._visible[vertex].setdefault(name, rows)
        if known != rows:
            raise Violation(f"{name} is committed twice, with {known} and {rows}")

    def discarded(self, location: str) -> None:
        """The files of a checkpoint are deleted."""
        self._discarded[location] = None

    def restored(self, restore: SubtaskRestore | None) -> None:
        """A task is restored from this."""
        if restore is not None and restore.location in self._discarded:
            raise Violation(f"a task is restored from {restore.location}, which was discarded")

    def ended(self) -> None:
        """The job has finished."""
        plan = self._flow.plan
        for vertex, expected in plan.sinks.items():
            rows = [row for part in self._visible[vertex].values() for row in part]
            times = Counter(number for number, _ in rows)
            missing = sorted(number for number in expected if number not in times)
            if missing:
                raise Violation(f"{vertex}: records are lost: {missing}")
            more = sorted(number for number, count in times.items() if count > 1)
            if not plan.exactly_once:
                continue
            if more or len(rows) != len(expected):
                raise Violation(f"{vertex}: records come more than once: {more}")
            self._check_counts(vertex, rows)

    def _check_counts(self, vertex: str, rows: list[Row]) -> None:
        by_key: dict[int, list[int]] = {}
        for number, count in rows:
            by_key.setdefault(number % self._flow.plan.keys, []).append(count)
        for key, counts in by_key.items():
            if any(counts) and sorted(counts) != list(range(1, len(counts) + 1)):
                raise Violation(f"{vertex}: key {key} was counted {sorted(counts)}")


def _each_once(held: list[Split], who: str) -> None:
    twice = [name for name, count in Counter(name for name, _, _ in held).items() if count > 1]
    if twice:
        raise Violation(f"{who} twice: {twice}")
