"""Slot sharing: which operators may share a slot, and how many slots that takes.

One slot holds at most one subtask of each vertex of a group, so a group needs as many slots as its
widest vertex has subtasks, and groups never share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

__all__ = ["DEFAULT_GROUP", "inherited_group", "slots_by_group", "slots_required"]

DEFAULT_GROUP = "default"


class _InGroup(Protocol):
    @property
    def sharing_group(self) -> str: ...

    @property
    def parallelism(self) -> int: ...


def inherited_group(groups_of_inputs: Sequence[str]) -> str:
    """The group of an operator that names none: its inputs' where they agree, else ``default``.

    >>> inherited_group(["a", "a"]), inherited_group(["a", "b"]), inherited_group([])
    ('a', 'default', 'default')
    """
    return groups_of_inputs[0] if len(set(groups_of_inputs)) == 1 else DEFAULT_GROUP


def slots_by_group(vertices: Iterable[_InGroup]) -> dict[str, int]:
    """Slots each sharing group needs, in the order the groups first appear."""
    slots: dict[str, int] = {}
    for vertex in vertices:
        slots[vertex.sharing_group] = max(slots.get(vertex.sharing_group, 0), vertex.parallelism)
    return slots


def slots_required(vertices: Iterable[_InGroup]) -> int:
    """Slots a job needs: the sum over its groups of the largest parallelism."""
    return sum(slots_by_group(vertices).values())
