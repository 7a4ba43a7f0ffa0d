"""What hundreds of restarts leave in the tables of the data plane: nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest
import zmq

from zmflow.execution.batches import decode_batch
from zmflow.protocol.frames import Frame, FrameKind, encode_frames
from zmflow.protocol.messages import ChannelTarget, DataEndpoint
from zmflow.protocol.versions import local_versions
from zmflow.runtime.channels import InputChannel, Releases, RemoteChannel
from zmflow.runtime.frame_receiver import ChannelAddress
from zmflow.runtime.network import DataPlane
from zmflow.runtime.peer_connections import PeerConnections

WAIT_S = 20.0
PERMITS = 10


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.002)


class Workers:
    """Two data planes that send to each other; each attempt is a gate of one channel."""

    def __init__(self, directory: Path) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.failures: SimpleQueue[Exception] = SimpleQueue()
        self.planes = [self._plane(directory, name) for name in "ab"]

    def _plane(self, directory: Path, name: str) -> DataPlane:
        made = DataPlane(
            self.context,
            ipc=f"ipc://{directory}/{name}",
            bind_host="127.0.0.1",
            advertised_host="127.0.0.1",
            host_id="here",
            keys=None,
            exclusive=2,
            floating=8,
            on_failure=self.failures.put,
        )
        made.start()
        return made

    def gate(self, plane: DataPlane, attempt: str) -> SimpleQueue[Any]:
        """Deploy a consumer; its mailbox."""
        mailbox: SimpleQueue[Any] = SimpleQueue()
        plane.add_gate(attempt, 0, [InputChannel(0, 0, mailbox, (attempt, 0))])
        return mailbox

    def connect(self, sender: DataPlane, receiver: DataPlane, attempt: str, *, via: str) -> RemoteChannel:
        endpoint = receiver.endpoint
        if via == "tcp":
            endpoint = DataEndpoint("elsewhere", endpoint.ipc, endpoint.tcp)
        target = ChannelTarget(attempt, 0, 0, "a1-1", endpoint)
        return sender.connect(target, permits=PERMITS, compression="auto", on_lost=self._lost)

    def _lost(self, sentence: str) -> None:
        self.failures.put(RuntimeError(sentence))

    def tables(self) -> list[int]:
        """The sizes of everything that is kept per attempt, channel, connection or peer."""
        return [
            len(table)
            for plane in self.planes
            for sender, receiver in [(plane._sender, plane._receiver)]
            for table in (
                sender._connections,
                sender._by_socket,
                sender._unsent,
                receiver._gates,
                receiver._senders,
                receiver._waiting,
                receiver._granting,
                receiver._peers,
                range(receiver._waiting_count),
            )
        ]

    def empty(self) -> bool:
        return not any(self.tables())


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path)
    yield made
    for plane in made.planes:
        plane.stop()
    assert made.failures.empty(), made.failures.get()
    made.context.term()


@pytest.mark.parametrize("via", ["ipc", "tcp"])
def test_hundreds_of_restarts_leave_no_trace(workers: Workers, via: str) -> None:
    """Attempts end at any point: before their consumer is there, with frames waiting, in the middle."""
    chance = random.Random(7)
    for number in range(300):
        attempt = f"t/{number}"
        sender, receiver = workers.planes if number % 2 else workers.planes[::-1]
        deployed = chance.random() < 0.8
        early = chance.random() < 0.5
        if deployed and early:
            workers.gate(receiver, attempt)
        out = workers.connect(sender, receiver, attempt, via=via)
        for batch in range(chance.randrange(PERMITS)):
            out.send([batch])
        if deployed and not early:
            workers.gate(receiver, attempt)
        if chance.random() < 0.5:
            sender.drop_channels([out])
            receiver.drop_gate(attempt, 0)
        else:
            receiver.drop_gate(attempt, 0)
            sender.drop_channels([out])
    wait_until(workers.empty)


@pytest.mark.parametrize("via", ["ipc", "tcp"])
def test_a_task_that_finishes_loses_nothing_with_its_connection(workers: Workers, via: str) -> None:
    """After ``drain`` the channel is dropped at once; the consumer has every frame and the end, in order."""
    sender, receiver = workers.planes

    def produce(out: RemoteChannel) -> None:
        for batch in range(5):
            out.send([batch, "x" * 300_000])
        out.end()
        out.drain()
        sender.drop_channels([out])

    for number in range(40):
        attempt = f"t/{number}"
        mailbox = workers.gate(receiver, attempt)
        out = workers.connect(sender, receiver, attempt, via=via)
        producer = threading.Thread(target=produce, args=[out])
        producer.start()
        received = []
        while (item := mailbox.get(timeout=WAIT_S))[1].kind != FrameKind.END_OF_DATA:
            received.append(decode_batch(item[1])[0])
            Releases(mailbox).add(item[0])
        producer.join(WAIT_S)
        assert received == list(range(5))
        receiver.drop_gate(attempt, 0)
    wait_until(workers.empty)


def test_draining_waits_for_the_consumer(workers: Workers) -> None:
    """A task that has handed over everything is not finished before its last frame may leave."""
    sender, receiver = workers.planes
    out = workers.connect(sender, receiver, "t", via="ipc")
    out.send([1])
    out.end()
    wait_until(lambda: len(out.queue) == 2)
    assert out.permits._tokens.qsize() == PERMITS - 2
    workers.gate(receiver, "t")
    out.drain()
    assert not out.queue
    sender.drop_channels([out])
    receiver.drop_gate("t", 0)
    wait_until(workers.empty)


def test_a_channel_lives_while_others_of_its_connection_are_dropped(workers: Workers) -> None:
    """Regions restart beside each other over one connection."""
    sender, receiver = workers.planes
    mailbox = workers.gate(receiver, "stays")
    stays = workers.connect(sender, receiver, "stays", via="ipc")
    for number in range(100):
        other = workers.connect(sender, receiver, f"goes/{number}", via="ipc")
        other.send(["nobody reads this"])
        sender.drop_channels([other])
        stays.send([number])
        source, frame = mailbox.get(timeout=WAIT_S)
        assert decode_batch(frame) == [number]
        Releases(mailbox).add(source)
    assert len(sender._sender._connections) == 1
    wait_until(lambda: len(receiver._receiver._senders) == 1 and not receiver._receiver._waiting)
    sender.drop_channels([stays])
    receiver.drop_gate("stays", 0)
    wait_until(workers.empty)


@pytest.mark.parametrize("via", ["ipc", "tcp"])
def test_peers_that_are_killed_are_forgotten(workers: Workers, via: str) -> None:
    """They close nothing: the end of their connection is enough, whatever they had opened."""
    receiver = workers.planes[1]
    for number in range(100):
        if number % 2:
            workers.gate(receiver, f"t/{number}")
        socket = workers.context.socket(zmq.DEALER)
        socket.connect(getattr(receiver.endpoint, via))
        frames = [Frame(FrameKind.HELLO, 0, msgspec.msgpack.encode(local_versions()))]
        for channel, attempt in enumerate((f"t/{number}", "never deployed")):
            address = msgspec.msgpack.encode(ChannelAddress(attempt, 0, 0))
            frames.append(Frame(FrameKind.OPEN, channel + 1, address))
        socket.send(encode_frames(frames))
        if number % 3 == 0:
            wait_until(lambda: len(receiver._receiver._senders) > 0)
        socket.close()
        receiver.drop_gate(f"t/{number}", 0)
    wait_until(workers.empty)


def test_descriptors_are_reused() -> None:
    """A number that comes back belongs to another peer, also when the old one's last words come late."""
    peers = PeerConnections()
    peers.accepted(9)
    peers.closed(9)
    peers.heard(9, b"spoke and went")
    assert peers.take_departed() == [b"spoke and went"]
    peers.accepted(9)
    peers.heard(9, b"late words of the first")
    peers.heard(9, b"second")
    assert peers.take_departed() == [b"late words of the first"]
    assert len(peers) == 1
    peers.closed(9)
    assert (peers.take_departed(), len(peers)) == ([b"second"], 0)
