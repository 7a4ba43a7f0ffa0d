"""How watermarks of several inputs become one: examples of each rule, and a naive model."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.execution.stream_operator import MAX_WATERMARK, MIN_WATERMARK
from zmflow.execution.time_events import StreamStatus, TimeEvent, Watermark
from zmflow.execution.watermark_valve import GateValves, WatermarkValve

IDLE, ACTIVE = StreamStatus(idle=True), StreamStatus(idle=False)


def test_the_slowest_channel_decides() -> None:
    """Nothing goes out before every channel has said something; then the least of them."""
    valve = WatermarkValve(3)
    assert valve.watermark(0, 10) == []
    assert valve.watermark(1, 20) == []
    assert valve.watermark(2, 5) == [Watermark(5)]
    assert valve.watermark(2, 15) == [Watermark(10)]
    assert valve.watermark(0, 30) == [Watermark(15)]


def test_a_watermark_never_goes_back() -> None:
    """What is not above the channel's last watermark is ignored."""
    valve = WatermarkValve(1)
    assert valve.watermark(0, 10) == [Watermark(10)]
    assert valve.watermark(0, 10) == []
    assert valve.watermark(0, 3) == []
    assert valve.watermark_ms == 10


def test_an_idle_channel_does_not_hold_back() -> None:
    """The channel that holds the minimum goes idle: the next one decides. Its watermarks are ignored."""
    valve = WatermarkValve(2)
    valve.watermark(0, 10)
    valve.watermark(1, 5)
    assert valve.status(1, idle=True) == [Watermark(10)]
    assert valve.watermark(1, 50) == []
    assert valve.watermark(0, 12) == [Watermark(12)]


def test_a_channel_behind_must_catch_up() -> None:
    """A channel that is active again counts as soon as it is not behind what was said without it."""
    valve = WatermarkValve(2)
    valve.watermark(0, 10)
    valve.watermark(1, 5)
    valve.status(1, idle=True)
    assert valve.status(1, idle=False) == []
    assert valve.watermark(0, 20) == [Watermark(20)]
    assert valve.watermark(1, 15) == []
    assert valve.watermark(0, 30) == [Watermark(30)]
    assert valve.watermark(1, 30) == []
    assert valve.watermark(0, 40) == []
    assert valve.watermark(1, 35) == [Watermark(35)]


def test_a_channel_that_is_not_behind_counts_at_once() -> None:
    """After a short pause a channel with a watermark above the output takes part again immediately."""
    valve = WatermarkValve(2)
    valve.watermark(0, 10)
    valve.watermark(1, 50)
    valve.status(1, idle=True)
    valve.status(1, idle=False)
    assert valve.watermark(0, 70) == [Watermark(50)]


def test_all_idle_says_what_was_reached() -> None:
    """The last active channel held the others back: their maximum goes out before the status."""
    valve = WatermarkValve(2)
    valve.watermark(0, 30)
    valve.watermark(1, 10)
    assert valve.status(0, idle=True) == []
    assert valve.status(1, idle=True) == [Watermark(30), IDLE]
    assert valve.status(1, idle=False) == [ACTIVE]
    assert valve.status(1, idle=False) == []


def test_the_last_active_one_that_was_catching_up_reveals_nothing() -> None:
    """A channel behind the output did not hold anything back when it goes idle: only the status follows."""
    valve = WatermarkValve(2)
    valve.watermark(0, 30)
    valve.watermark(1, 10)
    valve.status(1, idle=True)
    valve.status(1, idle=False)
    assert valve.status(0, idle=True) == []
    assert valve.status(1, idle=True) == [IDLE]


def test_a_finished_and_an_idle_channel_do_not_end_event_time() -> None:
    """FLINK-38477: one input ends, the other is quiet and then goes on; its windows must still be open."""
    valve = WatermarkValve(2)
    valve.watermark(0, 10)
    valve.watermark(1, 10)
    assert valve.watermark(0, MAX_WATERMARK) == []
    assert valve.status(1, idle=True) == [IDLE]
    assert valve.watermark_ms == 10
    assert valve.status(1, idle=False) == [ACTIVE]
    assert valve.watermark(1, 11) == [Watermark(11)]
    assert valve.watermark(1, MAX_WATERMARK) == [Watermark(MAX_WATERMARK)]


