"""The StreamGraph: operators and edges, with every default filled in and every misuse refused.

Between the transformations and the JobGraph: virtual nodes are gone, each edge has its partitioner, each
operator its parallelism, sharing group and id. Nothing is chained yet.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from zmflow.errors import JobGraphError
from zmflow.graph.job_graph import PARALLELISM_MAX
from zmflow.graph.partitioners import (
    ForwardPartitioner,
    KeptKeysPartitioner,
    Partitioner,
    RebalancePartitioner,
)
from zmflow.graph.sharing import check_co_location, check_one_specification, inherited_group
from zmflow.graph.transformations import (
    Cached,
    ChainingStrategy,
    ErrorPolicy,
    Node,
    OperatorKind,
    Partitioned,
    SideOutput,
    Transformation,
    operators_before,
)
from zmflow.ids import digest, operator_id_of
from zmflow.protocol.resources import ResourceProfile

__all__ = [
    "GraphDefaults",
    "StreamEdge",
    "StreamGraph",
    "StreamNode",
    "build_stream_graph",
    "default_max_parallelism",
]

MAX_PARALLELISM_LEAST = 128
"""Flink's lower bound of a derived max parallelism: room to grow a small job."""


@dataclass(frozen=True, slots=True)
class GraphDefaults:
    """What the environment says where an operator says nothing. ``max_parallelism`` 0 derives it.

    ``sharing_resources`` are those of the slot sharing groups that were registered, by name.
    """

    max_parallelism: int = 0
    buffer_timeout_ms: int = 100
    chaining: bool = True
    sharing_resources: Mapping[str, ResourceProfile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamNode:
    """One operator with all its properties."""

    number: int
    operator_id: str
    uid: str
    name: str
    kind: OperatorKind
    operator: object
    parallelism: int
    max_parallelism: int
    chaining: ChainingStrategy
    sharing_group: str
    co_location_group: str  # "" for none
    managed_memory_weights: Mapping[str, int]
    buffer_timeout_ms: int
    on_error: ErrorPolicy = "fail"
    output_type: object = None
    description: str = ""
    max_parallelism_set: bool = False  # the program names it; else it follows from the parallelism
    parallelism_set: bool = False


@dataclass(frozen=True, slots=True)
class StreamEdge:
    """Records on their way from one operator to another. Two edges may connect the same operators."""

    source: int
    target: int
    input_index: int
    partitioner: Partitioner
    side: SideOutput | None = None  # whose records these are; None: those of the main output

    @property
    def tag(self) -> str:
        """The tag of the side output; "" for the main one."""
        return self.side.tag_id if self.side is not None else ""

    @property
    def output_type(self) -> object:
        """What is declared of the side output's records."""
        return self.side.output_type if self.side is not None else None


@dataclass(frozen=True, slots=True)
class StreamGraph:
    """Operators by number, in topological order, and the edges into each of them.

    ``sharing_resources`` has the slot sharing groups in use that ask for something in particular.
    """

    nodes: dict[int, StreamNode]
    inputs: dict[int, list[StreamEdge]]
    chaining: bool
    sharing_resources: Mapping[str, ResourceProfile] = field(default_factory=dict)

    @property
    def edges(self) -> list[StreamEdge]:
        """All edges, in the order of their targets and of the targets' inputs."""
        return [edge for edges in self.inputs.values() for edge in edges]

    def inputs_of(self, number: int) -> list[StreamEdge]:
        """The edges into an operator."""
        return self.inputs[number]


def default_max_parallelism(parallelism: int) -> int:
    """Flink's derived number of key groups: the next power of two of 1.5 times, from 128 to 32768.

    >>> [default_max_parallelism(p) for p in (1, 85, 86, 200, 32768)]
    [128, 128, 256, 512, 32768]
    """
    wanted = parallelism + parallelism // 2
    power = 1 << max(0, wanted - 1).bit_length()
    return min(max(power, MAX_PARALLELISM_LEAST), PARALLELISM_MAX)


def build_stream_graph(
    roots: Sequence[Transformation],
    defaults: GraphDefaults,
    prepare: Callable[[object], object] = lambda operator: operator,
) -> StreamGraph:
    """The StreamGraph of ``roots`` and everything that leads to them.

    Args:
        roots: operators to run; usually sinks.
        defaults: what the environment says.
        prepare: makes an operator's specification final (the runtime mode is known only now).

    Raises:
        JobGraphError: the dataflow cannot run; names the operator and the remedy.
    """
    transformations = operators_before(roots)
    _check_reachability(transformations)
    _check_uids(transformations)
    nodes: dict[int, StreamNode] = {}
    edges: dict[int, list[StreamEdge]] = {}
    seen_structures: Counter[str] = Counter()
    for item in transformations:
        incoming = [
            StreamEdge(origin.number, item.number, index, _chosen(origin, item, partitioner), side)
            for index, inputs in enumerate((item.inputs, item.second_inputs))
            for node in inputs
            for origin, partitioner, side in _resolve(node)
        ]
        groups = [nodes[edge.source].sharing_group for edge in incoming]
        nodes[item.number] = StreamNode(
            number=item.number,
            operator_id=_operator_id(item, incoming, nodes, seen_structures),
            uid=item.uid,
            name=item.title,
            kind=item.kind,
            operator=prepare(item.operator),
            parallelism=_checked_parallelism(item),
            max_parallelism=_checked_max_parallelism(item, defaults),
            chaining=item.chaining,
            sharing_group=item.sharing_group or inherited_group(groups),
            co_location_group=item.co_location_group,
            managed_memory_weights=dict(item.managed_memory_weights),
            on_error=item.on_error,
            output_type=item.output_type,
            description=item.description,
            max_parallelism_set=bool(item.max_parallelism or defaults.max_parallelism or item.non_parallel),
            parallelism_set=item.parallelism_set,
            buffer_timeout_ms=(
                defaults.buffer_timeout_ms if item.buffer_timeout_ms is None else item.buffer_timeout_ms
            ),
        )
        edges[item.number] = incoming
    _check_operator_ids(nodes.values())
    _check_kept_keys(nodes, edges)
    check_co_location(nodes.values())
    resources = _sharing_resources(transformations, defaults)
    in_use = {node.sharing_group for node in nodes.values()}
    asked = {name: profile for name, profile in resources.items() if name in in_use}
    return StreamGraph(nodes, edges, defaults.chaining, asked)


def _resolve(node: Node) -> Iterator[tuple[Transformation, Partitioner | None, SideOutput | None]]:
    """The operators behind virtual nodes, how their records are spread and which of them: of several
    partitioners or tags on a path the last one written counts."""
    waiting: list[tuple[Node, Partitioner | None, SideOutput | None]] = [(node, None, None)]
    while waiting:
        each, partitioner, side = waiting.pop()
        if isinstance(each, Transformation):
            yield each, partitioner, side
        elif isinstance(each, Partitioned):
            waiting.append((each.input, partitioner or each.partitioner, side))
        elif isinstance(each, SideOutput):
            waiting.append((each.input, partitioner, side or each))
        elif isinstance(each, Cached):
            waiting.append((each.origin, partitioner, side))
        else:
            waiting.extend((one, partitioner, side) for one in reversed(each.inputs))


def _chosen(source: Transformation, target: Transformation, partitioner: Partitioner | None) -> Partitioner:
    equal = source.parallelism == target.parallelism
    if partitioner is None:
        return ForwardPartitioner() if equal else RebalancePartitioner()
    if isinstance(partitioner, ForwardPartitioner) and not equal:
        raise JobGraphError(
            f"forward() connects operators of unequal parallelism: {source.title!r} and {target.title!r}.",
            detail=f"{source.title!r} has parallelism {source.parallelism}, "
            f"{target.title!r} has {target.parallelism}.",
            hint="Give both the same parallelism, or use rescale() or rebalance().",
        )
    return partitioner


def _check_reachability(transformations: Sequence[Transformation]) -> None:
    if not transformations:
        raise JobGraphError(
            "The job has no operators.",
            hint="Start with env.from_source(), from_collection() or from_sequence(), and end in a sink.",
        )
    if not any(item.kind == "sink" for item in transformations):
        last = transformations[-1]
        raise JobGraphError(
            f"The job has no sink: what {last.title!r} produces goes nowhere.",
            hint="End the stream in print(), sink_to(), add_sink() or execute_and_collect().",
        )


def _check_uids(transformations: Sequence[Transformation]) -> None:
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for item in transformations:
        if item.uid:
            owners[item.uid].append(item.title)
    for uid, titles in owners.items():
        if len(titles) > 1:
            raise JobGraphError(
                f"The uid {uid!r} is given to {len(titles)} operators.",
                detail="Operators: " + ", ".join(repr(title) for title in titles) + ".",
                hint="State is found again by uid: give each operator its own.",
            )


def _check_operator_ids(nodes: Iterable[StreamNode]) -> None:
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for node in nodes:
        owners[node.operator_id].append(node.name)
    for operator_id, titles in owners.items():
        if len(titles) > 1:
            raise JobGraphError(
                f"The operator id {operator_id} is that of {len(titles)} operators.",
                detail="Operators: " + ", ".join(repr(title) for title in titles) + ".",
                hint="Give set_uid_hash() another id at one of them.",
            )


def _check_kept_keys(nodes: Mapping[int, StreamNode], edges: Mapping[int, Sequence[StreamEdge]]) -> None:
    """A key's group, and so its subtask, depends on the max parallelism."""
    for edge in (edge for incoming in edges.values() for edge in incoming):
        source, target = nodes[edge.source], nodes[edge.target]
        unequal = source.max_parallelism != target.max_parallelism
        if isinstance(edge.partitioner, KeptKeysPartitioner) and unequal:
            raise JobGraphError(
                f"The keys of {source.name!r} cannot be kept for {target.name!r}.",
                detail=f"Their max parallelism is {source.max_parallelism} and {target.max_parallelism}.",
                hint="Give both the same max parallelism, or use key_by().",
            )


def _sharing_resources(
    transformations: Sequence[Transformation], defaults: GraphDefaults
) -> dict[str, ResourceProfile]:
    """What each slot sharing group asks for, from wherever it was said; it may be said often, but once."""
    said = [(name, profile, "as registered") for name, profile in defaults.sharing_resources.items()]
    said += [
        (item.sharing_group, item.sharing_resources, f"at {item.title!r}")
        for item in transformations
        if item.sharing_group is not None and item.sharing_resources is not None
    ]
    found: dict[str, tuple[ResourceProfile, str]] = {}
    for name, profile, where in said:
        other, elsewhere = found.setdefault(name, (profile, where))
        check_one_specification(name, other, elsewhere, profile, where)
    return {name: profile for name, (profile, _) in sorted(found.items())}


def _checked_parallelism(item: Transformation) -> int:
    if not 1 <= item.parallelism <= PARALLELISM_MAX:
        raise JobGraphError(
            f"The operator {item.title!r} has parallelism {item.parallelism}.",
            hint=f"Allowed: 1 to {PARALLELISM_MAX}.",
        )
    return item.parallelism


def _checked_max_parallelism(item: Transformation, defaults: GraphDefaults) -> int:
    if item.non_parallel:
        return 1
    limit = item.max_parallelism or defaults.max_parallelism or default_max_parallelism(item.parallelism)
    if not item.parallelism <= limit <= PARALLELISM_MAX:
        raise JobGraphError(
            f"The operator {item.title!r} has parallelism {item.parallelism} and max parallelism {limit}.",
            hint=f"Max parallelism must be at least the parallelism and at most {PARALLELISM_MAX}.",
        )
    return limit


def _operator_id(
    item: Transformation, incoming: Sequence[StreamEdge], nodes: dict[int, StreamNode], seen: Counter[str]
) -> str:
    """The one that was given, or made from the uid; otherwise from what the operator is and what leads to it.

    Names, parallelism and branches elsewhere in the program do not change it. Operators that look the
    same are counted in the order they were written.
    """
    if item.uid_hash:
        return item.uid_hash
    if item.uid:
        return operator_id_of(item.uid)
    inputs = [
        f"{nodes[edge.source].operator_id} {edge.partitioner.name}"
        + (f" {edge.input_index} {edge.tag}" if edge.input_index or edge.tag else "")
        for edge in incoming
    ]
    structure = digest("structure", item.kind, type(item.operator).__name__, *_without_choice(inputs))
    seen[structure] += 1
    return digest("occurrence", structure, str(seen[structure]))


def _without_choice(inputs: Sequence[str]) -> list[str]:
    # FORWARD and REBALANCE follow from parallelism where the program chose neither; an id that
    # changed with the parallelism could not be used to restore at another one.
    return [text.replace(" REBALANCE", " FORWARD") for text in inputs]
