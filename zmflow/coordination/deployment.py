"""What each subtask is told when it is deployed: its operators, its gates, and where its output goes."""

from __future__ import annotations

from zmflow.coordination.execution_graph import Execution, ExecutionGraph
from zmflow.coordination.slot_pool import SlotPool
from zmflow.graph.job_graph import JobEdge, JobGraph, JobVertex
from zmflow.graph.partitioners import consumers_of, producers_of
from zmflow.protocol.messages import ChannelTarget, ResultPartition, TaskDeployment

__all__ = ["Wiring"]


class Wiring:
    """The channels of a job. A gate's channels are, for its edges in the order of the JobGraph, each
    edge's producers in order; so producer and consumer number a channel alike without talking."""

    def __init__(self, job_id: str, graph: JobGraph, executions: ExecutionGraph, pool: SlotPool) -> None:
        self._job_id = job_id
        self._graph = graph
        self._executions = executions
        self._pool = pool
        self._vertices: dict[str, JobVertex] = {vertex.vertex_id: vertex for vertex in graph.vertices}
        self._outputs: dict[str, list[JobEdge]] = {}
        self._gates: dict[str, dict[int, list[JobEdge]]] = {}
        for edge in graph.edges:
            self._outputs.setdefault(edge.source, []).append(edge)
            self._gates.setdefault(edge.target, {}).setdefault(edge.input_index, []).append(edge)

    def deployment(self, execution: Execution) -> TaskDeployment:
        """The deployment of one subtask. Every slot of the job must be ready."""
        vertex = self._vertices[execution.vertex_id]
        return TaskDeployment(
            attempt_id=execution.attempt_id,
            job_id=self._job_id,
            job_name=self._graph.name,
            vertex_id=vertex.vertex_id,
            vertex_name=vertex.name,
            subtask_index=execution.subtask_index,
            parallelism=vertex.parallelism,
            max_parallelism=vertex.max_parallelism,
            attempt_number=execution.attempt_number,
            operators=vertex.operators,
            gate_channels=self._gate_channels(execution),
            partitions=[
                ResultPartition(
                    edge.edge_id,
                    [
                        self._target(edge, execution.subtask_index, consumer)
                        for consumer in consumers_of(
                            edge.pointwise,
                            execution.subtask_index,
                            vertex.parallelism,
                            self._vertices[edge.target].parallelism,
                        )
                    ],
                    self._vertices[edge.target].max_parallelism,
                )
                for edge in self._outputs.get(vertex.vertex_id, [])
            ],
            settings=self._graph.settings,
            py_files=self._graph.py_files,
        )

    def _producers(self, edge: JobEdge, consumer: int) -> range:
        source, target = self._vertices[edge.source], self._vertices[edge.target]
        return producers_of(edge.pointwise, consumer, source.parallelism, target.parallelism)

    def _gate_channels(self, execution: Execution) -> list[int]:
        gates = self._gates.get(execution.vertex_id, {})
        return [
            sum(len(self._producers(edge, execution.subtask_index)) for edge in gates.get(index, []))
            for index in range(max(gates, default=-1) + 1)
        ]

    def _target(self, edge: JobEdge, producer: int, consumer: int) -> ChannelTarget:
        before = 0
        for other in self._gates[edge.target][edge.input_index]:
            if other is edge:
                break
            before += len(self._producers(other, consumer))
        slot = self._pool.of_subtask(edge.target, consumer)
        assert slot is not None and slot.endpoint is not None, "deployed before all slots were ready"
        return ChannelTarget(
            self._executions.at((edge.target, consumer)).attempt_id,
            edge.input_index,
            before + producer - self._producers(edge, consumer).start,
            slot.grant.allocation_id,
            slot.endpoint,
        )