def test_the_last_active_one_finishes_while_others_are_idle() -> None:
    """The other half of that trap: what finishes leaves the comparison instead of winning it."""
    valve = WatermarkValve(2)
    valve.watermark(0, 30)
    valve.watermark(1, 10)
    valve.status(0, idle=True)
    assert valve.watermark(1, MAX_WATERMARK) == [Watermark(30), IDLE]
    assert valve.status(0, idle=False) == [ACTIVE]


def test_event_time_ends_when_all_have_finished() -> None:
    """The end passes an idle valve too, which is active first: others ignore watermarks of idle inputs."""
    valve = WatermarkValve(2)
    valve.watermark(0, 10)
    valve.watermark(1, 10)
    valve.finished(0)
    valve.status(1, idle=True)
    assert valve.finished(1) == [ACTIVE, Watermark(MAX_WATERMARK)]
    assert valve.is_finished


def test_nothing_follows_the_end_of_a_channel() -> None:
    """A finished channel finishes once; what it says later is ignored."""
    valve = WatermarkValve(2)
    valve.finished(0)
    assert valve.finished(0) == []
    assert valve.status(0, idle=True) == []
    assert valve.status(0, idle=False) == []
    assert valve.watermark(0, 5) == []
    assert valve.watermark(1, 5) == [Watermark(5)]


def test_the_slowest_gate_decides() -> None:
    """Of two gates the one that is behind decides; one that is idle or has finished does not."""
    valves = GateValves([2, 1])
    assert valves.watermark(1, 0, 7) == []
    assert valves.watermark(0, 0, 5) == []
    assert valves.watermark(0, 1, 6) == [Watermark(5)]
    assert valves.status(0, 0, idle=True) == [Watermark(6)]
    assert valves.status(0, 1, idle=True) == [Watermark(7)]
    assert valves.status(0, 1, idle=False) == []
    assert valves.watermark(1, 0, 20) == []
    assert valves.finished(0, 0) == []
    assert valves.finished(0, 1) == [Watermark(20)]


def test_a_finished_gate_and_an_idle_one_do_not_end_event_time() -> None:
    """The trap again, between gates: the idle gate goes on later."""
    valves = GateValves([1, 1])
    valves.watermark(0, 0, 5)
    valves.watermark(1, 0, 5)
    assert valves.finished(0, 0) == []
    assert valves.status(1, 0, idle=True) == [IDLE]
    assert valves.status(1, 0, idle=False) == [ACTIVE]
    assert valves.watermark(1, 0, 6) == [Watermark(6)]
    assert valves.finished(1, 0) == [Watermark(MAX_WATERMARK)]


def test_one_gate_speaks_for_itself() -> None:
    """With a single gate the events are the gate's, and the state can be asked for."""
    valves = GateValves([1])
    assert valves.watermark(0, 0, 5) == [Watermark(5)]
    assert valves.status(0, 0, idle=True) == [IDLE]
    assert (valves.watermark_ms, valves.idle) == (5, True)


# -- against a model ---------------------------------------------------------------------------------


@dataclass
class ModelChannel:
    """What the model knows of a channel."""

    watermark: int = MIN_WATERMARK
    status: str = "active"
    aligned: bool = True


