"""The ``RuntimeContext`` that the functions of a task are given."""

from __future__ import annotations

from typing import Any

from zmflow.api.functions import RuntimeContext
from zmflow.api.metric_group import MetricGroup
from zmflow.config import Settings
from zmflow.protocol.messages import TaskDeployment
from zmflow.runtime.job_parameters import job_parameters
from zmflow.runtime.task_environment import TaskEnvironment

__all__ = ["runtime_context"]


def runtime_context(
    deployment: TaskDeployment,
    settings: Settings,
    environment: TaskEnvironment,
    accumulators: dict[str, Any],
    metric_group: MetricGroup,
) -> RuntimeContext:
    """The context of the chain of a task; each operator gets it under its own name.

    Args:
        settings: the TaskManager's under the job's.
        environment: the worker.
        accumulators: those of the task.
        metric_group: of the task.
    """
    return RuntimeContext(
        job_id=deployment.job_id,
        job_name=deployment.job_name,
        task_name=deployment.vertex_name,
        operator_name="",
        subtask_index=deployment.subtask_index,
        parallelism=deployment.parallelism,
        max_parallelism=deployment.max_parallelism,
        attempt_number=deployment.attempt_number,
        host=environment.host,
        managed_memory_bytes=deployment.managed_memory,
        external_resources=environment.external_resources,
        job_parameters=job_parameters(settings),
        cached_files=environment.cached_files,
        accumulators=accumulators,
        metric_group=metric_group,
    )
