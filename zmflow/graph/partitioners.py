"""How the records of one operator find the subtasks of the next.

A partitioner is data: its name, and whether it connects subtasks pointwise (each producer to a
few consumers) or all to all. What it does to a batch is decided in ``zmflow.execution.output``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

__all__ = [
    "BroadcastPartitioner",
    "CustomPartitioner",
    "ForwardPartitioner",
    "GlobalPartitioner",
    "HashPartitioner",
    "KeptKeysPartitioner",
    "Partitioner",
    "RebalancePartitioner",
    "RescalePartitioner",
    "ShufflePartitioner",
    "consumers_of",
    "overtakes",
    "producers_of",
]


@dataclass(frozen=True, slots=True)
class ForwardPartitioner:
    """Subtask i to subtask i; parallelism must be equal. The only one that can be chained."""

    name: ClassVar[str] = "FORWARD"
    pointwise: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class KeptKeysPartitioner(ForwardPartitioner):
    """Forward, to an operator that takes the records for keyed: they are where their keys belong already."""


@dataclass(frozen=True, slots=True)
class RescalePartitioner:
    """Round robin inside contiguous groups of subtasks, so that most traffic stays local."""

    name: ClassVar[str] = "RESCALE"
    pointwise: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class RebalancePartitioner:
    """Round robin over all subtasks."""

    name: ClassVar[str] = "REBALANCE"
    pointwise: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class ShufflePartitioner:
    """A random subtask for each record."""

    name: ClassVar[str] = "SHUFFLE"
    pointwise: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class BroadcastPartitioner:
    """Every record to every subtask."""

    name: ClassVar[str] = "BROADCAST"
    pointwise: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class GlobalPartitioner:
    """Every record to subtask 0."""

    name: ClassVar[str] = "GLOBAL"
    pointwise: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class HashPartitioner:
    """The owner of the key's key group (design D10).

    ``combine`` is the specification of the keyed aggregate behind the exchange when it may be applied before
    it, too: an aggregate that emits final values only does not care how its input was summed up on the way.
    Such an exchange carries pairs of key and record.
    """

    key_selector: Callable[[Any], object]
    combine: object = None
    name: ClassVar[str] = "HASH"
    pointwise: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class CustomPartitioner:
    """The subtask a user function of (key, number of subtasks) returns."""

    partitioner: Callable[[Any, int], int]
    key_selector: Callable[[Any], object]
    name: ClassVar[str] = "CUSTOM"
    pointwise: ClassVar[bool] = False


Partitioner: TypeAlias = (
    ForwardPartitioner
    | RescalePartitioner
    | RebalancePartitioner
    | ShufflePartitioner
    | BroadcastPartitioner
    | GlobalPartitioner
    | HashPartitioner
    | CustomPartitioner
)


def overtakes(partitioner: str) -> bool:
    """Whether barriers may overtake records on an exchange, by the name of its partitioner: whether a record
    that is sent again comes to where it belongs. On the others it belongs to one subtask and no other.

    >>> overtakes("HASH"), overtakes("BROADCAST")
    (True, False)
    """
    return partitioner in _OVERTAKING


_OVERTAKING = frozenset(
    kind.name for kind in (RebalancePartitioner, ShufflePartitioner, GlobalPartitioner, HashPartitioner)
)


def consumers_of(pointwise: bool, producer: int, producers: int, consumers: int) -> range:
    """The consumer subtasks that a producer subtask is connected to.

    Pointwise connections form contiguous groups, cut where Flink cuts them: with fewer producers than
    consumers each producer feeds its own run of consumers, with more each run of producers feeds one.

    >>> [list(consumers_of(True, i, 2, 5)) for i in range(2)]
    [[0, 1, 2], [3, 4]]
    >>> [list(consumers_of(True, i, 5, 2)) for i in range(5)]
    [[0], [0], [1], [1], [1]]
    """
    if not pointwise:
        return range(consumers)
    if producers < consumers:
        return range(-(-producer * consumers // producers), -(-(producer + 1) * consumers // producers))
    only = ((producer + 1) * consumers - 1) // producers
    return range(only, only + 1)


def producers_of(pointwise: bool, consumer: int, producers: int, consumers: int) -> range:
    """The producer subtasks a consumer subtask is connected to: the inverse of ``consumers_of``.

    >>> [list(producers_of(True, i, 5, 2)) for i in range(2)]
    [[0, 1], [2, 3, 4]]
    """
    if not pointwise:
        return range(producers)
    if producers < consumers:
        only = consumer * producers // consumers
        return range(only, only + 1)
    return range(consumer * producers // consumers, (consumer + 1) * producers // consumers)
