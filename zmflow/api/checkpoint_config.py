"""``CheckpointConfig``: when and how an environment's jobs are to be snapshotted, with PyFlink's members."""

from __future__ import annotations

from enum import Enum

from zmflow.api.program_settings import ProgramSettings
from zmflow.api.time import TimeAmount, whole_millis
from zmflow.errors import JobGraphError

__all__ = ["CheckpointConfig", "CheckpointingMode", "ExternalizedCheckpointRetention"]

_PREFIX = "execution.checkpointing."
_MODE = _PREFIX + "mode"
_INTERVAL = _PREFIX + "interval"
_TIMEOUT = _PREFIX + "timeout"
_MIN_PAUSE = _PREFIX + "min-pause"
_CONCURRENT = _PREFIX + "max-concurrent-checkpoints"
_TOLERABLE = _PREFIX + "tolerable-failed-checkpoints"
_RETENTION = _PREFIX + "externalized-checkpoint-retention"
_UNALIGNED = _PREFIX + "unaligned.enabled"
_FORCED = _PREFIX + "unaligned.forced"
_ALIGNED_TIMEOUT = _PREFIX + "aligned-checkpoint-timeout"

TOLERABLE_FAILURES_MAX = 2**31 - 1
"""Flink's Integer.MAX_VALUE, which stands for any number."""


class CheckpointingMode(Enum):
    """How often a record counts in state after a failure: once, or at least once."""

    EXACTLY_ONCE = 0
    AT_LEAST_ONCE = 1


class ExternalizedCheckpointRetention(Enum):
    """What becomes of the last checkpoint when a job is cancelled."""

    DELETE_ON_CANCELLATION = 0
    RETAIN_ON_CANCELLATION = 1
    NO_EXTERNALIZED_CHECKPOINTS = 2


