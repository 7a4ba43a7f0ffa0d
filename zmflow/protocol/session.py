"""Sessions: the messages of a connection arrive in order and none is missing, or the connection is lost.

The brains rely on that: a leader that has heard "the task runs" and not "the slot is lost" acts on half a
conversation. ZeroMQ alone does not give it. It dials again by itself when a connection breaks, what was under
way is gone, and neither end need notice. So each end numbers what it sends on a connection, 1, 2, 3 and so
on, and the receiver compares. A number that comes again is a repetition and is dropped; a number that is
skipped means that something is missing, and that cannot be mended: the connection is given up, and its
parties begin anew with a handshake.

On the wire the number stands before the message, as eight bytes, big-endian. The first of them is always 0,
which no message begins with, so a peer that does not number is told from one that does.
"""

from __future__ import annotations

import struct
from typing import Literal, TypeAlias

from zmflow.errors import ProtocolError
from zmflow.protocol.messages import MESSAGE_SIZE_MAX_BYTES

__all__ = [
    "HANG_UP",
    "NUMBERED_SIZE_MAX_BYTES",
    "SEQUENCE_MAX",
    "Session",
    "Verdict",
    "add_number",
    "split_number",
]

Verdict: TypeAlias = Literal["next", "repeated", "gap"]

SEQUENCE_MAX = 2**56 - 1
"""The last number, whose first byte is 0. A million messages a second reach it after two thousand years."""

_NUMBER = struct.Struct(">Q")

NUMBERED_SIZE_MAX_BYTES = _NUMBER.size + MESSAGE_SIZE_MAX_BYTES
"""Largest message with its number."""

HANG_UP = _NUMBER.pack(SEQUENCE_MAX)
"""What an end says that gives a connection up: a number nobody expects. The other end finds a gap, so the
conversation is over there too; the message without content behind it is never looked at."""


class Session:
    """One end of a connection: numbers what it says, judges what it hears.

    >>> session = Session()
    >>> session.stamp(), session.stamp()
    (1, 2)
    >>> session.admit(1), session.admit(2), session.admit(2), session.admit(4), session.admit(3)
    ('next', 'next', 'repeated', 'gap', 'gap')
    """

    __slots__ = ("heard", "lost", "sent")

    def __init__(self) -> None:
        self.sent = 0
        """Number of the last message that was stamped."""
        self.heard = 0
        """Number of the last message that was admitted."""
        self.lost = False
        """Whether there was a gap. Nothing is admitted after one, not even the missing message, late."""

    def stamp(self) -> int:
        """The number of the next message to send. One that is not sent after all leaves a gap."""
        self.sent += 1
        return self.sent

    def admit(self, sequence: int) -> Verdict:
        """Whether to hear the message of this number (``next``), drop it, or give the connection up."""
        if self.lost or sequence > self.heard + 1:
            self.lost = True
            return "gap"
        if sequence <= self.heard:
            return "repeated"
        self.heard = sequence
        return "next"


def add_number(sequence: int, message: bytes) -> bytes:
    """The message as it travels.

    >>> split_number(add_number(7, b"message"))
    (7, b'message')
    """
    return _NUMBER.pack(sequence) + message


def split_number(data: bytes | memoryview) -> tuple[int, bytes]:
    """The number and the message in what arrived. Its size is checked before anything of it is kept.

    Raises:
        ProtocolError: too short for a number, too large, or not numbered.
    """
    size = len(data)
    if size < _NUMBER.size:
        raise ProtocolError("A control message has no number.", detail=f"It has {size} bytes.")
    if size > NUMBERED_SIZE_MAX_BYTES:
        raise ProtocolError(
            "A control message is larger than the protocol allows.",
            detail=f"{size} bytes; the limit is {NUMBERED_SIZE_MAX_BYTES}.",
        )
    if data[0]:
        raise ProtocolError(
            "A control message has no number.",
            detail=f"It begins with the byte {data[0]:#04x}; peers of protocol version 1 do not number.",
            hint="Install the same zmflow release on both sides.",
        )
    (sequence,) = _NUMBER.unpack_from(data)
    return sequence, bytes(data[_NUMBER.size :])
