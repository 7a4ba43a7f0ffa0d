"""Credits: never more than promised, never stuck."""

from __future__ import annotations

import random
from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.errors import ProtocolError
from zmflow.protocol.credits import OVERDRAFT_MAX, CreditBalance, GateCredits


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(0, 8),
    st.integers(1, 5),
    st.lists(st.integers(0, 30), min_size=5, max_size=5),
    st.randoms(use_true_random=False),
)
def test_every_frame_arrives_and_the_gate_never_holds_more_than_its_credits(
    exclusive: int, floating: int, channels: int, to_send: list[int], chance: object
) -> None:
    """Any backlog, any pace of consuming: all frames pass, within channels x exclusive + floating."""
    gate: GateCredits[int] = GateCredits(exclusive, floating)
    credit: Counter[int] = Counter()
    left = dict(enumerate(to_send[:channels]))
    held: deque[int] = deque()

    def take(grants: list[tuple[int, int]]) -> None:
        for channel, count in grants:
            credit[channel] += count
        gate.check()
        assert sum(credit.values()) + len(held) <= channels * exclusive + floating

    for channel in range(channels):
        take(gate.opened(channel))
    moved = 0
    while any(left.values()) or held:
        ready = [c for c in left if left[c] and credit[c]]
        assert ready or held, "frames wait, nothing is held, and nobody has credit"
        if ready and (not held or chance.random() < 0.5):  # type: ignore[attr-defined]
            channel = chance.choice(ready)  # type: ignore[attr-defined]
            left[channel] -= 1
            credit[channel] -= 1
            held.append(channel)
            take(gate.received(channel, left[channel]))
        else:
            take(gate.consumed(held.popleft()))
        moved += 1
    assert 2 * sum(to_send[:channels]) == moved


def test_floating_credits_follow_the_backlog() -> None:
    """A channel with a backlog gets the gate's floating credits, an idle one keeps its own."""
    gate: GateCredits[str] = GateCredits(2, 8)
    assert gate.opened("busy") == [("busy", 2)]
    assert gate.opened("idle") == [("idle", 2)]
    assert gate.received("busy", 50) == [("busy", 8)]
    gate.check()


def test_a_frame_without_credit_is_an_error() -> None:
    """A sender that ignores credits breaks the protocol."""
    gate: GateCredits[int] = GateCredits(1, 0)
    gate.opened(0)
    gate.received(0, 5)
    with pytest.raises(ProtocolError, match="without a credit"):
        gate.received(0, 4)


@given(st.integers(1, 3), st.integers(0, 4), st.integers(1, 8), st.integers(0, 1 << 32))
def test_what_is_pushed_comes_without_credit_and_takes_no_more_room(
    exclusive: int, floating: int, queued_max: int, seed: int
) -> None:
    """Frames leave in order, pushed or not; a sender that fills its queue only as room comes back never has
    more with the receiver and in its queue than credits and queue hold."""
    chance = random.Random(seed)
    gate: GateCredits[int] = GateCredits(exclusive, floating)
    balance = CreditBalance()
    room, queued, held, sent, consumed = queued_max, 0, 0, 0, 0

    def grant(grants: list[tuple[int, int]]) -> int:
        return sum(balance.granted(credit) for _, credit in grants)

    room += grant(gate.opened(0))
    while consumed < 60:
        gate.check()
        draw = chance.random()
        if room and sent < 60 and draw < 0.4:
            room, queued, sent = room - 1, queued + 1, sent + 1
        elif draw < 0.5:
            waiting = queued - max(0, balance.available)
            if waiting > 0:
                gate.announced(0, waiting)
                while queued:
                    queued -= 1
                    room += balance.spend()
                    held += 1
                    room += grant(gate.received(0, queued))
        elif queued and balance.available > 0 and draw < 0.8:
            queued -= 1
            room += balance.spend()
            held += 1
            room += grant(gate.received(0, queued))
        elif held:
            held, consumed = held - 1, consumed + 1
            room += grant(gate.consumed(0))
        assert queued + held <= exclusive + floating + queued_max
    assert (queued, held, room) == (0, 0, queued_max)


def test_nobody_may_owe_more_than_a_queue_holds() -> None:
    """A peer that announces without end is refused before anything is received."""
    gate: GateCredits[int] = GateCredits(1, 0)
    gate.opened(0)
    with pytest.raises(ProtocolError, match="without credit"):
        gate.announced(0, OVERDRAFT_MAX + 1)
