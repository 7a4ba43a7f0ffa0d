"""What each subtask is told when it is deployed: its operators, its gates, and where its output goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zmflow.coordination.checkpoints.in_flight_assignment import can_overtake
from zmflow.coordination.execution_graph import Execution
from zmflow.coordination.job_layout import JobLayout
from zmflow.coordination.slots import PhysicalSlot
from zmflow.graph.job_graph import JobEdge, JobVertex
from zmflow.graph.managed_memory import managed_memory_shares, share_bytes
from zmflow.graph.partitioners import consumers_of, producers_of
from zmflow.protocol.checkpoints import SubtaskRestore
from zmflow.protocol.job_files import JobFile
from zmflow.protocol.messages import ChannelTarget, ResultPartition, TaskDeployment

__all__ = ["Wiring"]


class Wiring:
    """The channels of a job. A gate's channels are, for its edges in the order of the JobGraph, each
    edge's producers in order; so producer and consumer number a channel alike without talking."""

    def __init__(
        self,
        job_id: str,
        layout: JobLayout,
        memory_weights: Mapping[str, int],
        files: Sequence[JobFile] = (),
    ) -> None:
        graph = layout.graph
        self._job_id = job_id
        self._graph = graph
        self._layout = layout
        self._files = list(files)
        self._shares = managed_memory_shares(graph, memory_weights)
        self._vertices: dict[str, JobVertex] = {vertex.vertex_id: vertex for vertex in graph.vertices}
        self._outputs: dict[str, list[JobEdge]] = {}
        self._gates: dict[str, dict[int, list[JobEdge]]] = {}
        for edge in graph.edges:
            self._outputs.setdefault(edge.source, []).append(edge)
            self._gates.setdefault(edge.target, {}).setdefault(edge.input_index, []).append(edge)

    def deployment(self, execution: Execution, restore: SubtaskRestore | None) -> TaskDeployment:
        """The deployment of one subtask. It and every consumer of its output must have a slot."""
        vertex_id, subtask_index = execution.subtask
        vertex = self._vertices[vertex_id]
        slot = self._slot(execution.subtask)
        return TaskDeployment(
            attempt_id=execution.attempt_id,
            job_id=self._job_id,
            job_name=self._graph.name,
            vertex_id=vertex.vertex_id,
            vertex_name=vertex.name,
            subtask_index=subtask_index,
            parallelism=vertex.parallelism,
            max_parallelism=vertex.max_parallelism,
            attempt_number=execution.attempt_number,
            operators=vertex.operators,
            gate_channels=self._gate_channels(vertex_id, subtask_index),
            partitions=[
                ResultPartition(
                    edge.edge_id,
                    [
                        self._target(edge, subtask_index, consumer)
                        for consumer in consumers_of(
                            edge.pointwise,
                            subtask_index,
                            vertex.parallelism,
                            self._vertices[edge.target].parallelism,
                        )
                    ],
                    self._vertices[edge.target].max_parallelism,
                )
                for edge in self._outputs.get(vertex.vertex_id, [])
            ],
            settings=self._graph.settings,
            py_files=[],
            coordinator_number=self._layout.coordinators[vertex_id],
            managed_memory={
                use_case: share_bytes(share, slot.resources.managed_memory_bytes)
                for use_case, share in self._shares[vertex_id].items()
            },
            restore=restore,
            files=self._files,
            overtakes=can_overtake(self._graph, vertex_id),
        )

    def _slot(self, subtask: tuple[str, int]) -> PhysicalSlot:
        logical = self._layout.sharing.logical_slot(subtask)
        assert logical is not None, f"{subtask} is deployed without a slot"
        return logical.physical

    def _producers(self, edge: JobEdge, consumer: int) -> range:
        source, target = self._vertices[edge.source], self._vertices[edge.target]
        return producers_of(edge.pointwise, consumer, source.parallelism, target.parallelism)

    def _gate_channels(self, vertex_id: str, subtask_index: int) -> list[int]:
        gates = self._gates.get(vertex_id, {})
        return [
            sum(len(self._producers(edge, subtask_index)) for edge in gates.get(index, []))
            for index in range(max(gates, default=-1) + 1)
        ]

    def _target(self, edge: JobEdge, producer: int, consumer: int) -> ChannelTarget:
        before = 0
        for other in self._gates[edge.target][edge.input_index]:
            if other is edge:
                break
            before += len(self._producers(other, consumer))
        slot = self._slot((edge.target, consumer))
        return ChannelTarget(
            self._layout.executions.at((edge.target, consumer)).attempt_id,
            edge.input_index,
            before + producer - self._producers(edge, consumer).start,
            slot.allocation_id,
            slot.endpoint,
        )
