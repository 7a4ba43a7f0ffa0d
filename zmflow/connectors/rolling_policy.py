"""``RollingPolicy``: when a part file is closed and another begun."""

from __future__ import annotations

from dataclasses import dataclass

from zmflow.errors import ConnectorError

__all__ = ["RollingPolicy"]

PART_SIZE_BYTES = 128 * 1024 * 1024
"""Flink's, and the size of a block in most distributed file systems."""

ROLLOVER_INTERVAL_MS = 60_000
"""Flink's: readers wait no longer than this and a checkpoint for a record."""


@dataclass(frozen=True, slots=True)
class RollingPolicy:
    """When a part file is closed and another begun. None: never for this reason.

    Args:
        part_size: bytes; looked at after each batch, so that a part may be larger by one.
        rollover_interval: milliseconds since the part was begun.
        inactivity_interval: milliseconds since the last record.
        on_checkpoint: with every checkpoint.

    >>> RollingPolicy.default_rolling_policy(part_size=1024).part_size
    1024
    """

    part_size: int | None = PART_SIZE_BYTES
    rollover_interval: int | None = ROLLOVER_INTERVAL_MS
    inactivity_interval: int | None = ROLLOVER_INTERVAL_MS
    on_checkpoint: bool = False

    def __post_init__(self) -> None:
        for name in ("part_size", "rollover_interval", "inactivity_interval"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConnectorError(
                    f"The {name} of a rolling policy is {value}.", hint="Give a number greater than 0."
                )

    @staticmethod
    def default_rolling_policy(
        part_size: int = PART_SIZE_BYTES,
        rollover_interval: int = ROLLOVER_INTERVAL_MS,
        inactivity_interval: int = ROLLOVER_INTERVAL_MS,
    ) -> RollingPolicy:
        """By size in bytes and time in milliseconds; PyFlink's defaults."""
        return RollingPolicy(part_size, rollover_interval, inactivity_interval)

    @staticmethod
    def on_checkpoint_rolling_policy() -> RollingPolicy:
        """With every checkpoint, and for no other reason."""
        return RollingPolicy(None, None, None, on_checkpoint=True)

    def is_due(self, now_ms: int, begun_ms: int, written_ms: int) -> bool:
        """Whether a part has lived long enough."""
        return (self.rollover_interval is not None and now_ms - begun_ms >= self.rollover_interval) or (
            self.inactivity_interval is not None and now_ms - written_ms >= self.inactivity_interval
        )

    @property
    def knows_time(self) -> bool:
        """Whether parts are closed because time goes by."""
        return self.rollover_interval is not None or self.inactivity_interval is not None
