"""``TaskEnvironment``: what the worker offers a task that runs in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from zmflow.protocol.checkpoints import AwaitsCheckpoint, CheckpointAcknowledged, CheckpointDeclined
from zmflow.protocol.messages import OperatorEvent, TaskFailure, TaskState

if TYPE_CHECKING:
    from zmflow.runtime.task import Task

__all__ = ["CheckpointReply", "TaskEnvironment"]

CheckpointReply: TypeAlias = CheckpointAcknowledged | CheckpointDeclined | AwaitsCheckpoint
"""What a task says about checkpoints; epoch and allocation are the worker's to fill."""


class TaskEnvironment(Protocol):
    """What the worker offers a task. ``state_dir``, which need not exist, is removed after the worker's
    end; ``copies_dir`` stays for the next worker of the job."""

    host: str
    external_resources: Mapping[str, Sequence[int]]
    cached_files: Mapping[str, str]
    run_dir: str
    state_dir: str
    copies_dir: str

    def report(self, task: Task, state: TaskState, failure: TaskFailure | None) -> None:
        """The task has a new state."""
        ...

    def request_split(self, task: Task) -> None:
        """Ask the source's enumerator for a split."""
        ...

    def checkpoint_reply(self, task: Task, message: CheckpointReply) -> None:
        """What has become of a checkpoint of the task."""
        ...

    def post_event(self, event: OperatorEvent) -> None:
        """Send an event to the worker of another task."""
        ...

    def emit_to_client(
        self, task: Task, collect_id: str, rows: Sequence[Any], finished: bool, transactional: bool, /
    ) -> int:
        """Send rows to the client; blocks while it is slow. The number of their last batch."""
        ...

    def commit_at_client(
        self, task: Task, collect_id: str, subtask: int, attempt: int, sequence: int, /
    ) -> None:
        """Tell the client that rows which an attempt has sent count, up to this batch."""
        ...
