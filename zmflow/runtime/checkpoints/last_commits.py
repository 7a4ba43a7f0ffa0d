"""What a task waits for after its input has ended: its last checkpoint, and commits that were put off."""

from __future__ import annotations

import time
from collections.abc import Callable

from zmflow.execution.chain import Chain
from zmflow.protocol.checkpoints import AwaitsCheckpoint
from zmflow.runtime.checkpoints.task_checkpoints import TaskCheckpoints
from zmflow.runtime.shell import wall_ms

__all__ = ["await_checkpoint", "await_commits"]


def await_checkpoint(
    chain: Chain,
    checkpoints: TaskCheckpoints,
    say: Callable[[AwaitsCheckpoint], None],
    serve: Callable[[float | None], None],
) -> None:
    """Stay until what was prepared at the end of the input is part of a complete checkpoint.

    Args:
        say: tells the JobManager.
        serve: waits for the next item of the mailbox until an instant, and serves it.
    """
    if not checkpoints.enabled or not chain.awaits_checkpoint:
        return
    before = checkpoints.last_taken
    say(AwaitsCheckpoint(0, "", checkpoints.attempt_id, before))
    while checkpoints.last_completed <= before:
        serve(None)
    await_commits(chain, serve)


def await_commits(chain: Chain, serve: Callable[[float | None], None]) -> None:
    """Stay while commits of a checkpoint that is complete are put off: nobody else would make them."""
    while chain.uncommitted:
        due_ms = chain.next_processing_time_ms()
        serve(None if due_ms is None else time.perf_counter() + (due_ms - wall_ms()) / 1000)
