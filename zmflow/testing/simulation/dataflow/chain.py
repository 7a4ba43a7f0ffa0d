"""``SimulatedChain``: what a simulated task does with records, with the engine's own state and commits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from zmflow.api.functions import RuntimeContext
from zmflow.api.sinks import CommitRequest, WriterContext
from zmflow.api.sources import Source
from zmflow.execution.chain_state import ChainState
from zmflow.execution.operator_snapshots import RestoredOperator
from zmflow.execution.sink_commits import SinkCommits
from zmflow.graph.job_graph import ChainSpec
from zmflow.protocol.messages import TaskDeployment
from zmflow.state.descriptors import ValueStateDescriptor
from zmflow.state.heap import HeapKeyedStateBackend
from zmflow.state.keys import key_group_range
from zmflow.testing.simulation.dataflow.program import PlaceSink

if TYPE_CHECKING:
    from zmflow.testing.simulation.dataflow.plan import Plan

__all__ = ["SimulatedChain"]

_COUNT: ValueStateDescriptor[int] = ValueStateDescriptor("count")


class SimulatedChain:
    """The operators of one task: at most one of each kind, in the order source, count, sink.

    Args:
        spec: which there are.
        deployment: of the task.
        restored: what an operator goes on from.
        emit: takes what leaves the task.
        commit: makes a transaction of the sink visible.
        now_ms: the clock.
    """

    def __init__(
        self,
        spec: ChainSpec,
        deployment: TaskDeployment,
        plan: Plan,
        *,
        restored: Callable[[str], RestoredOperator | None],
        emit: Callable[[Sequence[Any]], None],
        commit: Callable[[CommitRequest[Any]], None],
        now_ms: Callable[[], int],
    ) -> None:
        context = _context(deployment)
        self.state = ChainState(spec, context, restored)
        self.source: Source[Any, Any] | None = None
        self._emit = emit
        self._keys = plan.keys
        self._count: Callable[[int], int] | None = None
        self._sink: SinkCommits | None = None
        for index, node in enumerate(spec.nodes):
            if node.name == "source":
                self.source = node.operator.source  # type: ignore[attr-defined]
            elif node.name == "count":
                self._count = self._values(index) if plan.values else self._backend(index, deployment)
            else:
                sink = PlaceSink(deployment.attempt_id, commit, keeps=plan.keeps)
                functions = self.state.functions(index)
                self._sink = SinkCommits(
                    sink,
                    WriterContext(context, lambda *_: 0, True, now_ms),
                    functions,
                    checkpoints=True,
                    processing_time=now_ms,
                )
                self.state.add_part(index, self._sink.snapshot_state)
                self._sink.begin()
        self.context = context

    def _values(self, index: int) -> Callable[[int], int]:
        values: dict[int, int] = {}
        self.state.keep_values(index, values)

        def count(key: int) -> int:
            values[key] = values.get(key, 0) + 1
            return values[key]

        return count

    def _backend(self, index: int, deployment: TaskDeployment) -> Callable[[int], int]:
        most = deployment.max_parallelism
        groups = key_group_range(deployment.subtask_index, most, deployment.parallelism)
        backend = HeapKeyedStateBackend(most, groups, lambda: 0)
        restored = self.state.restored(index)
        if restored is not None:
            for snapshot in restored.backend_state(groups, most):
                backend.restore(snapshot.group, snapshot)
        self.state.keep_backend(index, backend)
        state = backend.get_state(_COUNT)

        def count(key: int) -> int:
            backend.set_current_key(key)
            number = (state.value() or 0) + 1
            state.update(number)
            return number

        return count

    def process(self, rows: Sequence[Any]) -> None:
        """Take records through it."""
        if self._count is not None:
            rows = [(number, self._count(number % self._keys)) for number in rows]
        if self._sink is not None:
            whole = [row if row.__class__ is tuple else (row, 0) for row in rows]
            self._sink.writer.write_batch(whole)
        self._emit(rows)

    # -- what ``TaskCheckpoints`` and the task call ---------------------------------------------------

    def prepare_checkpoint(self, checkpoint_id: int) -> None:
        """The sink lets go of what was written."""
        if self._sink is not None:
            self._sink.prepare(checkpoint_id)

    def checkpoint_completed(self, checkpoint_id: int) -> None:
        """The sink commits."""
        if self._sink is not None:
            self._sink.completed(checkpoint_id)
        self.state.completed(checkpoint_id)

    @property
    def awaits_checkpoint(self) -> bool:
        """Whether something waits for its commit."""
        return self._sink is not None and self._sink.awaits_checkpoint

    def finish(self) -> None:
        """The input has ended."""
        if self._sink is not None:
            self._sink.finish()

    def due_ms(self) -> int | None:
        """When ``advance`` has something to do."""
        return None if self._sink is None else self._sink.next_processing_time_ms()

    def advance(self, now_ms: int) -> None:
        """Try again what was put off."""
        if self._sink is not None:
            self._sink.advance_processing_time(now_ms)


def _context(deployment: TaskDeployment) -> RuntimeContext:
    return RuntimeContext(
        job_id=deployment.job_id,
        job_name=deployment.job_name,
        task_name=deployment.vertex_name,
        operator_name="",
        subtask_index=deployment.subtask_index,
        parallelism=deployment.parallelism,
        max_parallelism=deployment.max_parallelism,
        attempt_number=deployment.attempt_number,
        host="",
    )
