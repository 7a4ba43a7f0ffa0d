"""Which TaskManagers have been sent the files of one job."""

from __future__ import annotations

from collections.abc import Sequence

from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.turn import Turn
from zmflow.ids import JobId
from zmflow.protocol.job_files import DropJobFiles, JobFile, StoreJobFile, named

__all__ = ["JobFileShipments"]


class JobFileShipments:
    """Sends the files of a job to each TaskManager once, before the first tasks, and has them removed.

    A TaskManager that registers again has let go of everything, so what counts is the registration and
    not the name. A slot that is lost leaves the files where they are: its tasks mostly come back.

    Args:
        copies: TaskManagers also keep copies of the job's state, which go in the same way.
    """

    def __init__(
        self, job_id: JobId, files: Sequence[JobFile], resources: ResourceManager, *, copies: bool = False
    ) -> None:
        self.named = [named(file) for file in files]
        """The files as deployments name them."""
        self._job_id = job_id
        self._files = {file.digest: file for file in files}
        self._resources = resources
        self._copies = copies
        self._sent: dict[str, int] = {}  # to which registration of each TaskManager

    def send(self, turn: Turn, taskmanager_id: str) -> None:
        """Tasks are about to be sent there: send the files first, unless it has them."""
        tm = self._resources.get(taskmanager_id)
        if tm is None or self._sent.get(taskmanager_id) == tm.order or not (self._files or self._copies):
            return
        self._sent[taskmanager_id] = tm.order
        for file in self._files.values():
            turn.send(tm.peer, StoreJobFile(turn.epoch, self._job_id, file))
        if self._files:
            turn.tell(self._job_id, f"{len(self._files)} files go to {taskmanager_id}")

    def drop(self, turn: Turn, taskmanager_id: str) -> None:
        """The job holds no slot there any more, and the message that ends the last one has been sent."""
        order = self._sent.pop(taskmanager_id, None)
        tm = self._resources.get(taskmanager_id)
        if tm is not None and tm.order == order:
            turn.send(tm.peer, DropJobFiles(turn.epoch, self._job_id))

    def end(self, turn: Turn) -> None:
        """The job has ended: the files go, here too."""
        for taskmanager_id in list(self._sent):
            self.drop(turn, taskmanager_id)
        self._files.clear()
        self.named.clear()
