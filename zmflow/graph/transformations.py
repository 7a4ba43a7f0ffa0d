"""What the API records while a program describes its dataflow: one node per operator, before chaining.

A ``Transformation`` is an operator; ``Partitioned``, ``Union`` and ``SideOutput`` are virtual: they say which
records reach the operators behind them, and how, and vanish when the StreamGraph is made. Inputs of a node
are fixed when it is made, so the nodes form a directed graph without cycles. Numbers grow along every path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeAlias

from zmflow.graph.partitioners import Partitioner
from zmflow.protocol.resources import ResourceProfile

__all__ = [
    "Cached",
    "ChainingStrategy",
    "ErrorPolicy",
    "Node",
    "OperatorKind",
    "Partitioned",
    "SideOutput",
    "Transformation",
    "Union",
    "caches_before",
    "operators_before",
]

OperatorKind: TypeAlias = Literal["source", "operator", "sink"]
ErrorPolicy: TypeAlias = Literal["fail", "skip", "dead_letter"]
"""What becomes of a record for which a user function raises: the job fails, the record is left out, or it
goes to a side output with the error's text."""


class ChainingStrategy(Enum):
    """Whether an operator may share a task with the operators before and behind it."""

    ALWAYS = "always"
    HEAD = "head"  # starts a chain: may be chained with what follows, not with what precedes
    NEVER = "never"


@dataclass(eq=False, slots=True)
class Transformation:
    """One operator as the program described it. ``None`` means "as the environment or the inputs say".

    ``operator`` is opaque here: the API's specification of what to do with a record.
    """

    number: int
    kind: OperatorKind
    name: str
    operator: object
    inputs: tuple[Node, ...]
    parallelism: int
    max_parallelism: int | None = None
    uid: str = ""
    uid_hash: str = ""  # 32 hexadecimal digits: the operator's id as it is
    description: str = ""
    chaining: ChainingStrategy = ChainingStrategy.ALWAYS
    sharing_group: str | None = None
    sharing_resources: ResourceProfile | None = None  # what the group's slots are asked to have
    co_location_group: str = ""
    managed_memory_weights: dict[str, int] = field(default_factory=dict)
    buffer_timeout_ms: int | None = None
    non_parallel: bool = False
    on_error: ErrorPolicy = "fail"
    output_type: object = None  # opaque: the API's declaration of what the operator's records are
    second_inputs: tuple[Node, ...] = ()  # of an operator that tells two inputs apart
    parallelism_set: bool = False  # the program names it for this operator

    @property
    def title(self) -> str:
        """The name as plans, logs and errors show it.

        >>> Transformation(1, "sink", "Print", None, (), 1).title
        'Sink: Print'
        """
        return {"source": "Source: ", "operator": "", "sink": "Sink: "}[self.kind] + self.name


@dataclass(frozen=True, eq=False, slots=True)
class Partitioned:
    """The records of ``input``, spread by ``partitioner``."""

    input: Node
    partitioner: Partitioner


@dataclass(frozen=True, eq=False, slots=True)
class Union:
    """The records of all inputs. An input that is named twice delivers its records twice."""

    inputs: tuple[Node, ...]


@dataclass(frozen=True, eq=False, slots=True)
class SideOutput:
    """The records that the operator behind ``input`` gave this tag."""

    input: Node
    tag_id: str
    output_type: object = None  # opaque, as that of a Transformation


@dataclass(eq=False, slots=True)
class Cached:
    """The records of ``input``, or what was kept of them: where ``kept`` is there, it reads them instead."""

    input: Node
    kept: Transformation | None = None

    @property
    def origin(self) -> Node:
        """Where the records come from in the next job."""
        return self.input if self.kept is None else self.kept


Node: TypeAlias = Transformation | Partitioned | Union | SideOutput | Cached


@dataclass(slots=True)
class _Walk:
    seen: set[int] = field(default_factory=set)
    found: list[Transformation] = field(default_factory=list)
    caches: list[Cached] = field(default_factory=list)


def operators_before(nodes: Sequence[Node]) -> list[Transformation]:
    """The operators among ``nodes`` and all that lead to them, each once, in the order of their numbers."""
    found = _walked(nodes).found
    return sorted(found, key=lambda transformation: transformation.number)


def caches_before(nodes: Sequence[Node]) -> list[Cached]:
    """The streams to be kept among what leads to ``nodes``; not those behind one that is kept already."""
    return _walked(nodes).caches


def _walked(nodes: Sequence[Node]) -> _Walk:
    walk = _Walk()
    waiting: list[Node] = list(nodes)
    while waiting:
        node = waiting.pop()
        if id(node) in walk.seen:
            continue
        walk.seen.add(id(node))
        if isinstance(node, (Partitioned, SideOutput)):
            waiting.append(node.input)
            continue
        if isinstance(node, Cached):
            walk.caches.append(node)
            waiting.append(node.origin)
            continue
        waiting.extend(node.inputs)
        if isinstance(node, Transformation):
            waiting.extend(node.second_inputs)
            walk.found.append(node)
    return walk
