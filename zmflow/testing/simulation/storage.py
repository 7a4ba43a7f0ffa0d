"""The checkpoint storage of a simulated JobManager: slow, at times very slow, and full now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmflow.coordination.effects import CheckpointStored, DiscardCheckpoint, StoreCheckpoint
from zmflow.testing.simulation.world import World

if TYPE_CHECKING:
    from zmflow.testing.simulation.jobmanager import JobManagerProcess

__all__ = ["Storage"]

USUAL_MAX_MS = 150
"""Long enough that some failovers come while metadata is on its way."""

SLOW_MAX_MS = 4_000
"""Twice the timeout of checkpoints."""

FAILS = 0.03
IS_SLOW = 0.04


class Storage:
    """What one JobManager wrote. A job's orders are carried out one after the other, as by the real shell."""

    __slots__ = ("_free_ms", "_leader", "_world", "locations")

    def __init__(self, leader: JobManagerProcess, world: World) -> None:
        self._leader = leader
        self._world = world
        self._free_ms: dict[str, int] = {}  # when the orders of a job so far are done
        self.locations: dict[str, None] = {}
        """Directories whose metadata is written."""

    def order(self, order: StoreCheckpoint | DiscardCheckpoint) -> None:
        """Do it after what the job has ordered before."""
        world = self._world
        longest_ms = USUAL_MAX_MS
        if world.happens(IS_SLOW):
            world.count("storage slow")
            longest_ms = SLOW_MAX_MS
        begin_ms = max(self._free_ms.get(order.job_id, 0), world.agenda.now_ms)
        done_ms = begin_ms + world.draw_ms(1, longest_ms)
        self._free_ms[order.job_id] = done_ms
        world.agenda.at(done_ms, self._do, order)

    def _do(self, order: StoreCheckpoint | DiscardCheckpoint) -> None:
        if not self._leader.alive:
            return
        if isinstance(order, DiscardCheckpoint):
            if not order.names:
                self.locations.pop(order.location, None)
            return
        error = ""
        if self._world.happens(FAILS):
            self._world.count("storage fails")
            error = "no space left on device"
        else:
            self.locations[order.location] = None
        self._leader.stored(CheckpointStored(order.job_id, order.checkpoint_id, error))
