"""What travels between records: how far event time is, and whether a stream has anything to say."""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias

from zmflow.errors import ProtocolError
from zmflow.protocol.frames import Frame, FrameKind

__all__ = ["TIME_EVENTS", "StreamStatus", "TimeEvent", "Watermark", "decode_time_event", "encode_time_event"]

_WATERMARK = struct.Struct("<q")


class Watermark(NamedTuple):
    """No record with a timestamp of this or less will come, apart from late ones. Milliseconds."""

    timestamp_ms: int


class StreamStatus(NamedTuple):
    """An idle stream does not hold event time back; one that is active again does."""

    idle: bool


TimeEvent: TypeAlias = Watermark | StreamStatus

TIME_EVENTS = frozenset((Watermark, StreamStatus))
"""Their classes, for who asks that of everything that comes."""


def encode_time_event(channel: int, event: TimeEvent) -> Frame:
    """The frame of an event.

    >>> decode_time_event(encode_time_event(7, Watermark(-1)))
    Watermark(timestamp_ms=-1)
    """
    if isinstance(event, Watermark):
        return Frame(FrameKind.WATERMARK, channel, _WATERMARK.pack(event.timestamp_ms))
    return Frame(FrameKind.STREAM_STATUS, channel, bytes((event.idle,)))


def decode_time_event(frame: Frame) -> TimeEvent:
    """The event in a frame.

    Raises:
        ProtocolError: the payload has not the size of one.
    """
    payload = bytes(frame.payload)
    if frame.kind == FrameKind.WATERMARK and len(payload) == _WATERMARK.size:
        return Watermark(*_WATERMARK.unpack(payload))
    if frame.kind == FrameKind.STREAM_STATUS and payload in (b"\0", b"\1"):
        return StreamStatus(payload == b"\1")
    raise ProtocolError("An event on the data plane is damaged.", detail=f"{len(payload)} bytes.")
