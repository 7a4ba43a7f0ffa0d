"""The slots of one TaskManager as it sees them: each tenure's worker and the tasks in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zmflow.coordination.machine import Outcome
from zmflow.coordination.states import WORKER, WorkerEvent, WorkerState
from zmflow.protocol.messages import DeployTasks, ResourceProfile, TaskDeployment

__all__ = ["SLOT_INDEX_MAX", "Tenure", "WorkerSlots"]

ENDED_TENURES_MAX = 4_096
"""Allocation ids remembered after their end, so that a repeated AllocateSlot starts nothing: some
hundred bytes each, and more than one for every slot a TaskManager may have."""

SLOT_INDEX_MAX = 4_096
"""Slots of one TaskManager, however small they are cut: the upper bound of taskmanager.numberOfTaskSlots."""

KNOWN_ATTEMPTS_MAX = 10_000
"""Attempts of one worker that are remembered so that a repeated deployment starts nothing: some hundred
restarts of the largest slot. What is older than that is not repeated any more."""


@dataclass(slots=True)
class Tenure:
    """One allocation of a slot and its worker process.

    ``abandoned`` marks a tenure nobody wants to hear of any more: the connection it belonged to is lost.
    """

    allocation_id: str
    slot_index: int
    job_id: str
    resources: ResourceProfile = field(default_factory=ResourceProfile)
    external: dict[str, list[int]] = field(default_factory=dict)
    state: WorkerState = "starting"
    deadline_ms: int | None = None  # to start, to be accepted, to stop cancelled tasks, or to end
    why: str = ""  # the reason of the kill, when this TaskManager decided it
    to_free: bool = False
    abandoned: bool = False
    attempts: dict[str, None] = field(default_factory=dict)  # live ones
    cancelling: dict[str, None] = field(default_factory=dict)  # live ones that were asked to stop
    known: dict[str, None] = field(default_factory=dict)  # deployed ones, ended ones included
    subtasks: dict[tuple[str, str, int], None] = field(default_factory=dict)

    def advance(self, event: WorkerEvent) -> Outcome:
        """Follow the table."""
        after = WORKER.after(self.state, event)
        if after is None:
            return WORKER.outcome(self.state, event)
        self.state = after
        return "changed"


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

    def deploy(self, tenure: Tenure, message: DeployTasks) -> list[TaskDeployment]:
        """Note the tasks that go to a worker. Returns those it has not been sent before."""
        fresh = [task for task in message.tasks if task.attempt_id not in tenure.known]
        for task in fresh:
            subtask = (task.job_id, task.vertex_id, task.subtask_index)
            tenure.attempts[task.attempt_id] = tenure.known[task.attempt_id] = None
            tenure.subtasks[subtask] = None
            self._at[subtask] = tenure
        while len(tenure.known) > max(KNOWN_ATTEMPTS_MAX, len(message.tasks)):
            del tenure.known[next(iter(tenure.known))]
        return fresh

    def free_pieces(
        self, amounts: Mapping[str, int], needed: Mapping[str, int]
    ) -> dict[str, list[int]] | None:
        """The pieces of external resources a new slot gets; None when they are somebody's.

        Args:
            amounts: how many pieces of each there are.
        """
        pieces: dict[str, list[int]] = {}
        for name, count in needed.items():
            used = {
                piece
                for tenure in self._tenures.values()
                if not tenure.abandoned
                for piece in tenure.external.get(name, ())
            }
            left = [piece for piece in range(amounts.get(name, 0)) if piece not in used]
            if len(left) < count:
                return None
            pieces[name] = left[:count]
        return pieces

    def of_subtask(self, job_id: str, vertex_id: str, subtask_index: int) -> Tenure | None:
        """The tenure whose worker holds (or held, while it lives) a subtask."""
        return self._at.get((job_id, vertex_id, subtask_index))

    def check(self) -> None:
        """A slot has at most one owner, and subtasks point at living tenures."""
        owners = [tenure.slot_index for tenure in self._tenures.values() if not tenure.abandoned]
        assert len(owners) == len(set(owners)), f"a slot with two owners: {owners}"
        assert all(0 <= index < SLOT_INDEX_MAX for index in owners), owners
        pieces = [
            (name, piece)
            for tenure in self._tenures.values()
            if not tenure.abandoned
            for name, own in tenure.external.items()
            for piece in own
        ]
        assert len(pieces) == len(set(pieces)), f"a resource with two owners: {pieces}"
        for subtask, tenure in self._at.items():
            assert self._tenures.get(tenure.allocation_id) is tenure, subtask
        for tenure in self._tenures.values():
            assert all(attempt in tenure.attempts for attempt in tenure.cancelling), tenure.allocation_id
