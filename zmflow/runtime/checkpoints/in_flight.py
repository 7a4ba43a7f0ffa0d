"""Records that an unaligned checkpoint has overtaken: kept as they were sent, and sent again after a restore.

They are in a state file of their own, which the tasks that had sent them read: each sends what it finds of
its channels again before anything else, by the partitioner of the edge, so it does not matter to how many
subtasks. Watermarks are no part of it, as in Flink.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zmflow.config import Settings
from zmflow.errors import ProtocolError, StateError
from zmflow.execution.batches import Batch, decode_batch, encode_batch
from zmflow.protocol.checkpoints import InFlightRestore
from zmflow.protocol.frames import FRAMES_PER_MESSAGE_MAX, Frame, decode_frames, encode_frames
from zmflow.runtime.channels import InputChannel
from zmflow.state.checkpoint_storage import open_storage
from zmflow.state.chunks import OperatorSnapshot
from zmflow.state.operator_state import OperatorStateMode, OperatorStateSnapshot
from zmflow.state.snapshot_files import open_state_file
from zmflow.state.state_file import PickledState, pickle_state

__all__ = ["InFlightRecords", "read_in_flight"]

_CHANNELS = "in-flight"
"""Stands where other state files have the id of an operator. Ids of operators are hexadecimal."""


class InFlightRecords:
    """What was on its way to a task, channel by channel, as it goes on. On the task's thread."""

    def __init__(self) -> None:
        self._frames: dict[tuple[int, int], list[Frame]] = {}
        self.size_bytes = 0

    def add(self, channel: InputChannel, item: Any) -> None:
        """A batch, or the frame of one. A batch is pickled now: its records may be changed afterwards."""
        frame = item if item.__class__ is Frame else encode_batch(0, item, compress=False)
        self._frames.setdefault((channel.gate, channel.index), []).append(frame)
        self.size_bytes += len(frame.payload)

    def pickled(self) -> PickledState:
        """The state file of it."""
        return pickle_state(
            [
                OperatorSnapshot(
                    _CHANNELS,
                    [],
                    [
                        OperatorStateSnapshot(_name(*place), OperatorStateMode.SPLIT, list(_messages(frames)))
                        for place, frames in self._frames.items()
                    ],
                )
            ]
        )


def _name(gate: int, channel: int) -> str:
    return f"{gate}/{channel}"


def _messages(frames: list[Frame]) -> Iterator[bytes]:
    for begin in range(0, len(frames), FRAMES_PER_MESSAGE_MAX):
        yield encode_frames(frames[begin : begin + FRAMES_PER_MESSAGE_MAX])


def read_in_flight(restore: InFlightRestore, location: str, settings: Settings) -> Iterator[Batch]:
    """The batches that a subtask sends again over one edge, in their order.

    Args:
        location: of the checkpoint; empty where its state is inside messages.

    Raises:
        StateError: a file is damaged.
        CheckpointStorageError: one is missing, or cannot be read.
    """
    storage = open_storage(location, settings) if location else None
    for part in restore.parts:
        reader = open_state_file(part.file, storage)
        for channel in part.channels:
            for state in reader.operator(_CHANNELS, _name(part.gate, channel)):
                for message in state.elements:
                    try:
                        yield from map(decode_batch, decode_frames(message))
                    except ProtocolError as error:
                        raise StateError(
                            "Records that were on their way cannot be read.",
                            detail=f"{part.file.path or 'inline'}: {error}",
                            hint="Use an older checkpoint.",
                        ) from error
