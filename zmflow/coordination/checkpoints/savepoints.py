"""The savepoints of one job: what clients ask for, where it goes, and the answers.

A savepoint is a snapshot like a checkpoint, in a directory of its own that the job never deletes. One that
stops the job is answered when the job has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zmflow.config import Settings
from zmflow.config.checkpoint_options import SAVEPOINT_DIR
from zmflow.coordination.checkpoints.coordinator import CheckpointAnswer, CheckpointCoordinator
from zmflow.coordination.turn import Turn
from zmflow.errors import ClusterError, ConfigurationError
from zmflow.ids import JobId
from zmflow.protocol.messages import JobState, SavepointBegun, SavepointDone, TriggerSavepoint
from zmflow.state.checkpoint_storage import join_location

__all__ = ["SavepointRequest", "Savepoints"]

RANDOM_SIZE_BITS = 48
"""Of the random part of a directory's name: Flink's twelve hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class SavepointRequest:
    """Who asked for a savepoint, and whether the job ends with it."""

    peer: bytes
    request_id: int
    stops: bool


class Savepoints:
    """Takes requests of clients and answers them.

    Args:
        settings: the cluster's under those of the job.
        chance: numbers from 0 to 1, for the names of directories.
    """

    def __init__(
        self,
        job_id: JobId,
        settings: Settings,
        checkpoints: CheckpointCoordinator,
        chance: Callable[[], float],
    ) -> None:
        self._job_id = job_id
        self._settings = settings
        self._checkpoints = checkpoints
        self._chance = chance
        self._stopped: CheckpointAnswer | None = None  # complete; the job is about to end

    def request(self, turn: Turn, peer: bytes, message: TriggerSavepoint, state: JobState) -> None:
        """Begin a savepoint; ``SavepointDone`` follows.

        Raises:
            ClusterError: the job cannot take one now.
            ConfigurationError: nobody says where to, or that is no location.
        """
        if message.kind == "checkpoint":
            raise ClusterError("A client asks for savepoints, not for checkpoints.")
        location = self._location(message.directory or self._settings[SAVEPOINT_DIR])
        request = SavepointRequest(peer, message.request_id, message.kind != "savepoint")
        why = f"it is {state}" if state != "RUNNING" else ""
        why = why or self._checkpoints.trigger(turn, message.kind, location, request)
        if why:
            raise ClusterError(
                f"The job {self._job_id} cannot take a savepoint: {why}.",
                hint="'zmflow info' shows how the job is doing.",
            )
        number = self._checkpoints.newest_id
        turn.log("info", f"Savepoint {number} goes to {location}.", job=self._job_id)
        turn.send(peer, SavepointBegun(turn.epoch, message.request_id, self._job_id, number, location))

    def _location(self, directory: str) -> str:
        if not directory:
            raise ConfigurationError(
                "Nobody says where the savepoint is to go.",
                hint=f"Name a directory that every machine reaches, or set {SAVEPOINT_DIR.key}.",
            )
        random = int(self._chance() * 2**RANDOM_SIZE_BITS)
        return join_location(directory, f"savepoint-{self._job_id[:6]}-{random:0{RANDOM_SIZE_BITS // 4}x}")

    def answer(self, turn: Turn, answer: CheckpointAnswer) -> None:
        """A savepoint is complete, or was given up."""
        request = answer.request
        assert isinstance(request, SavepointRequest)
        if request.stops and not answer.failure:
            self._stopped = answer
            return
        self._send(turn, answer, answer.failure)

    def look(self, turn: Turn, state: JobState) -> None:
        """Answer whoever waits for the job to stop, once that is decided."""
        answer = self._stopped
        if answer is None or state == "RUNNING":
            return
        self._stopped = None
        why = f"The savepoint is complete, and the job did not stop: it is {state}."
        self._send(turn, answer, "" if state == "FINISHED" else why)

    def _send(self, turn: Turn, answer: CheckpointAnswer, failure: str) -> None:
        request = answer.request
        assert isinstance(request, SavepointRequest)
        number, location = answer.checkpoint_id, answer.location
        done = SavepointDone(
            turn.epoch, request.request_id, self._job_id, number, location, failure, not answer.failure
        )
        turn.send(request.peer, done)
