"""The slots of a job: those it has, those it needs, and each subtask's place in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from zmflow.protocol.messages import DataEndpoint, ResourceProfile

__all__ = ["LogicalSlot", "PhysicalSlot", "Place", "SharedSlot", "Subtask"]

Subtask: TypeAlias = tuple[str, int]
"""Vertex id and index."""


@dataclass(eq=False, slots=True)
class PhysicalSlot:
    """A slot the job has accepted: its worker listens. ``shared`` is what lives in it; None: nothing.

    ``draining``: its TaskManager is being emptied, so its tasks move when there is another slot for them.
    """

    allocation_id: str
    taskmanager_id: str
    host: str
    slot_index: int
    profile: ResourceProfile
    resources: ResourceProfile
    endpoint: DataEndpoint
    shared: SharedSlot | None = None
    draining: bool = False


class Place(NamedTuple):
    """Where a slot was."""

    taskmanager_id: str
    slot_index: int
    host: str


@dataclass(eq=False, slots=True)
class SharedSlot:
    """One slot a job needs, and the subtasks that live in it.

    ``physical`` is the slot it has; ``previous`` where it was when that was lost; ``returned`` says that its
    tasks have finished for good and the slot was given back.
    """

    group: str
    index: int
    subtasks: tuple[Subtask, ...]
    profile: ResourceProfile = field(default_factory=ResourceProfile)
    physical: PhysicalSlot | None = None
    previous: Place | None = None
    returned: bool = False


@dataclass(frozen=True, slots=True)
class LogicalSlot:
    """One subtask's place in a physical slot."""

    subtask: Subtask
    physical: PhysicalSlot
