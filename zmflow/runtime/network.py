"""The data plane of a slot worker: one endpoint, one thread, all channels (design D2, D3).

The thread owns the sockets and the credit books; tasks reach it only through an ``Outbox`` and their own
mailboxes. High-water marks are off: credits bound what is in flight.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import msgspec
import zmq

from zmflow.errors import ProtocolError
from zmflow.protocol.frames import (
    FRAME_SIZE_MAX_BYTES,
    FRAMES_PER_MESSAGE_MAX,
    HEADER_SIZE_BYTES,
    MESSAGE_TARGET_BYTES,
    Frame,
)
from zmflow.protocol.messages import ChannelTarget, DataEndpoint
from zmflow.protocol.versions import local_versions
from zmflow.runtime.channels import InputChannel, Permits, RemoteChannel
from zmflow.runtime.frame_receiver import ChannelAddress, FrameReceiver
from zmflow.runtime.frame_sender import FrameSender
from zmflow.runtime.outbox import Outbox
from zmflow.runtime.security import CurveKeys, secure_client, secure_server
from zmflow.telemetry.logs import get_logger

__all__ = ["DataPlane"]

MESSAGE_SIZE_MAX_BYTES = (
    FRAME_SIZE_MAX_BYTES + MESSAGE_TARGET_BYTES + HEADER_SIZE_BYTES * FRAMES_PER_MESSAGE_MAX
)
"""A message that has nearly its target size may still take the largest frame. ZeroMQ drops the connection
of a peer that announces more, before it allocates anything."""

KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 6
"""A machine that vanished without closing its connections is forgotten after two minutes. Nothing waits for
that: the JobManager misses its TaskManager long before, and this only gives the memory back."""


class DataPlane:
    """The endpoint of this worker and the thread behind it.

    Args:
        context: the process's ZeroMQ context.
        ipc: endpoint for peers on this host.
        bind_host, advertised_host: where tcp listens, and what others dial.
        host_id: equal on two workers exactly when they share ipc.
        keys: CURVE keys, or None on loopback.
        exclusive, floating: credits per channel and per gate.
        on_failure: told what ended the thread, if anything but ``stop`` did.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        ipc: str,
        bind_host: str,
        advertised_host: str,
        host_id: str,
        keys: CurveKeys | None,
        exclusive: int,
        floating: int,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._on_failure = on_failure
        self._context = context
        self._keys = keys
        self._log = get_logger()
        self._outbox: Outbox[Callable[[], None] | None] = Outbox()
        self._router = self._socket(zmq.ROUTER)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._router.setsockopt(zmq.MAXMSGSIZE, MESSAGE_SIZE_MAX_BYTES)
        self._router.setsockopt(zmq.TCP_KEEPALIVE, 1)
        self._router.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
        self._router.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S)
        self._router.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES)
        self._monitor = self._router.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        secure_server(self._router, keys)
        self._router.bind(ipc)
        port = self._router.bind_to_random_port(f"tcp://{bind_host}")
        self.endpoint = DataEndpoint(host_id, ipc, f"tcp://{advertised_host}:{port}")
        versions = local_versions()
        self._poller = zmq.Poller()
        self._sender = FrameSender(self._dial, self._hang_up, versions)
        self._receiver = FrameReceiver(self._router, self._monitor, versions, exclusive, floating)
        self._channels_made = 0
        self._thread = threading.Thread(target=self._serve, name="zmflow-network", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the sockets; frames that have not left are dropped."""
        self._outbox.post(None)
        self._thread.join()
        self._outbox.close()

    # -- called by other threads -------------------------------------------------------------------

    def add_gate(self, attempt_id: str, gate: int, channels: Sequence[InputChannel]) -> None:
        """Receive for the channels of an input gate."""
        for channel in channels:
            channel.network = self
        self._outbox.post(lambda: self._receiver.add_gate((attempt_id, gate), channels))

    def drop_gate(self, attempt_id: str, gate: int) -> None:
        """The task has ended: forget its gate."""
        self._outbox.post(lambda: self._receiver.drop_gate((attempt_id, gate)))

    def connect(
        self, target: ChannelTarget, *, permits: int, compression: str, on_lost: Callable[[str], None]
    ) -> RemoteChannel:
        """The sending end of a channel to a task in another process.

        ``compression`` is auto, lz4 or none; auto compresses unless both ends are on one host.
        """
        same_host = target.endpoint.host_id == self.endpoint.host_id
        self._channels_made += 1
        address = ChannelAddress(target.attempt_id, target.gate_index, target.channel_index)
        channel = RemoteChannel(
            number=self._channels_made,
            network=self,
            compress=compression == "lz4" or (compression == "auto" and not same_host),
            permits=Permits(permits),
            open_payload=msgspec.msgpack.encode(address),
            on_lost=on_lost,
        )
        endpoint = target.endpoint.ipc if same_host else target.endpoint.tcp
        self._outbox.post(lambda: self._sender.open(channel, endpoint))
        return channel

    def drop_channels(self, channels: Sequence[RemoteChannel]) -> None:
        """The task has ended: forget its outputs, and what has not left of them."""
        self._outbox.post(lambda: self._sender.drop(channels))

    def transmit(self, channel: RemoteChannel, frame: Frame) -> None:
        """Queue a frame; called with a permit held."""
        self._outbox.post(lambda: self._sender.queue(channel, frame))

    def push(self, channel: RemoteChannel) -> None:
        """Send what is queued of a channel without waiting for credit."""
        self._outbox.post(lambda: self._sender.push(channel))

    def consumed(self, channels: Sequence[InputChannel]) -> None:
        """A frame of each of these channels was processed."""
        self._outbox.post(lambda: self._receiver.consumed(channels))

    # -- the thread --------------------------------------------------------------------------------

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        return socket

    def _dial(self, address: str) -> zmq.Socket[bytes]:
        socket = self._socket(zmq.DEALER)
        secure_client(socket, self._keys)
        socket.connect(address)
        self._poller.register(socket, zmq.POLLIN)
        return socket

    def _hang_up(self, socket: zmq.Socket[bytes], linger_ms: int) -> None:
        self._poller.unregister(socket)
        socket.close(linger_ms)

    def _serve(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - without this thread no task would ever hear of anything
            self._log.error("the data plane failed", why=repr(error))
            self._on_failure(error)
        finally:
            self._sender.close()
            self._router.disable_monitor()
            self._monitor.close(0)
            self._router.close()

    def _run(self) -> None:
        outbox, poller, router = self._outbox, self._poller, self._router
        sender, receiver = self._sender, self._receiver
        monitor = self._monitor
        poller.register(router, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        poller.register(outbox.wake_fd, zmq.POLLIN)
        running = True
        while running:
            events = poller.poll(None if outbox.prepare_to_sleep() else 0)
            outbox.awake(woken=any(socket == outbox.wake_fd for socket, _ in events))
            for command in outbox.drain():
                if command is None:
                    running = False
                    break
                command()
            for socket, _ in events:
                if socket is monitor:
                    receiver.watch_connections()
                if socket is router or socket is monitor:
                    for identity, error in receiver.receive():
                        self._log.error("a data-plane peer was refused", peer=identity.hex(), why=str(error))
                elif socket != outbox.wake_fd:
                    self._receive_credits(socket)
            receiver.flush()
            sender.flush()
            # Last, because whoever is woken wants the interpreter lock, which polling is about to give up.
            receiver.deliver()
            sender.give_permits()

    def _receive_credits(self, socket: zmq.Socket[bytes]) -> None:
        try:
            self._sender.receive(socket)
        except ProtocolError as error:
            self._log.error("a data-plane peer sent no credits but", why=str(error))
