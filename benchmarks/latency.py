"""Latency at a fixed rate, source to sink, through key_by and reduce in two processes.

The generator is open loop: a record carries the moment at which it was *due*, whether or not the pipeline
let it out then. A pause of the pipeline therefore counts for every record that fell due during it, and
nothing is hidden by omission. Beside it, the same records sent one by one over bare ZeroMQ.

Run as a program it is one variant: ``job BUFFER_TIMEOUT_MS SECONDS`` or ``zeromq SECONDS``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import BenchmarkResult, at_most, figure
from benchmarks.rounds import run_rounds
from zmflow import (
    EndOfInput,
    RuntimeContext,
    Sink,
    SinkWriter,
    Source,
    SourceReader,
    SplitEnumerator,
    WriterContext,
)
from zmflow.api.sources import SplitEnumeratorContext

__all__ = ["NAME", "measure"]

NAME = "latency"

RATE_PER_S = 10_000
KEYS = 100
SECONDS = 6
SECONDS_QUICK = 2
WARM_UP_S = 1
"""The first records meet connections being made; they are sent and not counted."""

PAUSE_S = 0.000_1
"""How long the generator sleeps when nothing is due: a tenth of the smallest latency of interest."""

Record = tuple[int, int, int]
"""Key, moment at which the record was due (CLOCK_MONOTONIC, ns), number of records reduced into it."""

key_of: Callable[[Record], int] = lambda record: record[0]  # noqa: E731 - what users write
add: Callable[[Record, Record], Record] = lambda old, new: (new[0], new[1], old[2] + new[2])  # noqa: E731


class _OneSplit(SplitEnumerator[int]):
    """The generator is one split."""

    def __init__(self, context: SplitEnumeratorContext[int]) -> None:
        self._context = context
        self._given = False

    def handle_split_request(self, subtask: int) -> None:
        if not self._given:
            self._given = True
            self._context.assign_splits([0], subtask)
        self._context.signal_no_more_splits(subtask)

    def add_splits_back(self, splits: Sequence[int], subtask: int) -> None:  # noqa: ARG002 - of the interface
        self._given = False


class FixedRateSource(Source[Record, int]):
    """``records`` records at ``rate_per_s``, each stamped with the moment at which it is due."""

    name = "Fixed rate"

    def __init__(self, rate_per_s: int, records: int) -> None:
        self.rate_per_s = rate_per_s
        self.records = records

    def create_enumerator(self, context: SplitEnumeratorContext[int]) -> SplitEnumerator[int]:
        return _OneSplit(context)

    def create_reader(self, context: RuntimeContext) -> SourceReader[Record, int]:  # noqa: ARG002 - of the interface
        return _FixedRateReader(self.rate_per_s, self.records)


class _FixedRateReader(SourceReader[Record, int]):
    def __init__(self, rate_per_s: int, records: int) -> None:
        self._interval_ns = 1_000_000_000 // rate_per_s
        self._records = records
        self._emitted = 0
        self._begin_ns = 0

    def add_splits(self, splits: Sequence[int]) -> None:  # noqa: ARG002 - of the interface
        self._begin_ns = time.monotonic_ns()

    def notify_no_more_splits(self) -> None:
        pass

    def poll_next(self) -> list[Record] | EndOfInput | None:
        if not self._begin_ns:
            return None
        if self._emitted == self._records:
            return EndOfInput.END
        interval_ns, first = self._interval_ns, self._emitted
        while True:
            due = min((time.monotonic_ns() - self._begin_ns) // interval_ns, self._records)
            if due > first:
                self._emitted = due
                begin_ns = self._begin_ns
                return [(n % KEYS, begin_ns + n * interval_ns, 1) for n in range(first, due)]
            time.sleep(PAUSE_S)


class LatencySink(Sink[Record]):
    """Writes the latency of every record, in ns, to a file when the job ends."""

    name = "Latency"

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def create_writer(self, context: WriterContext) -> SinkWriter[Record]:  # noqa: ARG002 - of the interface
        return _LatencyWriter(self._directory)


class _LatencyWriter(SinkWriter[Record]):
    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._latencies = array("q")
        self._reduced = 0

    def write(self, value: Record) -> None:
        self.write_batch((value,))

    def write_batch(self, values: Sequence[Record]) -> None:
        now = time.monotonic_ns()
        self._latencies.extend([now - value[1] for value in values])
        self._reduced = max(self._reduced, *(value[2] for value in values))

    def close(self, completed: bool) -> None:
        if completed:
            (Path(self._directory) / "latencies").write_bytes(self._latencies.tobytes())
            (Path(self._directory) / "about").write_text(f"{os.getpid()} {self._reduced}", encoding="ascii")


class NotePid:
    """A map function that notes the process it runs in."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._noted = False

    def __call__(self, record: Record) -> Record:
        if not self._noted:
            (Path(self._directory) / "source-pid").write_text(str(os.getpid()), encoding="ascii")
            self._noted = True
        return record


