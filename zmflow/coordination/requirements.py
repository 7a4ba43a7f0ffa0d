"""What a job declares to the ResourceManager: how many slots of which profile, and how badly.

The protocol is declarative: there are no requests for single slots that could be lost, doubled or answered
twice. A job says what it wants to hold in total; what it holds is known; the difference is what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from zmflow.protocol.messages import ResourceProfile

__all__ = ["NOTHING", "Demand", "Requirements", "count_profiles"]


def count_profiles(profiles: Iterable[ResourceProfile]) -> dict[ResourceProfile, int]:
    """How often each profile occurs, in the order of first occurrence."""
    counts: dict[ResourceProfile, int] = {}
    for profile in profiles:
        counts[profile] = counts.get(profile, 0) + 1
    return counts


@dataclass(frozen=True, slots=True)
class Requirements:
    """Slots a job wants to hold, by profile.

    Below ``least`` the job cannot run, so it is granted up to there all at once or not at all: two jobs that
    each hold half of what they need would wait for each other. What is wanted beyond is granted as it comes.
    ``preferred`` says on which TaskManagers it would like how many of the slots that are missing.
    """

    wanted: Mapping[ResourceProfile, int]
    least: Mapping[ResourceProfile, int]
    preferred: Mapping[str, int] = field(default_factory=dict)

    @property
    def slots(self) -> int:
        """Slots wanted in total."""
        return sum(self.wanted.values())


NOTHING = Requirements({}, {})
"""The requirements of a job that has ended."""


class Demand:
    """A job's requirements beside what it holds: pending and allocated slots by profile."""

    __slots__ = ("held", "job_id", "mode", "order", "priority", "required", "slots_on")

    def __init__(self, job_id: str, order: int, priority: int, mode: str) -> None:
        self.job_id = job_id
        self.order = order  # of submission
        self.priority = priority
        self.mode = mode
        self.required = NOTHING
        self.held: dict[ResourceProfile, int] = {}
        self.slots_on: dict[str, int] = {}  # TaskManager id: slots held there

    def count(self, profile: ResourceProfile, taskmanager_id: str, change: int) -> None:
        """Hold one slot more or less."""
        self.held[profile] = self.held.get(profile, 0) + change
        self.slots_on[taskmanager_id] = self.slots_on.get(taskmanager_id, 0) + change
        if not self.slots_on[taskmanager_id]:
            del self.slots_on[taskmanager_id]

    def missing(self) -> dict[ResourceProfile, int]:
        """Slots wanted and not held."""
        return self._less_held(self.required.wanted)

    def missing_least(self) -> dict[ResourceProfile, int]:
        """Slots the job cannot run without and does not hold."""
        return self._less_held(self.required.least)

    def _less_held(self, counts: Mapping[ResourceProfile, int]) -> dict[ResourceProfile, int]:
        held = self.held
        return {
            profile: count - held.get(profile, 0)
            for profile, count in counts.items()
            if count > held.get(profile, 0)
        }
