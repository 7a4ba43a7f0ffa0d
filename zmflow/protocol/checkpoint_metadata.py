"""The ``_metadata`` file of a checkpoint: what it consists of, in one small file that is written last.

Layout: 8 bytes of magic, whose last is the version; 8 bytes of xxh64 over what follows, little endian; the
MessagePack of ``CheckpointMetadata``. A checkpoint without it is none. Fields are only appended, with a
default; a change an older reader would misread raises the version.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import xxhash

from zmflow.errors import StateError
from zmflow.protocol.checkpoints import CheckpointKind, StateFile

__all__ = [
    "METADATA_NAME",
    "METADATA_SIZE_MAX_BYTES",
    "CheckpointMetadata",
    "InputRecord",
    "OperatorRecord",
    "VertexRecord",
    "decode_metadata",
    "encode_metadata",
    "without_shared",
]

METADATA_NAME = "_metadata"
"""Flink's name of the file."""

METADATA_SIZE_MAX_BYTES = 1 << 30
"""Ten thousand subtasks with 20 KiB of inline state each are 200 MiB; more than five times that is no
checkpoint but a damaged length."""

_MAGIC = b"ZMFLCHK\x01"


class _Struct(msgspec.Struct, frozen=True, array_like=True):
    pass


class OperatorRecord(_Struct, frozen=True):
    """An operator whose state is in the files of its vertex."""

    operator_id: str
    uid: str  # "" when the user gave none
    name: str


class InputRecord(_Struct, frozen=True):
    """An edge that leads to a vertex, and whose records may have been on their way.

    Args:
        source: id of the first operator of the vertex it comes from.
        gate: the one it leads to.
        first_channel: in the gate; the others follow, one for each subtask of the source.
        parallelism: how many subtasks the source had.
    """

    source: str
    gate: int
    first_channel: int
    parallelism: int


class VertexRecord(_Struct, frozen=True):
    """The state of one vertex.

    Args:
        vertex_id: in the graph that was checkpointed.
        name: for people.
        parallelism: how many subtasks there were.
        max_parallelism: how many key groups there are.
        operators: of the chain.
        subtasks: the file of each; None for one without state.
        finished: the subtasks that had finished.
        coordinator: the pickled state of the split enumerator of a source; None elsewhere.
        in_flight: for each subtask the file of what was on its way to it; empty where nothing was.
        inputs: its edges, where something was on its way.
    """

    vertex_id: str
    name: str
    parallelism: int
    max_parallelism: int
    operators: list[OperatorRecord]
    subtasks: list[StateFile | None]
    finished: list[int] = []
    coordinator: bytes | None = None
    in_flight: list[StateFile | None] = []
    inputs: list[InputRecord] = []

    @property
    def all_finished(self) -> bool:
        """Whether no subtask will ever run again."""
        return len(self.finished) == self.parallelism


def without_shared(record: VertexRecord) -> VertexRecord:
    """The same without the names of shared files, for who reads them where their content is described."""
    files = [f and msgspec.structs.replace(f, shared=[]) for f in record.subtasks]
    return msgspec.structs.replace(record, subtasks=files)


class CheckpointMetadata(_Struct, frozen=True):
    """What one checkpoint consists of."""

    job_id: str
    job_name: str
    checkpoint_id: int
    kind: CheckpointKind
    triggered_wall_ms: int
    vertices: list[VertexRecord]

    @property
    def state_bytes(self) -> int:
        """The size of all state, shared files and what was on its way included."""
        return sum(file.state_bytes for file in self.files())

    @property
    def written_bytes(self) -> int:
        """What of it was written for this checkpoint; the rest earlier ones had written."""
        return self.state_bytes - sum(
            shared.size_bytes for file in self.files() for shared in file.shared if not shared.fresh
        )

    def files(self) -> Iterator[StateFile]:
        """What there is of its subtasks, and of what was on its way to them."""
        return (
            file
            for vertex in self.vertices
            for file in (*vertex.subtasks, *vertex.in_flight)
            if file is not None
        )


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[CheckpointMetadata] = msgspec.msgpack.Decoder(CheckpointMetadata)


def encode_metadata(metadata: CheckpointMetadata) -> bytes:
    """The bytes of the file.

    >>> empty = CheckpointMetadata("j", "job", 3, "checkpoint", 0, [])
    >>> decode_metadata(encode_metadata(empty), "chk-3") == empty
    True
    """
    body = _encoder.encode(metadata)
    return _MAGIC + xxhash.xxh64_intdigest(body).to_bytes(8, "little") + body


def decode_metadata(data: bytes, where: str) -> CheckpointMetadata:
    """What is in the bytes of the file.

    Args:
        where: the file, for the error.

    Raises:
        StateError: it is damaged, no such file, or of another version.
    """
    begin = len(_MAGIC)
    if data[: begin - 1] != _MAGIC[:-1]:
        raise StateError(
            f"{where} is not the metadata of a checkpoint.",
            detail=f"{len(data)} bytes that begin with {data[:8]!r}.",
            hint="Give the directory of a completed checkpoint or savepoint.",
        )
    if data[:begin] != _MAGIC:
        raise StateError(
            f"{where} was written by another version of zmflow.",
            detail=f"Its format has version {data[begin - 1]}, this zmflow reads {_MAGIC[-1]}.",
        )
    body = data[begin + 8 :]
    if len(data) > METADATA_SIZE_MAX_BYTES or int.from_bytes(
        data[begin : begin + 8], "little"
    ) != xxhash.xxh64_intdigest(body):
        raise StateError(
            f"{where} is damaged.", detail="Its checksum is wrong.", hint="Use an older checkpoint."
        )
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"{where} is damaged.", detail=str(error)) from None
