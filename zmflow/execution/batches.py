"""Batches between operators, and their form in a frame.

Operators hand batches on; what is inside has a *layout* (design D4): rows, a Python list, or timed rows,
which have a timestamp each. A frame names its layout, so another one is another branch in ``encode_batch``
and ``decode_batch`` and in the operators that can use it, and nothing else.
"""

from __future__ import annotations

import io
import pickle
import sys
from array import array
from collections.abc import Sequence
from typing import Any, TypeAlias

import lz4.block

from zmflow.errors import ConnectorError, ProtocolError
from zmflow.protocol.frames import FRAME_SIZE_MAX_BYTES, Codec, Frame, FrameKind, Layout

__all__ = [
    "COMPRESS_FROM_BYTES",
    "Batch",
    "Rows",
    "TimedRows",
    "decode_batch",
    "encode_batch",
    "encoded_size_of_one",
]

Rows = Sequence[Any]
"""A batch of records in row layout; never changed after it was handed on."""


class TimedRows:
    """A batch of records with a timestamp each, in milliseconds; never changed after it was handed on."""

    __slots__ = ("rows", "timestamps")

    def __init__(self, rows: Rows, timestamps: Sequence[int]) -> None:
        self.rows = rows
        self.timestamps = timestamps

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> TimedRows:
        return TimedRows(self.rows[part], self.timestamps[part])


Batch: TypeAlias = Rows | TimedRows
"""Records on their way, in either layout."""

COMPRESS_FROM_BYTES = 512
"""Smaller payloads fit into one packet either way; compressing them only costs."""

_SCALARS = frozenset((str, bytes, int, float, bool, type(None)))


def encode_batch(channel: int, batch: Batch, *, compress: bool) -> Frame:
    """The DATA frame of a batch.

    Raises:
        ConnectorError: a record cannot be pickled, or is larger than a frame can be.
    """
    if batch.__class__ is TimedRows:
        assert isinstance(batch, TimedRows)
        raw, layout = _pickle(batch.rows) + _timestamp_bytes(batch.timestamps), Layout.TIMED_ROWS
    else:
        raw, layout = _pickle(batch), Layout.ROWS  # type: ignore[arg-type]
    size = len(raw)
    if size > FRAME_SIZE_MAX_BYTES:
        raise ConnectorError(
            f"{len(batch)} records make a frame of {size} bytes.",
            detail=f"The largest frame is {FRAME_SIZE_MAX_BYTES} bytes.",
            hint="Send a reference to the data (a path, a key) instead of the data.",
        )
    if compress and size >= COMPRESS_FROM_BYTES:
        stored: bytes = lz4.block.compress(raw, store_size=False)
        if len(stored) < size:
            return Frame(FrameKind.DATA, channel, stored, 0, len(batch), layout, Codec.LZ4, size)
    return Frame(FrameKind.DATA, channel, raw, 0, len(batch), layout, Codec.RAW, size)


def _timestamp_bytes(timestamps: Sequence[int]) -> bytes:
    """Eight bytes each, little endian, behind the pickled rows."""
    packed = array("q", timestamps)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def decode_batch(frame: Frame) -> Batch:
    """The batch in a DATA frame.

    Raises:
        ProtocolError: the payload does not decompress to what its header says, or is no batch.
    """
    payload = frame.payload
    try:
        if frame.codec == Codec.LZ4:
            payload = lz4.block.decompress(payload, uncompressed_size=frame.raw_size)
    except (lz4.block.LZ4BlockError, ValueError, OverflowError) as error:
        raise ProtocolError("A frame's payload is damaged.", detail=str(error)) from None
    if len(payload) != frame.raw_size or frame.layout not in (Layout.ROWS, Layout.TIMED_ROWS):
        raise _damaged(frame, len(payload))
    timestamps = None
    if frame.layout == Layout.TIMED_ROWS:
        begin = len(payload) - 8 * frame.records
        if begin < 0:
            raise _damaged(frame, len(payload))
        timestamps = array("q", bytes(payload[begin:]))
        if sys.byteorder == "big":
            timestamps.byteswap()
        payload = payload[:begin]
    rows: Rows = pickle.loads(payload)
    if len(rows) != frame.records:
        raise ProtocolError(
            "A frame does not hold the records it announces.",
            detail=f"{len(rows)} of {frame.records}.",
        )
    return rows if timestamps is None else TimedRows(rows, timestamps.tolist())


def _damaged(frame: Frame, size: int) -> ProtocolError:
    return ProtocolError(
        "A frame's payload is damaged.",
        detail=f"{size} bytes of layout {frame.layout} where {frame.raw_size} were announced.",
    )


def _pickle(rows: Rows) -> bytes:
    if not isinstance(rows, list):
        rows = list(rows)
    if _is_plain(rows[0]):
        # Without the memo, tuples of scalars take half the time and space (43 against 94 ns a record).
        # Instances would name their class in each record, so for them the memo pays.
        buffer = io.BytesIO()
        pickler = pickle.Pickler(buffer, protocol=5)
        pickler.fast = True
        try:
            pickler.dump(rows)
            return buffer.getvalue()
        except ValueError:
            pass  # a record in this batch contains itself: only the memo can write that
    try:
        return pickle.dumps(rows, protocol=5)
    except Exception as error:
        raise _unpicklable(rows, error) from error


def _is_plain(record: object) -> bool:
    kind = type(record)
    return kind in _SCALARS or (kind is tuple and all(type(item) in _SCALARS for item in record))  # type: ignore[attr-defined]


def _unpicklable(rows: Rows, error: Exception) -> Exception:
    for row in rows:
        try:
            pickle.dumps(row, protocol=5)
        except Exception as own:  # noqa: BLE001 - whatever a record's own pickling code raises
            return ConnectorError(
                f"A record of type {type(row).__name__} cannot be sent to another task: {own}",
                detail=f"{row!r:.200}",
                hint="Emit plain data: numbers, text, tuples, dataclasses of an importable module.",
            )
    return error


def encoded_size_of_one(batch: Batch) -> int:
    """The encoded size in bytes of the first record: an estimate for batches that are not encoded."""
    first = batch.rows[0] if isinstance(batch, TimedRows) else batch[0]
    try:
        return len(pickle.dumps(first, protocol=5))
    except Exception:  # noqa: BLE001 - records that stay in their process need not be picklable
        return 256
