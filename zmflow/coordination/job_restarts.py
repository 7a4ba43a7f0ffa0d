"""The restarts of one job: whether a failure leads to one, when it is due, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from zmflow.config import Settings
from zmflow.config.options import FAILOVER_STRATEGY
from zmflow.coordination.exception_history import ExceptionHistory
from zmflow.coordination.execution_graph import ExecutionGraph
from zmflow.coordination.job_layout import JobLayout
from zmflow.coordination.restart_strategies import restart_strategy
from zmflow.coordination.slots import Subtask
from zmflow.coordination.turn import Turn
from zmflow.protocol.messages import ExceptionEntry, TaskFailure

__all__ = ["JobRestarts", "PendingRestart"]


@dataclass(slots=True)
class PendingRestart:
    """Tasks that will run again: once they have all stopped and the time has come."""

    subtasks: dict[Subtask, None]
    due_ms: int
    cause: str
    planned: bool  # nobody's failure: tasks move, or the job scales


class JobRestarts:
    """Restart strategy, exception history and the restart that is waited for.

    Args:
        settings: the cluster's settings under those of the job.
        chance: numbers from 0 to 1, for jitter.
        checkpoints: whether the job takes any, which decides what the strategy ``auto`` is, as in Flink.
    """

    def __init__(self, settings: Settings, chance: Callable[[], float], *, checkpoints: bool) -> None:
        self.full = settings[FAILOVER_STRATEGY] == "full"
        """Whether a failure restarts all tasks."""
        self.history = ExceptionHistory()
        self.pending: PendingRestart | None = None
        self.number = 0
        """Restarts after failures so far."""
        self._strategy = restart_strategy(settings, checkpoints=checkpoints, chance=chance)

    def failed(
        self,
        turn: Turn,
        layout: JobLayout,
        subtasks: Sequence[Subtask],
        failure: TaskFailure,
        taskmanager_id: str,
        slot_index: int,
    ) -> TaskFailure | None:
        """Note a failure that concerns these subtasks. None when they will restart; else how the job ends."""
        waiting = self.pending
        counted = waiting is not None and not waiting.planned and turn.now_ms <= waiting.due_ms
        wait_ms = self._strategy.failed(turn.now_ms)
        merged = dict.fromkeys([*(waiting.subtasks if waiting else ()), *subtasks])
        if counted and wait_ms is not None:
            self.history.add_concurrent(failure, layout.vertex_names(merged), len(merged))
        else:
            self.history.add(
                ExceptionEntry(
                    turn.wall_ms,
                    failure,
                    taskmanager_id,
                    slot_index,
                    layout.vertex_names(merged) if wait_ms is not None else [],
                    len(merged) if wait_ms is not None else 0,
                    layout.executions.total,
                    -1 if wait_ms is None else wait_ms,
                )
            )
        if wait_ms is None:
            return self.refused(failure, f"It does not restart: {self._strategy.refusal}.")
        cause = waiting.cause if counted and waiting is not None else failure.summary
        self.pending = PendingRestart(merged, turn.now_ms + wait_ms, cause, planned=False)
        return None

    def planned(self, turn: Turn, subtasks: Sequence[Subtask], cause: str) -> None:
        """Restart these subtasks as soon as they have stopped; no strategy is asked."""
        self.pending = PendingRestart(dict.fromkeys(subtasks), turn.now_ms, cause, planned=True)

    @staticmethod
    def refused(failure: TaskFailure, why: str) -> TaskFailure:
        """The failure with the reason why it ends the job."""
        return msgspec.structs.replace(failure, hint=f"{failure.hint} {why}".strip())

    def begin(self, turn: Turn, job_id: str) -> list[Subtask]:
        """The pending restart happens now: the subtasks that begin anew."""
        pending = self.pending
        assert pending is not None
        self.pending = None
        if not pending.planned:
            self.number += 1
            self._strategy.restarted()
        turn.tell(job_id, f"{len(pending.subtasks)} tasks restart: {pending.cause}")
        return list(pending.subtasks)

    def reason(self, now_ms: int, executions: ExecutionGraph) -> str:
        """What the pending restart waits for, in a sentence."""
        pending = self.pending
        assert pending is not None
        what = f"restarts {len(pending.subtasks)} of {executions.total} tasks"
        live = sum(executions.at(subtask).live for subtask in pending.subtasks)
        if live:
            return f"{what} when {live} of them have stopped: {pending.cause}"
        return f"{what} in {max(0, pending.due_ms - now_ms) / 1000:.1f} s: {pending.cause}"

    def notes(self, begins_from: str) -> list[str]:
        """What a restart means for this job, in sentences.

        Args:
            begins_from: the one about what it begins from; empty when there is nothing to say about that.
        """
        if self._strategy.refusal:
            notes = [
                f"Restart strategy: {self._strategy.name}. It restarts no more: {self._strategy.refusal}."
            ]
        else:
            notes = [f"Restart strategy: {self._strategy.describe()}."]
        return [*notes, begins_from] if begins_from else notes