def job(buffer_timeout_ms: int, seconds: int) -> dict[str, float]:
    """Source in one process, reduce and sink in another."""
    from zmflow import StreamExecutionEnvironment

    records = RATE_PER_S * (WARM_UP_S + seconds)
    with tempfile.TemporaryDirectory() as directory:
        env = StreamExecutionEnvironment.get_execution_environment()
        env.set_parallelism(1).set_buffer_timeout(buffer_timeout_ms)
        generated = env.from_source(FixedRateSource(RATE_PER_S, records)).slot_sharing_group("source")
        noted = generated.map(NotePid(directory)).slot_sharing_group("source")
        reduced = noted.key_by(key_of).reduce(add).slot_sharing_group("reduce")
        reduced.sink_to(LatencySink(directory)).slot_sharing_group("reduce")
        env.execute(NAME)
        place = Path(directory)
        latencies = array("q", (place / "latencies").read_bytes())
        pid, last_count = (place / "about").read_text(encoding="ascii").split()
        source_pid = (place / "source-pid").read_text(encoding="ascii")
    assert pid != source_pid, "Source and reduce ran in one process."
    assert len(latencies) == records, f"{len(latencies)} of {records} records arrived."
    assert int(last_count) == records // KEYS, "The reduced counts are wrong."
    return percentiles(latencies)


def zeromq(seconds: int) -> dict[str, float]:
    """The same generator; each record pickled and sent on its own over a DEALER and a ROUTER."""
    import zmq

    records = RATE_PER_S * (WARM_UP_S + seconds)
    with tempfile.TemporaryDirectory() as directory:
        address = f"ipc://{directory}/socket"
        receiver: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        receiver.bind(address)
        sender = multiprocessing.get_context("spawn").Process(target=send, args=(address, records))
        sender.start()
        latencies = array("q")
        while len(latencies) < records:
            value: Record = pickle.loads(receiver.recv_multipart()[1])
            latencies.append(time.monotonic_ns() - value[1])
        sender.join()
        receiver.close()
    return percentiles(latencies)


def send(address: str, records: int) -> None:
    """The sending process of ``zeromq``."""
    import zmq

    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(address)
    reader = _FixedRateReader(RATE_PER_S, records)
    reader.add_splits([0])
    while not isinstance(batch := reader.poll_next(), EndOfInput):
        for record in batch or ():
            socket.send(pickle.dumps(record, 5))
    socket.close()


def percentiles(latencies: array[int]) -> dict[str, float]:
    """p50, p99 and the worst in milliseconds, of what came after the warm-up."""
    counted = sorted(latencies[RATE_PER_S * WARM_UP_S :])
    last = len(counted) - 1
    return {f"p{share}_ms": counted[last * share // 100] / 1e6 for share in (50, 99, 100)}


def measure(*, quick: bool) -> BenchmarkResult:
    """Bare ZeroMQ, buffer timeout 1 ms and the default of 100 ms in turn."""
    seconds = str(SECONDS_QUICK if quick else SECONDS)
    program = ["-m", "benchmarks.latency"]
    samples = run_rounds(
        {
            "bare ZeroMQ": ([*program, "zeromq", seconds], {}),
            "buffer timeout 1 ms": ([*program, "job", "1", seconds], {}),
            "buffer timeout 100 ms": ([*program, "job", "100", seconds], {}),
        },
        quick=quick,
    )
    figures = [
        figure(f"{name}, p{share}", "ms", variant.numbers(f"p{share}_ms"))
        for name, variant in samples.items()
        for share in (50, 99, 100)
    ]
    short, default = samples["buffer timeout 1 ms"], samples["buffer timeout 100 ms"]
    return BenchmarkResult(
        name=NAME,
        title="Latency from due to sink through key_by and reduce in two processes",
        parameters={"rate_per_s": RATE_PER_S, "seconds": int(seconds), "keys": KEYS},
        figures=figures,
        bounds=[
            at_most("buffer timeout 1 ms, p50 in ms", short.median("p50_ms"), 3),
            at_most("buffer timeout 1 ms, p99 in ms", short.median("p99_ms"), 10),
            at_most("default buffer timeout, p50 in ms", default.median("p50_ms"), 60),
        ],
        verified="every record arrived, reduced to the right count, from another process",
    )


if __name__ == "__main__":
    what, *rest = (argument for argument in sys.argv[1:])
    said: dict[str, Any] = job(int(rest[0]), int(rest[1])) if what == "job" else zeromq(int(rest[0]))
    print(json.dumps(said))
