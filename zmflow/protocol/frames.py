"""Frames: what travels on the data plane, and how several of them share one message.

A *frame* is a batch of records or one event of one channel. All frames that are ready for a peer leave
in one ZeroMQ message of one part: sending and receiving each cost one call into ZeroMQ however many
frames there are, and each such call gives up the interpreter lock::

    count u32 | count x header | payloads, in the order of their headers

    header:  kind u8 | layout u8 | codec u8 | 0 u8 | channel u32 | backlog u32 | records u32
             | stored_size u32 | raw_size u32                                    (24 bytes, little endian)

``channel`` is a number the sender chose for this connection when it opened the channel. ``backlog`` is
how many more frames the sender has waiting for the channel. ``stored_size`` is the size of the payload in
this message, ``raw_size`` its size when decompressed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from zmflow.errors import ProtocolError

__all__ = [
    "FRAMES_PER_MESSAGE_MAX",
    "FRAME_SIZE_MAX_BYTES",
    "HEADER_SIZE_BYTES",
    "MESSAGE_TARGET_BYTES",
    "Codec",
    "Frame",
    "FrameKind",
    "Layout",
    "decode_frames",
    "encode_frames",
]

FRAME_SIZE_MAX_BYTES = 64 * 2**20
"""Largest payload of a frame, raw and stored. Frames close at the segment size (32 KiB), so only a single
record larger than that makes a larger frame; 64 MiB lets a picture or a model through and keeps what ten
credits can pin on a receiver below a gigabyte."""

FRAMES_PER_MESSAGE_MAX = 4096
"""Credits and channel openings are frames without payload; a worker with 4096 channels sends them in one
message. Data frames stop at MESSAGE_TARGET_BYTES long before."""

MESSAGE_TARGET_BYTES = 256 * 2**10
"""A message takes further frames until it holds this much: eight full frames. From there on the cost per
message is below a twentieth of the cost of copying it, and more would only pin more memory."""

_COUNT = struct.Struct("<I")
_HEADER = struct.Struct("<BBBxIIIII")
HEADER_SIZE_BYTES = _HEADER.size


class FrameKind(IntEnum):
    """What a frame is."""

    DATA = 1  # sender → receiver: a batch
    END_OF_DATA = 2  # sender → receiver: this channel ends; like DATA it costs a credit
    OPEN = 3  # sender → receiver: this channel number is that input channel
    CREDIT = 4  # receiver → sender: `records` more frames are welcome
    HELLO = 5  # sender → receiver, first on a connection: versions
    CLOSE = 6  # sender → receiver: nothing more will come on this channel number
    WATERMARK = 7  # sender → receiver: event time, 8 bytes; like DATA it costs a credit
    STREAM_STATUS = 8  # sender → receiver: idle or active, 1 byte; likewise
    BARRIER = 9  # sender → receiver: of a checkpoint, see ``checkpoints``; likewise
    OVERDRAFT = 10  # sender → receiver: `records` further frames come without credit, a barrier behind them


class Layout(IntEnum):
    """How the batch in a DATA frame is laid out."""

    NONE = 0
    ROWS = 1
    TIMED_ROWS = 2  # rows, and a timestamp for each


class Codec(IntEnum):
    """How the payload is stored."""

    RAW = 0
    LZ4 = 1


class Frame(NamedTuple):
    """One frame. ``payload`` is as stored; see ``codec`` and ``raw_size``."""

    kind: int
    channel: int
    payload: bytes | memoryview = b""
    backlog: int = 0
    records: int = 0
    layout: int = Layout.NONE
    codec: int = Codec.RAW
    raw_size: int = 0


def encode_frames(frames: Sequence[Frame]) -> bytes:
    """One message with these frames.

    >>> decode_frames(encode_frames([Frame(FrameKind.CREDIT, 7, records=2)]))[0].records
    2
    """
    pack = _HEADER.pack
    parts: list[bytes | memoryview] = [_COUNT.pack(len(frames))]
    for kind, channel, payload, backlog, records, layout, codec, raw_size in frames:
        parts.append(
            pack(kind, layout, codec, channel, backlog, records, len(payload), raw_size or len(payload))
        )
    parts += [frame[2] for frame in frames]
    return b"".join(parts)


_KINDS = frozenset(kind.value for kind in FrameKind)
_LAYOUTS = frozenset(layout.value for layout in Layout)
_CODECS = frozenset(codec.value for codec in Codec)


def decode_frames(data: bytes | memoryview) -> list[Frame]:
    """The frames of a message; payloads are views into ``data``.

    Nothing is allocated from a number in the message before it has been checked against what the message
    really holds and against the limits above.

    Raises:
        ProtocolError: says what does not fit.
    """
    view = memoryview(data)
    size = len(view)
    if size < 4:
        raise _malformed("it is shorter than its count of frames")
    (count,) = _COUNT.unpack_from(view)
    if count > FRAMES_PER_MESSAGE_MAX:
        raise _malformed(f"it claims {count} frames; at most {FRAMES_PER_MESSAGE_MAX} are allowed")
    position = 4 + count * HEADER_SIZE_BYTES
    if position > size:
        raise _malformed(f"it claims {count} frames and is too short for their headers")
    frames: list[Frame] = []
    for kind, layout, codec, channel, backlog, records, stored, raw in _HEADER.iter_unpack(view[4:position]):
        if kind not in _KINDS or layout not in _LAYOUTS or codec not in _CODECS:
            raise _malformed(f"unknown kind {kind}, layout {layout} or codec {codec}")
        if raw > FRAME_SIZE_MAX_BYTES or stored > size - position:
            raise _malformed(f"a frame of {stored} ({raw} raw) bytes does not fit")
        if codec == 0 and raw != stored:
            raise _malformed("a frame that is not compressed has two sizes")
        end = position + stored
        frames.append(Frame(kind, channel, view[position:end], backlog, records, layout, codec, raw))
        position = end
    if position != size:
        raise _malformed(f"{size - position} bytes belong to no frame")
    return frames


def _malformed(why: str) -> ProtocolError:
    return ProtocolError("A data-plane message is malformed.", detail=f"{why}.")
