"""The data plane alone: frames that are already encoded, between two worker processes, over ipc and tcp.

Sockets, credits, the network threads and the hand-over to a task are those of a job; encoding, compression
and user code are left out. Beside it, the same bytes over a bare pair of ZeroMQ sockets.

Run as a program it is one variant: ``ipc``, ``tcp``, ``bare-ipc`` or ``bare-tcp``, with the number of frames.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from benchmarks.results import BenchmarkResult, at_least, figure
from benchmarks.rounds import run_rounds
from zmflow.config import Settings
from zmflow.config.options import (
    BUFFERS_PER_CHANNEL,
    FLOATING_BUFFERS_PER_GATE,
    FLOATING_BUFFERS_PER_PARTITION,
    MAX_BUFFERS_PER_CHANNEL,
)

__all__ = ["NAME", "measure"]

NAME = "shuffle"

FRAME_SIZE_BYTES = 32 * 1024
FRAMES = 65_536
FRAMES_QUICK = 8_192
CHANNELS = 2
"""As many as a task has to one process at parallelism 2 with two producers."""

DEFAULTS = Settings()
"""Credits and frames that may wait are those of a job."""


def plane(directory: str, name: str, host_id: str) -> Any:
    """A data plane of a worker on this machine."""
    import zmq

    from zmflow.runtime.network import DataPlane
    from zmflow.runtime.worker import SWITCH_INTERVAL_S

    sys.setswitchinterval(SWITCH_INTERVAL_S)
    made = DataPlane(
        zmq.Context.instance(),
        ipc=f"ipc://{directory}/{name}",
        bind_host="127.0.0.1",
        advertised_host="127.0.0.1",
        host_id=host_id,
        keys=None,
        exclusive=DEFAULTS[BUFFERS_PER_CHANNEL],
        floating=DEFAULTS[FLOATING_BUFFERS_PER_GATE],
        on_failure=print,
    )
    made.start()
    return made


def receive(directory: str, parent: Connection) -> None:
    """The receiving process: a gate of some channels, and a task that takes frames and frees them."""
    from zmflow.protocol.frames import Frame, FrameKind
    from zmflow.runtime.channels import InputChannel, Releases

    mailbox: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
    gate = [InputChannel(0, index, mailbox, ("receiver", 0)) for index in range(CHANNELS)]
    data_plane = plane(directory, "receiver", "receiver")
    data_plane.add_gate("receiver", 0, gate)
    parent.send(data_plane.endpoint)
    frames = size = first_ns = last_ns = 0
    open_channels = CHANNELS
    releases = Releases(mailbox)
    while open_channels:
        channel, frame = mailbox.get()
        assert isinstance(frame, Frame)
        if frame.kind == FrameKind.END_OF_DATA:
            open_channels -= 1
        else:
            first_ns = first_ns or time.monotonic_ns()
            assert frame.payload[0] == channel.index
            frames += 1
            size += len(frame.payload)
        releases.add(channel)
        last_ns = time.monotonic_ns()
    parent.send({"steady_s": (last_ns - first_ns) / 1e9, "frames": frames, "bytes": size})
    data_plane.stop()


def through_data_plane(transport: str, frames: int) -> dict[str, float]:
    """Send frames from this process to another one, in turn over the channels."""
    from zmflow.protocol.frames import Frame, FrameKind, Layout
    from zmflow.protocol.messages import ChannelTarget

    with tempfile.TemporaryDirectory() as directory:
        ours, theirs = multiprocessing.Pipe()
        receiver = multiprocessing.get_context("spawn").Process(target=receive, args=(directory, theirs))
        receiver.start()
        endpoint = ours.recv()
        # Workers of one host use ipc; a sender that says it is elsewhere uses tcp.
        data_plane = plane(directory, "sender", "receiver" if transport == "ipc" else "elsewhere")
        permits = DEFAULTS[MAX_BUFFERS_PER_CHANNEL] + DEFAULTS[FLOATING_BUFFERS_PER_PARTITION] // CHANNELS
        channels = [
            data_plane.connect(
                ChannelTarget("receiver", 0, index, "", endpoint),
                permits=permits,
                compression="none",
                on_lost=print,
            )
            for index in range(CHANNELS)
        ]
        payloads = [bytes([index]) + os.urandom(FRAME_SIZE_BYTES - 1) for index in range(CHANNELS)]
        for number in range(frames):
            channel = channels[number % CHANNELS]
            payload = payloads[number % CHANNELS]
            channel.send_frame(Frame(FrameKind.DATA, channel.number, payload, records=1, layout=Layout.ROWS))
        for channel in channels:
            channel.end()
        said: dict[str, float] = ours.recv()
        receiver.join()
        data_plane.stop()
    return said


def receive_bare(address: str, frames: int, parent: Connection) -> None:
    """The receiving process of the bare pair."""
    import zmq

    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
    socket.bind(address)
    parent.send(socket.getsockopt_string(zmq.LAST_ENDPOINT))
    size = len(socket.recv(copy=False))
    first_ns = time.monotonic_ns()
    for _ in range(frames - 1):
        size += len(socket.recv(copy=False))
    parent.send({"steady_s": (time.monotonic_ns() - first_ns) / 1e9, "frames": frames, "bytes": size})
    socket.close()


def through_bare_sockets(transport: str, frames: int) -> dict[str, float]:
    """The same bytes over PUSH and PULL with their default high-water marks."""
    import zmq

    with tempfile.TemporaryDirectory() as directory:
        address = f"ipc://{directory}/bare" if transport == "ipc" else "tcp://127.0.0.1:*"
        ours, theirs = multiprocessing.Pipe()
        receiver = multiprocessing.get_context("spawn").Process(
            target=receive_bare, args=(address, frames, theirs)
        )
        receiver.start()
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        socket.connect(ours.recv())
        payload = os.urandom(FRAME_SIZE_BYTES)
        for _ in range(frames):
            socket.send(payload)
        said: dict[str, float] = ours.recv()
        receiver.join()
        socket.close()
    return said


def measure(*, quick: bool) -> BenchmarkResult:
    """ipc and tcp, each through the data plane and over bare sockets, in turn."""
    frames = FRAMES_QUICK if quick else FRAMES
    program = ["-m", "benchmarks.shuffle"]
    variants = ("ipc", "tcp", "bare-ipc", "bare-tcp")
    samples = run_rounds({name: ([*program, name, str(frames)], {}) for name in variants}, quick=quick)
    figures = []
    for name, variant in samples.items():
        assert set(variant.numbers("frames")) == {float(frames)}, name
        assert set(variant.numbers("bytes")) == {float(frames * FRAME_SIZE_BYTES)}, name
        seconds = variant.numbers("steady_s")
        figures.append(figure(name, "frames/s", [frames / each for each in seconds]))
        figures.append(figure(name, "MB/s", [frames * FRAME_SIZE_BYTES / each / 1e6 for each in seconds]))
    rate = frames * FRAME_SIZE_BYTES / samples["ipc"].median("steady_s") / 1e9
    return BenchmarkResult(
        name=NAME,
        title="Shuffle of encoded 32 KiB frames between two processes",
        parameters={"frames": frames, "frame_size_bytes": FRAME_SIZE_BYTES, "channels": CHANNELS},
        figures=figures,
        bounds=[at_least("ipc, GB/s", rate, 1.0)],
        verified="every frame and byte arrived on its channel",
    )


if __name__ == "__main__":
    what, count = sys.argv[1:]
    measured = through_bare_sockets if what.startswith("bare-") else through_data_plane
    print(json.dumps(measured(what.removeprefix("bare-"), int(count))))
