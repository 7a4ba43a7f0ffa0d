"""The data plane on real sockets: two endpoints in one process, over ipc and tcp."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest
import zmq

from zmflow.errors import ProtocolError
from zmflow.execution.batches import decode_batch
from zmflow.protocol.checkpoints import CheckpointBarrier, decode_barrier
from zmflow.protocol.frames import Frame, FrameKind, encode_frames
from zmflow.protocol.messages import ChannelTarget, DataEndpoint
from zmflow.protocol.versions import Versions, local_versions
from zmflow.runtime.channels import (
    InputChannel,
    LocalChannel,
    Permits,
    Releases,
    RemoteChannel,
    TaskCanceledError,
)
from zmflow.runtime.frame_receiver import ChannelAddress
from zmflow.runtime.network import DataPlane
from zmflow.runtime.security import generate_keys

WAIT_S = 20.0


class Ends:
    """Two data planes and an input gate on the second."""

    def __init__(self, directory: Path, *, secured: bool = False) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.failures: SimpleQueue[Exception] = SimpleQueue()
        keys = generate_keys() if secured else None

        def plane(name: str) -> DataPlane:
            made = DataPlane(
                self.context,
                ipc=f"ipc://{directory}/{name}",
                bind_host="127.0.0.1",
                advertised_host="127.0.0.1",
                host_id="here",
                keys=keys,
                exclusive=2,
                floating=8,
                on_failure=self.failures.put,
            )
            made.start()
            return made

        self.a, self.b = plane("a"), plane("b")
        self.mailbox: SimpleQueue[Any] = SimpleQueue()
        self.lost: SimpleQueue[str] = SimpleQueue()

    def gate(self, channels: int = 1, attempt: str = "t") -> list[InputChannel]:
        made = [InputChannel(0, i, self.mailbox, (attempt, 0)) for i in range(channels)]
        self.b.add_gate(attempt, 0, made)
        return made

    def connect(self, *, via: str = "ipc", index: int = 0, compression: str = "auto") -> RemoteChannel:
        endpoint = self.b.endpoint
        if via == "tcp":
            endpoint = DataEndpoint("elsewhere", endpoint.ipc, endpoint.tcp)
        target = ChannelTarget("t", 0, index, "a1-1", endpoint)
        return self.a.connect(target, permits=10, compression=compression, on_lost=self.lost.put)

    def receive(self) -> tuple[Any, Any]:
        received: tuple[Any, Any] = self.mailbox.get(timeout=WAIT_S)
        return received


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    made = Ends(tmp_path)
    yield made
    made.a.stop()
    made.b.stop()
    made.context.term()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.002)


@pytest.mark.parametrize("via", ["ipc", "tcp"])
@pytest.mark.parametrize("compression", ["auto", "lz4", "none"])
def test_batches_arrive_in_order_and_whole(ends: Ends, via: str, compression: str) -> None:
    """Rows of any size arrive as they left; the end comes last."""
    (channel,) = ends.gate()
    out = ends.connect(via=via, compression=compression)
    batches = [[(i, "x" * (i % 700)) for i in range(n)] for n in (1, 5, 300, 2000)] * 5
    received = []
    for batch in batches:
        assert out.send(batch) > 0
        source, frame = ends.receive()
        assert source is channel
        received.append(decode_batch(frame))
        Releases(ends.mailbox).add(source)
    out.end()
    assert batches == received
    assert ends.receive()[1].kind == FrameKind.END_OF_DATA


def test_a_sender_stops_at_its_credits_and_goes_on_when_they_return(ends: Ends) -> None:
    """Unconsumed frames are bounded by exclusive + floating, waiting ones by the permits."""
    (channel,) = ends.gate()
    out = ends.connect()
    sent = 0
    while not out.permits._tokens.empty() or sent < 10:
        out.send([sent])
        sent += 1
        wait_until(lambda: not out.permits._tokens.empty() or len(out.queue) >= 10)
    wait_until(lambda: ends.mailbox.qsize() >= 2 + 8)
    assert ends.mailbox.qsize() == 2 + 8
    assert sent <= 10 + 10
    for expected in range(sent):
        source, frame = ends.receive()
        assert [expected] == decode_batch(frame)
        Releases(ends.mailbox).add(source)
    assert channel is source
    wait_until(lambda: not out.queue)


def test_frames_wait_for_a_task_that_is_not_deployed_yet(ends: Ends) -> None:
    """A channel opened before its gate exists gets credit when the gate comes."""
    out = ends.connect()
    out.send(["early"])
    assert ends.mailbox.empty()
    ends.gate()
    assert decode_batch(ends.receive()[1]) == ["early"]


def test_channels_share_one_connection_and_keep_apart(ends: Ends) -> None:
    """Many channels to one peer: each frame arrives on its own channel."""
    channels = ends.gate(channels=20)
    outs = [ends.connect(index=i) for i in range(20)]
    for i, out in enumerate(outs):
        out.send([i])
    seen = {}
    for _ in range(20):
        source, frame = ends.receive()
        seen[source.index] = decode_batch(frame)
    assert {i: [i] for i in range(20)} == seen
    assert channels[3].index == 3


def test_cancelling_wakes_a_blocked_sender() -> None:
    """A task that waits for a permit ends when it is cancelled, and stays cancelled."""
    permits = Permits(1)
    permits.take()
    permits.cancel()
    for _ in range(2):
        with pytest.raises(TaskCanceledError):
            permits.take()


def test_local_channels_hand_over_by_reference() -> None:
    """In one process the consumer gets the producer's list itself, and returns the permit."""
    mailbox: SimpleQueue[Any] = SimpleQueue()
    target = InputChannel(0, 0, mailbox, ("t", 0))
    out = LocalChannel(target, permits=1)
    rows = [1, 2]
    out.send(rows)
    source, received = mailbox.get()
    assert received is rows
    Releases(mailbox).add(source)
    out.send([3])


