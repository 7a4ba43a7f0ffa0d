"""Deployments of tasks without a program."""

from __future__ import annotations

from zmflow.protocol.checkpoints import SubtaskRestore
from zmflow.protocol.messages import TaskDeployment

__all__ = ["deployment"]


def deployment(restore: SubtaskRestore | None = None) -> TaskDeployment:
    """The only subtask of a vertex ``v1``."""
    return TaskDeployment(
        attempt_id="j/v1/0/0",
        job_id="j",
        job_name="job",
        vertex_id="v1",
        vertex_name="chain",
        subtask_index=0,
        parallelism=1,
        max_parallelism=128,
        attempt_number=0,
        operators=b"",
        gate_channels=[],
        partitions=[],
        settings={},
        py_files=[],
        restore=restore,
    )
