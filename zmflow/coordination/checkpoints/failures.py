"""Why checkpoints fail, in words."""

from __future__ import annotations

from zmflow.coordination.checkpoints.pending import PendingCheckpoint
from zmflow.coordination.job_layout import JobLayout
from zmflow.protocol.messages import TaskFailure

__all__ = ["failed_in_a_row", "lateness"]

WAITED_FOR_SHOWN_MAX = 3
"""Tasks a late checkpoint names: one culprit is usually enough to find the reason."""


def lateness(pending: PendingCheckpoint, layout: JobLayout, timeout_ms: int) -> str:
    """A checkpoint was not complete in time: what it waited for."""
    limit = f"It was not complete after {timeout_ms / 1000:g} s: it waited for"
    if pending.state == "COORDINATORS":
        names = layout.vertex_names([(source, 0) for source in pending.coordinators])
        return f"{limit} the split enumerators of {', '.join(names)}."
    if pending.state == "STORING":
        return f"{limit} its metadata to be stored."
    late = list(pending.tasks.values())
    shown = ", ".join(layout.task_name(subtask) for subtask in late[:WAITED_FOR_SHOWN_MAX])
    more = len(late) - WAITED_FOR_SHOWN_MAX
    return f"{limit} {shown}" + (f" and {more} more." if more > 0 else ".")


def failed_in_a_row(checkpoint_id: int, why: str, count: int) -> TaskFailure:
    """More checkpoints failed than are tolerated: why the job restarts."""
    row = f", {count} in a row" if count > 1 else ""
    return TaskFailure(
        "checkpoint",
        f"Checkpoint {checkpoint_id} failed{row}: {why}",
        hint="execution.checkpointing.tolerable-failed-checkpoints says how many in a row may fail.",
    )