def dealer(ends: Ends) -> zmq.Socket[bytes]:
    socket = ends.context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVTIMEO, int(WAIT_S * 1000))
    socket.connect(ends.b.endpoint.ipc)
    return socket


def hello(versions: Versions) -> Frame:
    return Frame(FrameKind.HELLO, 0, msgspec.msgpack.encode(versions))


def opening(channel: int = 0) -> Frame:
    return Frame(FrameKind.OPEN, 1, msgspec.msgpack.encode(ChannelAddress("t", 0, channel)))


def test_another_version_is_refused_with_both_versions(ends: Ends) -> None:
    """A peer with another Python is told why; its channels never get credit."""
    ends.gate()
    ours = local_versions()
    socket = dealer(ends)
    socket.send(encode_frames([hello(msgspec.structs.replace(ours, python="2.7")), opening()]))
    answer = socket.recv()
    socket.close()
    assert b"2.7" in answer
    assert ours.python.encode() in answer


def test_a_refusal_reaches_the_sending_task(ends: Ends) -> None:
    """The sending side hears the sentence, with both versions, through ``on_lost``."""
    ends.gate()
    other = msgspec.structs.replace(local_versions(), protocol=99)
    ends.a._sender._hello = msgspec.msgpack.encode(other)
    out = ends.connect()
    out.send([1])
    sentence = ends.lost.get(timeout=WAIT_S)
    assert "protocol version 99" in sentence
    assert f"version {local_versions().protocol}" in sentence


@pytest.mark.parametrize(
    "message",
    [
        b"garbage",
        encode_frames([Frame(FrameKind.CREDIT, 1, records=1)]),
        encode_frames([Frame(FrameKind.HELLO, 0, b"\xff")]),
        encode_frames([hello(local_versions()), opening(channel=99)]),
        encode_frames([hello(local_versions()), Frame(FrameKind.OPEN, 1, b"\x00")]),
        encode_frames([hello(local_versions()), opening(), opening()]),
        encode_frames([hello(local_versions()), opening(), *[Frame(FrameKind.DATA, 1, b"x")] * 20]),
    ],
)
def test_a_peer_that_makes_no_sense_harms_nobody_else(ends: Ends, message: bytes) -> None:
    """The offender is refused; other peers' frames go on."""
    ends.gate(channels=2)
    socket = dealer(ends)
    socket.send(message)
    assert socket.recv()
    out = ends.connect(index=1)
    out.send(["fine"])
    while True:
        source, item = ends.receive()
        if source is not None and source.index == 1:
            break
        assert source is not None or isinstance(item, ProtocolError)
    assert decode_batch(item) == ["fine"]
    socket.close()


def test_with_keys_strangers_are_not_heard(tmp_path: Path) -> None:
    """CURVE: holders of the cluster's keys talk, others do not get a word in."""
    secured = Ends(tmp_path, secured=True)
    try:
        secured.gate()
        stranger = dealer(secured)
        stranger.send(encode_frames([hello(local_versions()), opening()]))
        out = secured.connect(via="tcp")
        out.send(["member"])
        assert decode_batch(secured.receive()[1]) == ["member"]
        assert stranger.poll(0) == 0
        stranger.close()
    finally:
        secured.a.stop()
        secured.b.stop()
        from zmflow.runtime.security import end_authentication

        end_authentication(secured.context)
        secured.context.term()


def test_a_thread_that_fails_says_so(ends: Ends) -> None:
    """What ends the network thread reaches the worker, which fails its tasks."""

    def broken() -> None:
        raise OSError("too many open files")

    ends.b._outbox.post(broken)
    assert "too many open files" in str(ends.failures.get(timeout=WAIT_S))


def test_what_is_pushed_leaves_without_credit_and_is_owed(ends: Ends) -> None:
    """A barrier behind more than the consumer has room for arrives, and so does what is before it; the room
    that was lent comes back when the consumer is done with as much."""
    ends.gate()
    out = ends.connect()
    barrier = CheckpointBarrier(1, 0)
    out.permits.lend()
    for number in range(40):
        out.send([number])
    out.send_event(barrier)
    out.push()
    out.permits.end_lending()
    for number in range(40):
        assert decode_batch(ends.receive()[1]) == [number]
    source, frame = ends.receive()
    assert (frame.kind, decode_barrier(frame.payload)) == (FrameKind.BARRIER, barrier)
    repaid: SimpleQueue[bool] = SimpleQueue()
    assert out.permits.owes(lambda: repaid.put(True))
    releases = Releases(ends.mailbox)
    for _ in range(41):
        releases.add(source)
    assert repaid.get(timeout=WAIT_S)
    for number in range(30):
        out.send([number])
        source, frame = ends.receive()
        assert decode_batch(frame) == [number]
        releases.add(source)
    assert ends.failures.empty()