class CheckpointConfig(ProgramSettings):
    """Checkpoint settings of an environment's jobs, as ``env.get_checkpoint_config()`` returns them."""

    def is_checkpointing_enabled(self) -> bool:
        """Whether an interval is set."""
        return self.get_checkpoint_interval() > 0

    def get_checkpointing_mode(self) -> CheckpointingMode:
        """EXACTLY_ONCE, unless the other one was set."""
        return CheckpointingMode[self._text(_MODE, "EXACTLY_ONCE").upper()]

    def set_checkpointing_mode(self, checkpointing_mode: CheckpointingMode) -> None:
        """Choose between EXACTLY_ONCE and AT_LEAST_ONCE."""
        self._set(_MODE, _member(checkpointing_mode, CheckpointingMode, "set_checkpointing_mode()"))

    def get_checkpointing_consistency_mode(self) -> CheckpointingMode:
        """The checkpointing mode, by its newer name."""
        return self.get_checkpointing_mode()

    def set_checkpointing_consistency_mode(self, checkpointing_mode: CheckpointingMode) -> None:
        """Choose the checkpointing mode, by its newer name."""
        self.set_checkpointing_mode(checkpointing_mode)

    def get_checkpoint_interval(self) -> int:
        """Milliseconds between checkpoints; -1: there are none."""
        return self._milliseconds(_INTERVAL, "-1")

    def set_checkpoint_interval(self, checkpoint_interval: int) -> None:
        """Milliseconds between checkpoints."""
        self._set(_INTERVAL, _positive(checkpoint_interval, "The checkpoint interval", " ms"))

    def get_checkpoint_timeout(self) -> int:
        """Milliseconds after which a checkpoint that is not complete is given up."""
        return self._milliseconds(_TIMEOUT, "10 min")

    def set_checkpoint_timeout(self, checkpoint_timeout: int) -> None:
        """Milliseconds after which a checkpoint that is not complete is given up."""
        self._set(_TIMEOUT, _positive(checkpoint_timeout, "The checkpoint timeout", " ms"))

    def get_min_pause_between_checkpoints(self) -> int:
        """Least number of milliseconds from the end of one checkpoint to the start of the next."""
        return self._milliseconds(_MIN_PAUSE, "0 ms")

    def set_min_pause_between_checkpoints(self, min_pause_between_checkpoints: int) -> None:
        """Least number of milliseconds from the end of one checkpoint to the start of the next."""
        self._set(_MIN_PAUSE, f"{min_pause_between_checkpoints} ms")

    def get_max_concurrent_checkpoints(self) -> int:
        """How many checkpoints may be under way at once."""
        return self._integer(_CONCURRENT, 1)

    def set_max_concurrent_checkpoints(self, max_concurrent_checkpoints: int) -> None:
        """How many checkpoints may be under way at once."""
        self._set(_CONCURRENT, _positive(max_concurrent_checkpoints, "The number of concurrent checkpoints"))

    def is_fail_on_checkpointing_errors(self) -> bool:
        """Whether the first checkpoint that fails fails the job."""
        return self.get_tolerable_checkpoint_failure_number() == 0

    def set_fail_on_checkpointing_errors(self, fail_on_checkpointing_errors: bool) -> None:
        """Fail the job when a checkpoint fails, or never."""
        self.set_tolerable_checkpoint_failure_number(
            0 if fail_on_checkpointing_errors else TOLERABLE_FAILURES_MAX
        )

    def get_tolerable_checkpoint_failure_number(self) -> int:
        """How many checkpoints in a row may fail."""
        return self._integer(_TOLERABLE, 0)

    def set_tolerable_checkpoint_failure_number(self, tolerable_checkpoint_failure_number: int) -> None:
        """How many checkpoints in a row may fail before the job does."""
        self._set(_TOLERABLE, str(tolerable_checkpoint_failure_number))

    def get_externalized_checkpoint_retention(self) -> ExternalizedCheckpointRetention:
        """What becomes of the last checkpoint when the job is cancelled."""
        return ExternalizedCheckpointRetention[self._text(_RETENTION, "NO_EXTERNALIZED_CHECKPOINTS").upper()]

    def set_externalized_checkpoint_retention(self, retention_mode: ExternalizedCheckpointRetention) -> None:
        """Say what becomes of the last checkpoint when the job is cancelled."""
        call = "set_externalized_checkpoint_retention()"
        self._set(_RETENTION, _member(retention_mode, ExternalizedCheckpointRetention, call))

    def is_externalized_checkpoints_enabled(self) -> bool:
        """Whether the last checkpoint outlives a failed job."""
        retention = self.get_externalized_checkpoint_retention()
        return retention is not ExternalizedCheckpointRetention.NO_EXTERNALIZED_CHECKPOINTS

    def is_unaligned_checkpoints_enabled(self) -> bool:
        """Whether barriers overtake records."""
        return self._boolean(_UNALIGNED, True)

    def enable_unaligned_checkpoints(self, enabled: bool = True) -> None:
        """Let barriers overtake records, which become a part of the checkpoint."""
        self._set(_UNALIGNED, "true" if enabled else "false")

    def disable_unaligned_checkpoints(self) -> None:
        """Align barriers."""
        self.enable_unaligned_checkpoints(False)

    def is_force_unaligned_checkpoints(self) -> bool:
        """Whether they are unaligned where that is experimental."""
        return self._boolean(_FORCED, False)

    def set_force_unaligned_checkpoints(self, force_unaligned_checkpoints: bool = True) -> None:
        """Make checkpoints unaligned where that is experimental."""
        self._set(_FORCED, "true" if force_unaligned_checkpoints else "false")

    def get_aligned_checkpoint_timeout(self) -> int:
        """Milliseconds an aligned checkpoint may take before it goes on unaligned; 0: it begins so."""
        return self._milliseconds(_ALIGNED_TIMEOUT, "5 s")

    def set_aligned_checkpoint_timeout(self, alignment_timeout: TimeAmount) -> None:
        """How long an aligned checkpoint may take before it goes on unaligned."""
        millis = whole_millis(alignment_timeout, "set_aligned_checkpoint_timeout()")
        self._set(_ALIGNED_TIMEOUT, f"{millis} ms")

    def get_alignment_timeout(self) -> int:
        """The aligned checkpoint timeout, by its older name."""
        return self.get_aligned_checkpoint_timeout()

    def set_alignment_timeout(self, alignment_timeout: TimeAmount) -> None:
        """Set the aligned checkpoint timeout, by its older name."""
        self.set_aligned_checkpoint_timeout(alignment_timeout)


def _member(value: Enum, kind: type[Enum], call: str) -> str:
    if not isinstance(value, kind):
        names = ", ".join(member.name for member in kind)
        raise JobGraphError(
            f"{call} takes a {kind.__name__}, not {value!r}.", hint=f"One of {kind.__name__}'s {names}."
        )
    return value.name


def _positive(value: int, what: str, unit: str = "") -> str:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise JobGraphError(f"{what} is {value!r}.", hint="It is a whole number of at least 1.")
    return f"{value}{unit}"