class ModelValve:
    """The rules, each worked out from scratch for every event."""

    def __init__(self, channels: int) -> None:
        self.channels = [ModelChannel() for _ in range(channels)]
        self.said = MIN_WATERMARK
        self.idle = False

    def with_status(self, status: str) -> list[ModelChannel]:
        return [channel for channel in self.channels if channel.status == status]

    def event(self, kind: str, index: int, value: int) -> list[TimeEvent]:
        """What follows from an event."""
        channel = self.channels[index]
        before = self.said
        held = channel.status == "active" and channel.watermark == before
        if kind == "watermark" and channel.status == "active" and value > channel.watermark:
            channel.watermark = value
            channel.aligned = channel.aligned or value >= self.said
        elif kind == "idle" and channel.status == "active":
            channel.status, channel.aligned = "idle", False
        elif kind == "active" and channel.status == "idle":
            channel.status, channel.aligned = "active", channel.watermark >= self.said
        elif kind == "finished" and channel.status != "finished":
            channel.status, channel.aligned = "finished", False
        else:
            return []
        return self._outcome(kind, held)

    def _outcome(self, kind: str, held: bool) -> list[TimeEvent]:
        active, idle = self.with_status("active"), self.with_status("idle")
        aligned = [channel.watermark for channel in active if channel.aligned]
        reached = self.said
        if not active and not idle:
            reached = MAX_WATERMARK
        elif not active and held:
            reached = max(channel.watermark for channel in idle)
        elif aligned and kind != "active":
            reached = min(aligned)
        events: list[TimeEvent] = []
        now_idle = not active and bool(idle)
        if self.idle and not now_idle:
            events.append(ACTIVE)
        if reached > self.said:
            self.said = reached
            events.append(Watermark(reached))
        if now_idle and not self.idle:
            events.append(IDLE)
        self.idle = now_idle
        return events


KINDS = st.sampled_from(["watermark"] * 4 + ["idle", "active", "active", "finished"])


@settings(max_examples=400, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda channels: st.tuples(
            st.just(channels),
            st.lists(
                st.tuples(KINDS, st.integers(0, channels - 1), st.integers(-5, 40)), min_size=1, max_size=60
            ),
        )
    )
)
def test_a_valve_does_what_the_rules_say(case: tuple[int, list[tuple[str, int, int]]]) -> None:
    """Any sequence of events has the outcome of the naive model, and never ends event time early."""
    channels, events = case
    valve, model = WatermarkValve(channels), ModelValve(channels)
    passed: list[TimeEvent] = []
    for kind, channel, value in events:
        if kind == "watermark":
            answer = valve.watermark(channel, value)
        elif kind == "finished":
            answer = valve.finished(channel)
        else:
            answer = valve.status(channel, idle=kind == "idle")
        assert answer == model.event(kind, channel, value)
        passed += answer
        ended = all(state.status == "finished" for state in model.channels)
        assert (valve.watermark_ms == MAX_WATERMARK) is ended
    watermarks = [event.timestamp_ms for event in passed if isinstance(event, Watermark)]
    assert watermarks == sorted(set(watermarks))
    statuses = [event.idle for event in passed if isinstance(event, StreamStatus)]
    assert statuses == [number % 2 == 0 for number in range(len(statuses))]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(KINDS, st.integers(0, 2), st.integers(0, 1), st.integers(-5, 40)), min_size=1, max_size=60
    )
)
def test_gates_combine_what_their_valves_say(events: list[tuple[str, int, int, int]]) -> None:
    """The task's watermark is the least of the active gates', which each follow the rules of a valve."""
    valves, models = GateValves([2, 1, 2]), [ModelValve(2), ModelValve(1), ModelValve(2)]
    said, idle = MIN_WATERMARK, False
    for kind, gate, channel, value in events:
        channel = channel if gate != 1 else 0
        models[gate].event(kind, channel, value)
        if kind == "watermark":
            answer = valves.watermark(gate, channel, value)
        elif kind == "finished":
            answer = valves.finished(gate, channel)
        else:
            answer = valves.status(gate, channel, idle=kind == "idle")
        unfinished = [model for model in models if model.said < MAX_WATERMARK]
        active = [model.said for model in unfinished if not model.idle]
        reached = min(active) if active else said if unfinished else MAX_WATERMARK
        expected: list[TimeEvent] = []
        now_idle = bool(unfinished) and not active
        expected += [ACTIVE] if idle and not now_idle else []
        expected += [Watermark(reached)] if reached > said else []
        expected += [IDLE] if now_idle and not idle else []
        said, idle = max(said, reached), now_idle
        assert answer == expected


def test_many_channels_keep_little() -> None:
    """A channel that stands still does not let what the others said pile up."""
    valve = WatermarkValve(10)
    for watermark in range(1000):
        for channel in range(1, 10):
            assert valve.watermark(channel, watermark) == []
    assert len(valve._minima) <= 20
    assert valve.watermark(0, 500) == [Watermark(500)]
