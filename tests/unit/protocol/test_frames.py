"""Frames: round trips, and what damaged bytes may do (nothing)."""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.errors import ProtocolError
from zmflow.protocol.frames import (
    FRAME_SIZE_MAX_BYTES,
    FRAMES_PER_MESSAGE_MAX,
    HEADER_SIZE_BYTES,
    Codec,
    Frame,
    FrameKind,
    Layout,
    decode_frames,
    encode_frames,
)

u32 = st.integers(0, 2**32 - 1)
frames = st.builds(
    Frame,
    kind=st.sampled_from(list(FrameKind)),
    channel=u32,
    payload=st.binary(max_size=50),
    backlog=u32,
    records=u32,
    layout=st.sampled_from(list(Layout)),
    codec=st.just(Codec.RAW),
    raw_size=st.just(0),
)


def as_bytes(frame: Frame) -> Frame:
    return frame._replace(payload=bytes(frame.payload), raw_size=len(frame.payload))


@settings(max_examples=500)
@given(st.lists(frames, max_size=8))
def test_frames_survive_the_wire(sent: list[Frame]) -> None:
    """What is decoded is what was encoded, in order."""
    assert [as_bytes(f) for f in sent] == [as_bytes(f) for f in decode_frames(encode_frames(sent))]


def test_golden_bytes() -> None:
    """The layout of version 1 does not change by accident."""
    message = encode_frames([Frame(FrameKind.DATA, 7, b"abc", 2, 1, Layout.ROWS, Codec.LZ4, 9)])
    assert message.hex() == "01000000010101000700000002000000010000000300000009000000616263"
    assert HEADER_SIZE_BYTES == 24


def decode_safely(data: bytes) -> None:
    try:
        decoded = decode_frames(data)
    except ProtocolError:
        return
    assert all(f.raw_size <= FRAME_SIZE_MAX_BYTES for f in decoded)
    assert sum(len(f.payload) for f in decoded) <= len(data)


def test_a_hundred_thousand_damaged_messages_are_refused_or_harmless() -> None:
    """Flipped, cut, extended and random messages: a ProtocolError or frames within the limits."""
    chance = random.Random(20)
    base = encode_frames(
        [Frame(FrameKind.DATA, 1, b"payload", 1, 2, Layout.ROWS), Frame(FrameKind.CREDIT, 2, records=3)] * 3
    )
    for _ in range(100_000):
        data = bytearray(base)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        cut = chance.random()
        if cut < 0.2:
            del data[chance.randrange(len(data)) :]
        elif cut < 0.3:
            data += chance.randbytes(5)
        elif cut < 0.4:
            data = bytearray(chance.randbytes(chance.randrange(80)))
        decode_safely(bytes(data))


@settings(max_examples=1000)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_harmless(data: bytes) -> None:
    """Bytes of any origin never raise anything but ProtocolError."""
    decode_safely(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x00\x00",
        struct.pack("<I", FRAMES_PER_MESSAGE_MAX + 1) + bytes(200_000),
        struct.pack("<I", 2**32 - 1),
        struct.pack("<IBBBxIIIII", 1, 1, 1, 1, 0, 0, 0, 0, FRAME_SIZE_MAX_BYTES + 1),
        struct.pack("<IBBBxIIIII", 1, 1, 1, 0, 0, 0, 0, 2**31, 2**31),
        struct.pack("<IBBBxIIIII", 1, 99, 1, 0, 0, 0, 0, 0, 0),
        struct.pack("<I", 0) + b"x",
    ],
)
def test_what_is_announced_is_checked_before_anything_is_allocated(data: bytes) -> None:
    """A message that claims more than it holds is refused at the cost of its own size."""
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decode_frames(data)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
