"""A cluster as the leader would describe it: two TaskManagers, one of them late and draining, one job."""

from __future__ import annotations

from zmflow.protocol.messages import (
    ClusterStatus,
    JobSummary,
    ResourceProfile,
    SlotStatus,
    TaskManagerStatus,
)

JOB_ID = "9f3a77aa2b0c4d5e9f3a77aa2b0c4d5e"
JOB = JobSummary(JOB_ID, "word count", "RUNNING", 1_000, 0, 4, 4, 0, 2)
WHOLE = ResourceProfile(4000, 2**30, 2**28, (("gpu", 1),))
SHARE = ResourceProfile(2000, 2**29, 2**27)
TASKS = ["Source: Sequence -> filter -> map -> flat map (1/2)", "keyed sum -> Sink (1/2)", "Other (1/2)"]

BUSY = SlotStatus(0, JOB_ID, "a1-1", 4711, "allocated", "word count", "default", TASKS, SHARE, 1_000)
PENDING = SlotStatus(0, JOB_ID, "a1-2", 0, "pending", "word count", "", [], SHARE, 1_000)
FREE = SlotStatus(1, "", "", 0, resources=ResourceProfile(0, 0, 0))  # nothing is cut yet
NOTE = "job word count waits for 1 slot on another TaskManager"


def healthy(*slots: SlotStatus) -> TaskManagerStatus:
    """The TaskManager of node7."""
    return TaskManagerStatus(
        "node7-3f9a2c", "node7", 100, list(slots), 120, resources=WHOLE, free_resources=SHARE
    )


def draining(*slots: SlotStatus, note: str = NOTE, late: bool = False) -> TaskManagerStatus:
    """The TaskManager of node8, which drains."""
    state = "late" if late else "alive"
    return TaskManagerStatus("node8-77aa00", "node8", 101, list(slots), 3200, state, True, note, WHOLE, SHARE)


def cluster(*taskmanagers: TaskManagerStatus) -> ClusterStatus:
    """A cluster of these; by default of both, with one slot in use on each."""
    found = taskmanagers or (draining(PENDING, FREE, late=True), healthy(BUSY, FREE))
    return ClusterStatus(1, 0, "node1:6123", 1_000, list(found), [JOB])
