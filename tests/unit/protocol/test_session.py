"""Sessions: what is heard is a beginning of what was said, in order, whatever happens on the way."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmflow.errors import ProtocolError
from zmflow.protocol import session as module
from zmflow.protocol.messages import Heartbeat, encode_message
from zmflow.protocol.session import HANG_UP, SEQUENCE_MAX, Session, add_number, split_number


@given(st.integers(1, 30), st.data())
def test_what_is_heard_is_a_beginning_of_what_was_said(said: int, data: st.DataObject) -> None:
    """Lose, repeat and reorder at will: messages are heard once, in order, and none after a missing one."""
    sender, receiver = Session(), Session()
    numbers = [sender.stamp() for _ in range(said)]
    assert numbers == list(range(1, said + 1))
    arriving = data.draw(st.lists(st.sampled_from(numbers), max_size=60))
    heard: list[int] = []
    for number in arriving:
        expected = len(heard) + 1
        verdict = receiver.admit(number)
        if receiver.lost:
            assert verdict == "gap"
        else:
            assert verdict == ("next" if number == expected else "repeated")
        if verdict == "next":
            heard.append(number)
    assert heard == numbers[: receiver.heard]
    skipped = next((i for i, n in enumerate(arriving) if n > max(arriving[:i], default=0) + 1), None)
    assert receiver.lost == (skipped is not None)


@given(st.integers(0, 40), st.integers(0, 3))
def test_undisturbed_conversations_are_heard_whole(messages: int, repetitions: int) -> None:
    """Nothing is lost where nothing was; repeating everything changes nothing."""
    receiver = Session()
    verdicts = [receiver.admit(n) for n in range(1, messages + 1) for _ in range(repetitions + 1)]
    assert verdicts == (["next"] + ["repeated"] * repetitions) * messages
    assert (receiver.heard, receiver.lost) == (messages, False)


def test_first_message_has_number_one() -> None:
    """A connection that was dialled again in the middle of a conversation is noticed at its first message."""
    assert Session().admit(2) == "gap"
    assert Session().admit(0) == "repeated"


def test_missing_message_that_comes_late_is_not_heard() -> None:
    """After a gap the connection is lost for good."""
    session = Session()
    assert [session.admit(n) for n in (1, 3, 2, 3, 4)] == ["next", "gap", "gap", "gap", "gap"]
    assert session.heard == 1


def test_hanging_up_is_a_gap_at_the_other_end() -> None:
    """What an end says that gives up ends the conversation there too, at any point of it."""
    number, message = split_number(HANG_UP)
    assert (number, message) == (SEQUENCE_MAX, b"")
    late = Session()
    late.heard = SEQUENCE_MAX - 2
    assert (Session().admit(number), late.admit(number)) == ("gap", "gap")


@given(st.integers(0, SEQUENCE_MAX), st.binary(max_size=50))
def test_numbers_survive_the_way(number: int, message: bytes) -> None:
    """What was numbered is split into the same parts, from bytes and from views of them."""
    data = add_number(number, message)
    assert split_number(data) == split_number(memoryview(data)) == (number, message)


def test_number_is_eight_bytes_big_endian() -> None:
    """The form on the wire is part of the protocol."""
    assert add_number(258, b"m") == b"\0\0\0\0\0\0\1\2m"


@given(st.binary(max_size=80))
def test_any_bytes_are_split_or_refused(data: bytes) -> None:
    """Whatever arrives is a number and a message, or one error of ours."""
    try:
        number, message = split_number(data)
    except ProtocolError as error:
        assert error.detail
        assert len(data) < 8 or data[0]
    else:
        assert struct.pack(">Q", number) + message == data


def test_messages_without_a_number_are_told_apart() -> None:
    """A message of a peer that does not number is refused in words, as too short ones are."""
    with pytest.raises(ProtocolError, match="no number") as caught:
        split_number(encode_message(Heartbeat(1, "taskmanager")))
    assert "protocol version 1" in str(caught.value)
    for size in range(8):
        with pytest.raises(ProtocolError, match=f"It has {size} bytes"):
            split_number(bytes(size))


def test_size_is_checked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the largest message with its number is refused unread."""
    monkeypatch.setattr(module, "NUMBERED_SIZE_MAX_BYTES", 18)
    assert split_number(bytes(18)) == (0, bytes(10))
    with pytest.raises(ProtocolError, match="19 bytes; the limit is 18"):
        split_number(bytes(19))
