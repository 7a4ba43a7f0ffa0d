"""What the settings say about the checkpoints of one job, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from zmflow.config import Settings
from zmflow.config.checkpoint_options import (
    ALIGNED_TIMEOUT,
    CHECKPOINT_DIR,
    CHECKPOINT_INTERVAL,
    CHECKPOINT_MIN_PAUSE,
    CHECKPOINT_RETENTION,
    CHECKPOINT_STORAGE,
    CHECKPOINT_TIMEOUT,
    CHECKPOINT_UNALIGNED,
    CHECKPOINTING_MODE,
    CHECKPOINTS_RETAINED,
    CONCURRENT_CHECKPOINTS_MAX,
    TOLERABLE_FAILED_CHECKPOINTS,
)
from zmflow.errors import ConfigurationError
from zmflow.graph.job_graph import JobGraph
from zmflow.state.checkpoint_storage import join_location

__all__ = ["CheckpointSettings", "checkpoint_settings"]

LEAST_INTERVAL_MS = 10
"""Flink's least interval and least timeout: below it a job would do nothing but snapshot."""


CHECKPOINT_ID_MAX = 10**12
"""More than a checkpoint in every millisecond for thirty years."""


@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """The settings of the checkpoints of one job.

    ``interval_ms`` is -1 when it takes none by itself; ``directory`` is the one of the job, empty when its
    state stays in the JobManager's memory. ``aligned_timeout_ms`` is None where barriers never overtake
    records.
    """

    streaming: bool
    interval_ms: int
    min_pause_ms: int
    timeout_ms: int
    concurrent_max: int
    failures_tolerated: int
    retained: int
    retention: str
    directory: str
    aligned_timeout_ms: int | None = None

    @property
    def enabled(self) -> bool:
        """Whether checkpoints are taken periodically."""
        return self.interval_ms > 0

    def location(self, checkpoint_id: int) -> str:
        """The directory of a checkpoint; empty: none, its state travels inside messages."""
        return join_location(self.directory, f"chk-{checkpoint_id}") if self.directory else ""

    def keeps(self, state: str) -> bool:
        """Whether the retained checkpoints outlive a job that ended in this state. Those of a FINISHED job
        never do: there is nothing to go on with."""
        if self.retention == "RETAIN_ON_CANCELLATION":
            return state in ("CANCELED", "FAILED")
        return self.retention == "DELETE_ON_CANCELLATION" and state == "FAILED"


def checkpoint_settings(job_id: str, graph: JobGraph, settings: Settings) -> CheckpointSettings:
    """The settings of a job's checkpoints.

    Args:
        settings: the cluster's settings under those of the job.

    Raises:
        ConfigurationError: they contradict each other, or a duration is too short.
    """
    storage = settings[CHECKPOINT_STORAGE]
    directory = "" if storage == "jobmanager" else settings[CHECKPOINT_DIR]
    if directory:
        directory = join_location(directory, job_id)
        join_location(directory, f"chk-{CHECKPOINT_ID_MAX}")  # the longest one is short enough
    elif storage == "filesystem":
        raise ConfigurationError(
            f"Checkpoints are to go to a file system, and {CHECKPOINT_DIR.key} is not set.",
            hint=f"Set {CHECKPOINT_DIR.key} to a directory that every machine reaches.",
        )
    timeout_ms = settings[CHECKPOINT_TIMEOUT]
    if timeout_ms < LEAST_INTERVAL_MS:
        raise ConfigurationError(
            f"The setting {CHECKPOINT_TIMEOUT.key} is too short.",
            detail=f"{timeout_ms} ms; at least {LEAST_INTERVAL_MS} ms.",
        )
    streaming = graph.runtime_mode == "STREAMING"
    interval_ms = settings[CHECKPOINT_INTERVAL]
    min_pause_ms = max(0, settings[CHECKPOINT_MIN_PAUSE])
    if interval_ms > 0:
        # A pause that is longer than the interval is what decides, as in Flink.
        interval_ms = max(interval_ms, min_pause_ms, LEAST_INTERVAL_MS)
    return CheckpointSettings(
        streaming,
        interval_ms if interval_ms > 0 and streaming else -1,
        min_pause_ms,
        timeout_ms,
        settings[CONCURRENT_CHECKPOINTS_MAX],
        settings[TOLERABLE_FAILED_CHECKPOINTS],
        settings[CHECKPOINTS_RETAINED],
        settings[CHECKPOINT_RETENTION],
        directory,
        max(0, settings[ALIGNED_TIMEOUT]) if _unaligned(settings) else None,
    )


def _unaligned(settings: Settings) -> bool:
    """Whether checkpoints may be unaligned: Flink's conditions."""
    return (
        settings[CHECKPOINT_UNALIGNED]
        and settings[CHECKPOINTING_MODE] == "EXACTLY_ONCE"
        and settings[CONCURRENT_CHECKPOINTS_MAX] == 1
    )
