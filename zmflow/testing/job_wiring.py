"""From a JobGraph to subtasks that are connected as a cluster would connect them."""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from zmflow.api.functions import RuntimeContext
from zmflow.api.operators import SinkOperator
from zmflow.config import Settings
from zmflow.config.options import SEGMENT_SIZE
from zmflow.execution.async_calls import AsyncHost
from zmflow.execution.output import ResultWriter, writer_for
from zmflow.graph.job_graph import ChainSpec, JobEdge, JobGraph, JobOperator, JobVertex
from zmflow.graph.partitioners import CustomPartitioner, HashPartitioner, consumers_of, producers_of
from zmflow.testing.job_tasks import Deliveries, JobTask, QueueChannel, RecordingSink

__all__ = ["JobWiring", "name_of"]

_PREFIXES = {"source": "Source: ", "operator": "", "sink": "Sink: "}


def name_of(operator: JobOperator) -> str:
    """What the program calls an operator; plans and logs say of sources and sinks that they are some.

    >>> name_of(JobOperator("o1", "", "Source: words", "source"))
    'words'
    """
    return operator.name.removeprefix(_PREFIXES[operator.kind])


class JobWiring:
    """All subtasks of a job.

    Args:
        graph: the job.
        written: for each sink, by its name, the list that takes what the sink would have written.
        job_parameters: what ``RuntimeContext.get_job_parameter`` finds.

    Attributes:
        tasks: the subtasks of each vertex, vertices in topological order.
        deliveries: what is on its way between them.
    """

    def __init__(
        self, graph: JobGraph, written: Mapping[str, list[Any]], job_parameters: Mapping[str, str]
    ) -> None:
        self._graph = graph
        self._vertices = {vertex.vertex_id: vertex for vertex in graph.vertices}
        self.deliveries: Deliveries = deque()
        self.tasks: dict[str, list[JobTask]] = {
            vertex.vertex_id: [
                JobTask(
                    _recording(pickle.loads(vertex.operators), vertex, written),
                    _context(graph, vertex, index, job_parameters),
                    self._gate_channels(vertex, index),
                )
                for index in range(vertex.parallelism)
            ]
            for vertex in graph.vertices
        }

    def open(self, clock: Callable[[], int], host_for: Callable[[Callable[[], None]], AsyncHost]) -> None:
        """Connect the subtasks, and open them."""
        edges = {edge.edge_id: edge for edge in self._graph.edges}
        for vertex in reversed(self._graph.vertices):  # consumers first, as for who sends on opening
            for index, task in enumerate(self.tasks[vertex.vertex_id]):
                outputs: list[tuple[ResultWriter, Sequence[QueueChannel]]] = []
                functions: list[object] = []
                for output in task.spec.outputs:
                    edge = edges[output.edge_id]
                    channels = self._channels(edge, index)
                    if isinstance(output.partitioner, (HashPartitioner, CustomPartitioner)):
                        functions.append(output.partitioner.key_selector)
                    if isinstance(output.partitioner, CustomPartitioner):
                        functions.append(output.partitioner.partitioner)
                    chance = random.Random(index)  # noqa: S311 - the same in every run, on purpose
                    writer = writer_for(
                        output.partitioner,
                        channels,
                        frame_size_bytes=Settings()[SEGMENT_SIZE],
                        max_parallelism=self._vertices[edge.target].max_parallelism,
                        choose=lambda items, count, chance=chance: chance.choices(items, k=count),  # type: ignore[misc]
                        first=0,
                    )
                    outputs.append((writer, channels))
                task.open(
                    outputs,
                    functions,
                    clock=clock,
                    host_for=host_for,
                    batch_mode=self._graph.runtime_mode == "BATCH",
                )

    def _channels(self, edge: JobEdge, producer: int) -> list[QueueChannel]:
        """The channels of one producer; a gate numbers them by edge and producer, as on a cluster."""
        source, target = self._vertices[edge.source], self._vertices[edge.target]
        channels = []
        for consumer in consumers_of(edge.pointwise, producer, source.parallelism, target.parallelism):
            before = 0
            for other in self._gates(target)[edge.input_index]:
                if other is edge:
                    break
                before += len(self._producers(other, consumer))
            index = before + producer - self._producers(edge, consumer).start
            task = self.tasks[edge.target][consumer]
            channels.append(QueueChannel(self.deliveries, task, edge.input_index, index))
        return channels

    def _gates(self, vertex: JobVertex) -> list[list[JobEdge]]:
        edges = [edge for edge in self._graph.edges if edge.target == vertex.vertex_id]
        count = max((edge.input_index for edge in edges), default=-1) + 1
        return [[edge for edge in edges if edge.input_index == gate] for gate in range(count)]

    def _gate_channels(self, vertex: JobVertex, consumer: int) -> list[int]:
        return [sum(len(self._producers(edge, consumer)) for edge in gate) for gate in self._gates(vertex)]

    def _producers(self, edge: JobEdge, consumer: int) -> range:
        source, target = self._vertices[edge.source], self._vertices[edge.target]
        return producers_of(edge.pointwise, consumer, source.parallelism, target.parallelism)


def _context(
    graph: JobGraph, vertex: JobVertex, index: int, job_parameters: Mapping[str, str]
) -> RuntimeContext:
    return RuntimeContext(
        job_id="0" * 32,
        job_name=graph.name,
        task_name=vertex.name,
        operator_name="",
        subtask_index=index,
        parallelism=vertex.parallelism,
        max_parallelism=vertex.max_parallelism,
        attempt_number=0,
        host="localhost",
        job_parameters=dict(job_parameters),
        accumulators={},
    )


def _recording(spec: ChainSpec, vertex: JobVertex, written: Mapping[str, list[Any]]) -> ChainSpec:
    """The chain, with sinks that keep what they are given."""
    nodes = [
        replace(node, operator=SinkOperator(RecordingSink(written[name_of(described)])))
        if described.kind == "sink"
        else node
        for node, described in zip(spec.nodes, vertex.chain, strict=True)
    ]
    return replace(spec, nodes=nodes)
