"""Split requests and assignments as one worker sees them: readers and enumerators, here and elsewhere.

The reports of readers whose watermarks are aligned come this way as well; ``alignment_groups`` answers them.

An enumerator lives in the worker of subtask 0. What goes to another worker travels as an ``OperatorEvent``
through TaskManager and JobManager; what stays here does not. Whoever receives an event checks that it is
of the enumerator and of the attempt of the reader that it knows: others have been replaced.
"""

from __future__ import annotations

from collections.abc import Callable

from zmflow.protocol.messages import (
    CoordinatorSnapshot,
    OperatorEvent,
    SnapshotCoordinator,
    TaskDeployment,
)
from zmflow.runtime.sources.alignment_groups import AlignmentGroups
from zmflow.runtime.sources.source_coordinator import (
    REPORT_WATERMARK,
    REQUEST_SPLIT,
    SourceCoordinator,
    decode_event,
    encode_event,
)
from zmflow.runtime.task import Task

__all__ = ["SourceEvents"]


class SourceEvents:
    """The enumerators of a worker, and the way of events between them and readers.

    Args:
        host: for failures.
        reader_of: the newest attempt of a subtask of a vertex that lives in this worker.
        post: sends an event to another worker, or a snapshot to the JobManager; the epoch is the caller's
            to fill.
    """

    def __init__(
        self,
        host: str,
        reader_of: Callable[[str, int], Task | None],
        post: Callable[[OperatorEvent | CoordinatorSnapshot], None],
    ) -> None:
        self._host = host
        self._reader_of = reader_of
        self._post = post
        self._groups = AlignmentGroups(post)
        self._coordinators: dict[str, SourceCoordinator] = {}
        self._newest: dict[tuple[str, int], int] = {}  # the newest attempt of each reader that was here

    def deployed(self, deployment: TaskDeployment) -> None:
        """A reader is deployed here; with subtask 0 comes the enumerator, unless it lives already."""
        vertex = deployment.vertex_id
        self._newest[vertex, deployment.subtask_index] = deployment.attempt_number
        coordinator = self._coordinators.get(vertex)
        if coordinator is not None and coordinator.number < deployment.coordinator_number:
            coordinator.stop()
            del self._coordinators[vertex]
            coordinator = None
        if coordinator is None and deployment.subtask_index == 0:

            def send(subtask: int, attempt: int, payload: bytes) -> None:
                self._to_reader(deployment, subtask, attempt, payload)

            def snapshotted(checkpoint_id: int, state: bytes, failure: str) -> None:
                number = deployment.coordinator_number
                self._post(
                    CoordinatorSnapshot(0, deployment.job_id, vertex, checkpoint_id, number, state, failure)
                )

            coordinator = SourceCoordinator(deployment, self._host, send, snapshotted)
            self._coordinators[vertex] = coordinator
            coordinator.start()

    def snapshot(self, request: SnapshotCoordinator) -> None:
        """The JobManager wants a snapshot of an enumerator."""
        coordinator = self._coordinators.get(request.vertex_id)
        if coordinator is not None and coordinator.number == request.coordinator_number:
            coordinator.snapshot(request.checkpoint_id)

    def completed(self, checkpoint_id: int) -> None:
        """A checkpoint is complete."""
        for coordinator in self._coordinators.values():
            coordinator.completed(checkpoint_id)

    def request_split(self, deployment: TaskDeployment) -> None:
        """A reader of this worker asks for a split."""
        restored = 0 if deployment.restore is None else deployment.restore.checkpoint_id
        coordinator = self._coordinators.get(deployment.vertex_id)
        if coordinator is not None and coordinator.number == deployment.coordinator_number:
            coordinator.request(deployment.subtask_index, deployment.attempt_number, restored)
            return
        self._post(
            OperatorEvent(
                0,
                deployment.job_id,
                deployment.vertex_id,
                0,
                from_subtask=deployment.subtask_index,
                to_subtask=-1,
                payload=encode_event(REQUEST_SPLIT, None, restored),
                attempt_number=deployment.attempt_number,
                coordinator_number=deployment.coordinator_number,
            )
        )

    def receive(self, event: OperatorEvent) -> None:
        """An event from another worker."""
        if event.to_subtask < 0:
            verb, argument, restored = decode_event(event.payload)
            if verb == REPORT_WATERMARK:
                self._groups.receive(event, argument)
                return
            coordinator = self._coordinators.get(event.vertex_id)
            if coordinator is not None and coordinator.number == event.coordinator_number:
                coordinator.request(event.from_subtask, event.attempt_number, restored)
            return
        reader = self._reader_of(event.vertex_id, event.to_subtask)
        if reader is None or reader.deployment.coordinator_number != event.coordinator_number:
            return
        if reader.deployment.attempt_number == event.attempt_number:
            reader.operator_event(event.payload)

    def stop(self) -> None:
        """Close the enumerators; the worker ends."""
        for coordinator in self._coordinators.values():
            coordinator.stop()
        for coordinator in self._coordinators.values():
            coordinator.join()

    def _to_reader(self, source: TaskDeployment, subtask: int, attempt: int, payload: bytes) -> None:
        event = OperatorEvent(
            0,
            source.job_id,
            source.vertex_id,
            0,
            from_subtask=-1,
            to_subtask=subtask,
            payload=payload,
            attempt_number=attempt,
            coordinator_number=source.coordinator_number,
        )
        # A newer attempt than was ever here is elsewhere: the reader has moved.
        if self._newest.get((source.vertex_id, subtask), -1) < attempt:
            self._post(event)
        else:
            self.receive(event)
