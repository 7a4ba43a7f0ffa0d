"""The adaptive scheduler: a job runs with the slots there are, and scales when slots come or go."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from zmflow.config import Settings
from zmflow.config.options import (
    JOB_SLOTS_MAX,
    MIN_PARALLELISM,
    MIN_PARALLELISM_INCREASE,
    RESCALE_COOLDOWN,
    RESCALE_STABILIZATION,
    RESOURCE_STABILIZATION,
    RESOURCE_WAIT_TIMEOUT,
)
from zmflow.coordination.requirements import count_profiles
from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.scheduler import Scheduler
from zmflow.coordination.slots import Subtask
from zmflow.coordination.turn import Turn
from zmflow.graph.job_graph import JobGraph
from zmflow.graph.sharing import slots_by_group
from zmflow.ids import JobId
from zmflow.protocol.messages import ResourceProfile

__all__ = ["AdaptiveScheduler", "scaled"]


def scaled(graph: JobGraph, parallelism: int) -> JobGraph:
    """The job with no vertex more parallel than this. Key groups stay, so keys stay with each other."""
    return msgspec.structs.replace(
        graph,
        vertices=[
            msgspec.structs.replace(vertex, parallelism=min(vertex.parallelism, parallelism))
            for vertex in graph.vertices
        ],
    )


class AdaptiveScheduler(Scheduler):
    """Runs a job at the largest parallelism its slots allow, from the minimum up to what was written.

    A failure restarts all tasks. Waiting states and timeouts are those of Flink's adaptive scheduler:

    * waiting with fewer slots than the minimum needs: up to the resource wait timeout, then the job fails;
    * with enough for the minimum and less than for all: for the stabilisation time, then it starts;
    * running: more slots let it restart at a higher parallelism once the cool-down since the last change is
      over, and either all are there or the stabilisation time has passed.
    """

    restarts_everything = True

    def __init__(
        self, job_id: JobId, graph: JobGraph, settings: Settings, resources: ResourceManager
    ) -> None:
        super().__init__(job_id, graph, settings, resources)
        self._slots_max = settings[JOB_SLOTS_MAX]
        self._least_wanted = settings[MIN_PARALLELISM]
        self._measure(graph)
        self.wait_timeout_ms = settings[RESOURCE_WAIT_TIMEOUT]
        self._stabilization_ms = settings[RESOURCE_STABILIZATION]
        self._cooldown_ms = settings[RESCALE_COOLDOWN]
        self._rescale_stabilization_ms = settings[RESCALE_STABILIZATION]
        self._increase = settings[MIN_PARALLELISM_INCREASE]
        self._enough_since_ms: int | None = None  # slots for the minimum, while it waits
        self._changed_ms: int | None = None  # when it was deployed last
        self._more_since_ms: int | None = None  # slots for a higher parallelism, while it runs
        self._rescale_due_ms: int | None = None
        self._at_once = False  # the next deployment takes what there is without waiting for more
        self._drains_since_ms: int | None = None  # until it has moved, or goes on with less

    def _measure(self, graph: JobGraph) -> None:
        """How parallel this job can be."""
        self._profiles = {group.name: group.resources for group in graph.sharing_groups}
        self._widths = slots_by_group(graph.vertices)
        widest = max(self._widths.values())
        while self._slots_max and widest > 1 and self._slots_at(widest) > self._slots_max:
            widest -= 1
        self._most = widest
        self._least_parallelism = min(self._least_wanted, widest)
        self.parallelism = max(self._widths.values())
        """The limit on every vertex that the present layout was made with."""

    # -- what it needs ----------------------------------------------------------------------------

    def _slots_at(self, parallelism: int) -> int:
        return sum(min(width, parallelism) for width in self._widths.values())

    def _need_at(self, parallelism: int) -> dict[ResourceProfile, int]:
        need: dict[ResourceProfile, int] = {}
        for group, width in self._widths.items():
            profile = self._profiles.get(group, ResourceProfile())
            need[profile] = need.get(profile, 0) + min(width, parallelism)
        return need

    def _wanted(self) -> dict[ResourceProfile, int]:
        if self._winds_down:
            return self.layout.sharing.needed()
        return self._need_at(self._most)

    def _least(self) -> dict[ResourceProfile, int]:
        wanted = self._wanted()
        least = self._need_at(self._least_parallelism)
        return {profile: min(count, least.get(profile, 0)) for profile, count in wanted.items()}

    @property
    def keeps_idle_slots(self) -> bool:
        """Also while it runs with less than it would like: they may be worth a restart later."""
        return self.waits_for_slots or (self.parallelism < self._most and not self._winds_down)

    @property
    def _winds_down(self) -> bool:
        """Whether part of it has finished for good, so that it will not grow again."""
        return self.layout.sharing.returned_count > 0

    @property
    def slots_required(self) -> int:
        """Slots below which the job does not run."""
        return self._slots_at(self._least_parallelism)

    def need_text(self) -> str:
        """How many slots the job needs and would like, for people."""
        least, most = self._slots_at(self._least_parallelism), self._slots_at(self._most)
        return str(most) if least == most else f"{least} to {most}"

    # -- which parallelism ------------------------------------------------------------------------

    def _feasible(self) -> int:
        """The largest parallelism the slots of the pool allow; 0 when less than the minimum."""
        there = count_profiles(slot.profile for slot in self.pool if not slot.draining)
        low, high = self._least_parallelism - 1, self._most
        while low < high:
            middle = (low + high + 1) // 2
            if _covers(there, self._need_at(middle)):
                low = middle
            else:
                high = middle - 1
        return low if low >= self._least_parallelism else 0

    def deploy(self, turn: Turn) -> bool:
        if not self.layout.executions.count("SCHEDULED"):
            return super().deploy(turn)
        feasible = self._feasible()
        if not feasible:
            self._enough_since_ms = None
            return False
        if self._enough_since_ms is None:
            self._enough_since_ms = turn.now_ms
        stable = turn.now_ms >= self._enough_since_ms + self._stabilization_ms
        if feasible < self._most and not stable and not self._at_once:
            return False
        if feasible != self.parallelism:
            self._rescale(turn, feasible)
        deployed = super().deploy(turn)
        assert deployed, "slots that were counted are not there"
        self._enough_since_ms = self._more_since_ms = self._rescale_due_ms = None
        self._at_once = False
        self._changed_ms = turn.now_ms
        return True

    def _rescale(self, turn: Turn, parallelism: int) -> None:
        turn.tell(self.job_id, f"parallelism {self.parallelism} → {parallelism}")
        turn.log("info", f"The job runs with parallelism {parallelism} now.", job=self.job_id)
        self.parallelism = parallelism
        self._lay_out_anew(turn, scaled(self.graph, parallelism))

    def rescale(self, turn: Turn, graph: JobGraph) -> None:
        self._measure(graph)
        self._enough_since_ms = None
        super().rescale(turn, graph)

    def wants_to_rescale(self, now_ms: int) -> bool:
        """Whether the slots there are by now are worth a restart at a higher parallelism."""
        self._rescale_due_ms = None
        if self._winds_down or self.pinned:
            return False
        feasible = self._feasible()
        if feasible < self.parallelism + self._increase:
            self._more_since_ms = None
            return False
        if self._more_since_ms is None:
            self._more_since_ms = now_ms
        due_ms = (self._changed_ms or 0) + self._cooldown_ms
        if feasible < self._most:
            due_ms = max(due_ms, self._more_since_ms + self._rescale_stabilization_ms)
        if now_ms < due_ms:
            self._rescale_due_ms = due_ms
            return False
        self._at_once = True  # the waiting is behind it
        return True

    def next_move(self, now_ms: int) -> list[Subtask]:
        moved = super().next_move(now_ms)
        since_ms = self._drains_since_ms
        if moved or since_ms is None or self.pinned or now_ms < since_ms + self._stabilization_ms:
            return moved
        self._drains_since_ms = None
        # Nothing came in the place of the slots there: it goes on with less, if that is allowed.
        self._at_once = bool(self.draining) and self._feasible() > 0
        return self.layout.every_subtask() if self._at_once else []

    def drain(self, turn: Turn, taskmanager_id: str, *, drain: bool) -> None:
        super().drain(turn, taskmanager_id, drain=drain)
        self._drains_since_ms = turn.now_ms if self.draining else None

    # -- time -------------------------------------------------------------------------------------

    def deadline_ms(self, *, running: bool) -> int | None:
        instants = [super().deadline_ms(running=running)]
        if not running:
            if self._enough_since_ms is not None:
                instants.append(self._enough_since_ms + self._stabilization_ms)
        elif not self.pinned:
            instants.append(self._rescale_due_ms)
            if self._drains_since_ms is not None:
                instants.append(self._drains_since_ms + self._stabilization_ms)
        return min((instant for instant in instants if instant is not None), default=None)

    def slots_deadline_ms(self) -> int | None:
        if self._enough_since_ms is not None:
            return None  # it will start with what there is
        return super().slots_deadline_ms()


def _covers(there: Mapping[ResourceProfile, int], need: Mapping[ResourceProfile, int]) -> bool:
    return all(there.get(profile, 0) >= count for profile, count in need.items())
