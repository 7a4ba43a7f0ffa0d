"""Credits: never more than promised, never stuck."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.errors import ProtocolError
from zmflow.protocol.credits import GateCredits


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
