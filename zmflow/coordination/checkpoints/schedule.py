"""``CheckpointSchedule``: when the next periodic checkpoint of a job is to begin."""

from __future__ import annotations

from collections.abc import Callable

from zmflow.coordination.checkpoints.settings import CheckpointSettings

__all__ = ["CheckpointSchedule"]


class CheckpointSchedule:
    """Instants, by the interval and the least pause of the settings. It knows nothing of who is ready.

    Args:
        chance: numbers from 0 to 1, for the instant of the first checkpoint.

    >>> from zmflow.config import Settings
    >>> from zmflow.coordination.checkpoints.settings import checkpoint_settings
    >>> from zmflow.graph.job_graph import JobGraph
    >>> every_second = Settings().with_values({"execution.checkpointing.interval": "1 s"}, "an example")
    >>> settings = checkpoint_settings("j", JobGraph("job", [], [], {}, [], "STREAMING"), every_second)
    >>> schedule = CheckpointSchedule(settings, chance=lambda: 0.5)
    >>> schedule.start(now_ms=0); schedule.next_ms
    500
    >>> schedule.begun(now_ms=500); schedule.next_ms
    1500
    """

    def __init__(self, settings: CheckpointSettings, chance: Callable[[], float]) -> None:
        self._settings = settings
        self._chance = chance
        self._due_ms: int | None = None
        self._completed_ms: int | None = None
        self._at_once = False

    def start(self, now_ms: int) -> None:
        """All tasks are deployed. The first checkpoint is at a random time, as in Flink, or all jobs that
        begin with a TaskManager would snapshot together for ever."""
        if self._settings.enabled:
            least_ms = self._settings.min_pause_ms
            spread_ms = self._settings.interval_ms - least_ms
            self._due_ms = now_ms + least_ms + int(self._chance() * (spread_ms + 1))

    def begun(self, now_ms: int) -> None:
        """A checkpoint has begun."""
        self._at_once = False
        if self._settings.enabled:
            self._due_ms = now_ms + self._settings.interval_ms

    def completed(self, now_ms: int) -> None:
        """One is complete."""
        self._completed_ms = now_ms

    def hurry(self) -> None:
        """The next one waits neither for its time nor for a pause."""
        self._at_once = True

    def stop(self) -> None:
        """None is to begin before ``start``."""
        self._due_ms, self._at_once = None, False

    @property
    def next_ms(self) -> int | None:
        """When the next one is to begin; None: not before something happens."""
        if self._due_ms is None:
            return None
        if self._at_once:
            return 0
        if self._completed_ms is None:
            return self._due_ms
        return max(self._due_ms, self._completed_ms + self._settings.min_pause_ms)
