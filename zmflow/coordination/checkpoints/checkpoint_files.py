"""``CheckpointFiles``: what becomes of the files of a job's checkpoints, and when they are deleted."""

from __future__ import annotations

from collections.abc import Iterable

from zmflow.coordination.checkpoints.completed import CompletedCheckpoint
from zmflow.coordination.checkpoints.history import CheckpointHistory
from zmflow.coordination.checkpoints.shared_files import SharedFiles
from zmflow.coordination.effects import DiscardCheckpoint
from zmflow.coordination.turn import Turn
from zmflow.ids import JobId
from zmflow.protocol.checkpoints import CheckpointAcknowledged
from zmflow.state.checkpoint_storage import SHARED, join_location, written_names

__all__ = ["CheckpointFiles"]


class CheckpointFiles:
    """The files of one job's checkpoints.

    Args:
        history: of the job's checkpoints.
    """

    def __init__(self, job_id: JobId, history: CheckpointHistory) -> None:
        self._job_id = job_id
        self._history = history
        self._shared = SharedFiles()

    def claim(self, checkpoint: CompletedCheckpoint) -> None:
        """The job begins from this one; its files are the job's own, or are left alone."""
        if checkpoint.owned:
            for file in checkpoint.metadata.files():
                self._shared.claim(checkpoint.checkpoint_id, checkpoint.location, file.shared)

    def acknowledged(self, location: str, message: CheckpointAcknowledged) -> str:
        """A part of a checkpoint that is waited for. Returns why it is no good, without a full stop; empty
        when it is."""
        if message.state is None:
            return ""
        gone = self._shared.use(message.checkpoint_id, location, message.state.shared)
        return f"it names the file {gone}, which is deleted" if gone else ""

    def too_late(self, turn: Turn, message: CheckpointAcknowledged, location: str) -> None:
        """A part that nobody waits for: what was written for it goes. Other checkpoints have the rest."""
        names = written_names(message.state, message.in_flight)
        if location and names:
            turn.do(DiscardCheckpoint(self._job_id, location, tuple(names)))

    def drop(self, turn: Turn, checkpoint_id: int, location: str) -> None:
        """A checkpoint was given up, or is not kept any more."""
        self.discard(turn, location)
        for place, names in self._shared.drop(checkpoint_id).items():
            turn.do(DiscardCheckpoint(self._job_id, place, tuple(SHARED + name for name in names)))

    def end(self, turn: Turn, kept: Iterable[CompletedCheckpoint], directory: str) -> None:
        """The job has ended, and these checkpoints go with it.

        Args:
            directory: of the job; empty: it had none.
        """
        for checkpoint in kept:
            self.drop(turn, checkpoint.checkpoint_id, checkpoint.location)
        if directory:
            # Also what killed tasks have written and told nobody.
            self.discard(turn, join_location(directory, "shared"))
            self.discard(turn, directory)

    def keep(self, turn: Turn, directory: str) -> None:
        """The job has ended, and its checkpoints stay: what killed tasks have written to be shared, and told
        nobody, goes.

        Args:
            directory: of the job; empty: it had none.
        """
        if directory:
            location = join_location(directory, "shared")
            turn.do(DiscardCheckpoint(self._job_id, location, kept=self._shared.names()))

    def discard(self, turn: Turn, location: str) -> None:
        """Delete a location."""
        if location:
            self._history.discarded(location)
            turn.do(DiscardCheckpoint(self._job_id, location))

    def check(self) -> None:
        """The books agree."""
        self._shared.check()
