"""The slots of one TaskManager as it sees them: each tenure's worker and the tasks in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from zmflow.protocol.messages import DeployTasks

__all__ = ["Tenure", "WorkerSlots"]

ENDED_TENURES_MAX = 4_096
"""Allocation ids remembered after their end, so that a repeated AllocateSlot starts nothing: some
hundred bytes each, and more than one for every slot a TaskManager may have."""


@dataclass(slots=True)
class Tenure:
    """One allocation of a slot and its worker process.

    ``starting`` → ``ready`` → ``freeing`` (told to end) → ``killed`` (SIGKILL sent) → gone. ``abandoned``
    marks a tenure nobody wants to hear of any more: the connection it belonged to is lost.
    """

    allocation_id: str
    slot_index: int
    job_id: str
    state: Literal["starting", "ready", "freeing", "killed"] = "starting"
    deadline_ms: int | None = None
    why: str = ""  # the reason of the kill, when this TaskManager decided it
    to_free: bool = False
    abandoned: bool = False
    attempts: dict[str, None] = field(default_factory=dict)  # live ones
    cancelling: dict[str, None] = field(default_factory=dict)  # live ones that were asked to stop
    subtasks: list[tuple[str, str, int]] = field(default_factory=list)


class WorkerSlots:
    """Tenures by allocation id, and where each subtask lives."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._tenures: dict[str, Tenure] = {}
        self._at: dict[tuple[str, str, int], Tenure] = {}
        self._ended: dict[str, None] = {}

    def get(self, allocation: str) -> Tenure | None:
        """The tenure of this allocation while its worker lives or is being ended."""
        return self._tenures.get(allocation)

    def has_ended(self, allocation: str) -> bool:
        """Whether this tenure is over (of those still remembered)."""
        return allocation in self._ended

    def forget_ended(self) -> None:
        """A leader begins to number its allocations: nothing it says is a repetition yet."""
        self._ended.clear()

    def all(self) -> list[Tenure]:
        """Every tenure, oldest first."""
        return list(self._tenures.values())

    def owner(self, slot_index: int) -> Tenure | None:
        """Who holds a slot; an abandoned tenure holds nothing."""
        for tenure in self._tenures.values():
            if tenure.slot_index == slot_index and not tenure.abandoned:
                return tenure
        return None

    def add(self, tenure: Tenure) -> None:
        """Begin a tenure."""
        self._tenures[tenure.allocation_id] = tenure

    def remove(self, tenure: Tenure) -> None:
        """End a tenure: its worker is gone."""
        del self._tenures[tenure.allocation_id]
        for subtask in tenure.subtasks:
            if self._at.get(subtask) is tenure:
                del self._at[subtask]
        self._ended[tenure.allocation_id] = None
        if len(self._ended) > ENDED_TENURES_MAX:
            del self._ended[next(iter(self._ended))]

    def deploy(self, tenure: Tenure, message: DeployTasks) -> None:
        """Note the tasks that go to a worker."""
        for task in message.tasks:
            subtask = (task.job_id, task.vertex_id, task.subtask_index)
            tenure.attempts[task.attempt_id] = None
            tenure.subtasks.append(subtask)
            self._at[subtask] = tenure

    def of_subtask(self, job_id: str, vertex_id: str, subtask_index: int) -> Tenure | None:
        """The tenure whose worker holds (or held, while it lives) a subtask."""
        return self._at.get((job_id, vertex_id, subtask_index))

    def check(self) -> None:
        """A slot has at most one owner, and subtasks point at living tenures."""
        owners = [tenure.slot_index for tenure in self._tenures.values() if not tenure.abandoned]
        assert len(owners) == len(set(owners)), f"a slot with two owners: {owners}"
        assert all(0 <= index < self.slots for index in owners), owners
        for subtask, tenure in self._at.items():
            assert self._tenures.get(tenure.allocation_id) is tenure, subtask
        for tenure in self._tenures.values():
            assert all(attempt in tenure.attempts for attempt in tenure.cancelling), tenure.allocation_id
