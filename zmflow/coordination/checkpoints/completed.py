"""The completed checkpoints of a job: which are kept, and which one tasks begin from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from zmflow.protocol.checkpoint_metadata import CheckpointMetadata

__all__ = ["CompletedCheckpoint", "CompletedCheckpoints"]


@dataclass(frozen=True, slots=True)
class CompletedCheckpoint:
    """A checkpoint tasks can be restored from. ``owned``: its files are the job's to delete."""

    metadata: CheckpointMetadata
    location: str
    owned: bool = True

    @property
    def checkpoint_id(self) -> int:
        """Its number."""
        return self.metadata.checkpoint_id


class CompletedCheckpoints:
    """The newest completed checkpoints, oldest first.

    One that is dropped is nobody's any more: a checkpoint is triggered only when every task runs, so by the
    time it is complete all have read what they were restored from.

    Args:
        retained: how many are kept.
    """

    def __init__(self, retained: int) -> None:
        self._retained = retained
        self._kept: deque[CompletedCheckpoint] = deque()
        self._rejected: list[CompletedCheckpoint] = []

    @property
    def latest(self) -> CompletedCheckpoint | None:
        """The newest one."""
        return self._kept[-1] if self._kept else None

    def has(self, checkpoint_id: int) -> bool:
        """Whether this one is kept."""
        return any(checkpoint.checkpoint_id == checkpoint_id for checkpoint in self._kept)

    def add(self, checkpoint: CompletedCheckpoint) -> list[CompletedCheckpoint]:
        """One more. Returns those whose files are to be deleted because of it."""
        assert self.latest is None or checkpoint.checkpoint_id > self.latest.checkpoint_id
        self._kept.append(checkpoint)
        dropped = []
        while len(self._kept) > self._retained:
            dropped.append(self._kept.popleft())
        return [old for old in dropped if old.owned]

    def reject_latest(self) -> CompletedCheckpoint | None:
        """Nobody can begin from the newest one. Its files stay until the job ends: somebody may want to look.
        Returns the one that is the newest now; None, and nothing changes, when there is no other."""
        if len(self._kept) < 2:
            return None
        self._rejected.append(self._kept.pop())
        return self._kept[-1]

    def forget(self) -> list[CompletedCheckpoint]:
        """The job has ended. Returns those whose files are its own."""
        kept, self._kept = [*self._rejected, *self._kept], deque()
        return [checkpoint for checkpoint in kept if checkpoint.owned]
