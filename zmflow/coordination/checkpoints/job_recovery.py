"""How a job begins from a checkpoint or savepoint that its settings name."""

from __future__ import annotations

from dataclasses import dataclass

from zmflow.config import Settings
from zmflow.config.checkpoint_options import IGNORE_UNCLAIMED_STATE, RECOVERY_CLAIM_MODE, RECOVERY_PATH
from zmflow.config.options import STATE_BACKEND
from zmflow.coordination.checkpoints.completed import CompletedCheckpoint
from zmflow.coordination.checkpoints.recovery_plan import RecoveryPlan, foreign_state, plan_recovery
from zmflow.coordination.effects import CheckpointLoaded, LoadCheckpoint
from zmflow.coordination.turn import Turn
from zmflow.errors import JobGraphError
from zmflow.graph.job_graph import JobGraph
from zmflow.ids import JobId
from zmflow.protocol.messages import TaskFailure
from zmflow.state.checkpoint_storage import validate_location
from zmflow.state.native_files import TAKE_A_SAVEPOINT

__all__ = ["JobRecovery", "RecoveredJob"]

REFUSED_SHOWN_MAX = 5
"""Operators that a refusal names: who changed more sees it with ``zmflow plan``."""


@dataclass(frozen=True, slots=True)
class RecoveredJob:
    """A job as it begins: with the max parallelism of the snapshot."""

    graph: JobGraph
    checkpoint: CompletedCheckpoint


class JobRecovery:
    """What one job begins from.

    Args:
        settings: the cluster's under those of the job.

    Raises:
        ConfigurationError: what it is to begin from is no location.
        JobGraphError: a job in BATCH mode cannot begin from anything.
    """

    def __init__(self, job_id: JobId, graph: JobGraph, settings: Settings) -> None:
        self._job_id = job_id
        self._graph = graph
        self._claims = settings[RECOVERY_CLAIM_MODE] == "CLAIM"
        self._drops = settings[IGNORE_UNCLAIMED_STATE]
        self._backend = settings[STATE_BACKEND]
        path = settings[RECOVERY_PATH]
        if path and graph.runtime_mode == "BATCH":
            raise JobGraphError(
                "A job in BATCH mode cannot begin from a snapshot.", hint=f"Leave {RECOVERY_PATH.key} empty."
            )
        self.location = validate_location(path) if path else ""
        """Where it is; empty: the job begins anew."""

    def begin(self, turn: Turn) -> None:
        """Have it read; ``CheckpointLoaded`` will follow."""
        turn.log("info", f"The job begins from {self.location}.", job=self._job_id)
        turn.do(LoadCheckpoint(self._job_id, self.location))

    def loaded(self, turn: Turn, event: CheckpointLoaded) -> RecoveredJob | TaskFailure:
        """It was read, or cannot be: the job as it begins, or why it fails."""
        if event.metadata is None:
            return TaskFailure("checkpoint", event.error, hint=event.hint)
        if why := foreign_state(event.metadata, self._backend):
            return TaskFailure(
                "checkpoint", f"The job cannot begin from {self.location}: {why}", hint=TAKE_A_SAVEPOINT
            )
        plan = plan_recovery(self._graph, event.metadata, event.stateful, drops=self._drops)
        if plan.having("refused"):
            return self._refusal(plan)
        metadata = event.metadata
        restored = len(plan.having("restored"))
        sentence = (
            f"The job begins from {metadata.kind} {metadata.checkpoint_id}: {restored} operators are restored"
        )
        dropped = [operator.name for operator in plan.having("dropped")]
        sentence += f", the state of {', '.join(dropped)} is dropped." if dropped else "."
        turn.log("warning" if dropped else "info", sentence, job=self._job_id)
        return RecoveredJob(plan.graph, CompletedCheckpoint(metadata, event.location, self._claims))

    def _refusal(self, plan: RecoveryPlan) -> TaskFailure:
        refused = plan.having("refused")
        lines = [f"{each.name} ({each.uid or each.operator_id[:8]}): {each.reason}" for each in refused]
        shown = "\n".join(lines[:REFUSED_SHOWN_MAX])
        more = len(lines) - REFUSED_SHOWN_MAX
        unknown = any(not each.parallelism for each in refused)
        hint = "'zmflow plan SCRIPT --against PATH' compares them before anything runs."
        if unknown:
            hint = (
                "Give operators uids, so that they are found again; --allow-non-restored-state drops what "
                f"the job has no operator for. {hint}"
            )
        return TaskFailure(
            "checkpoint",
            f"The job cannot begin from {self.location}:\n{shown}"
            + (f"\nand {more} more" if more > 0 else ""),
            hint=hint,
        )
