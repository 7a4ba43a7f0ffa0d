"""Clocks inside a job: when its sources began, when its sinks ended, and what its processes weighed.

``CLOCK_MONOTONIC`` is the same for all processes of a Linux machine, so stamps of different processes may
be subtracted. Each subtask leaves its stamp as a small file in a directory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

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

__all__ = [
    "CountingSink",
    "LatestPerKeySink",
    "Stamp",
    "StampedSource",
    "peak_memory_bytes",
    "read_counts",
    "read_stamps",
    "steady_state_s",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Stamp:
    """What a subtask of a source or sink knows at its end."""

    role: str
    subtask: int
    pid: int
    records: int
    first_ns: int
    last_ns: int
    memory_peak_bytes: int


def peak_memory_bytes() -> int:
    """The most memory this process has ever had resident."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("The kernel tells no VmHWM.")


def leave_stamp(directory: str, role: str, subtask: int, records: int, first_ns: int, last_ns: int) -> None:
    """Write the stamp of a subtask; complete or not at all."""
    stamp = Stamp(role, subtask, os.getpid(), records, first_ns, last_ns, peak_memory_bytes())
    temporary = Path(directory) / f".{role}-{subtask}"
    temporary.write_bytes(msgspec.json.encode(stamp))
    temporary.replace(Path(directory) / f"{role}-{subtask}.stamp")


def read_stamps(directory: Path) -> list[Stamp]:
    """All stamps of a job that has ended."""
    return [msgspec.json.decode(path.read_bytes(), type=Stamp) for path in sorted(directory.glob("*.stamp"))]


def steady_state_s(stamps: Sequence[Stamp]) -> float:
    """Seconds from the first record asked of a source to the last one in a sink: no start-up, no shutdown."""
    first = min(stamp.first_ns for stamp in stamps if stamp.role == "source")
    last = max(stamp.last_ns for stamp in stamps if stamp.role == "sink")
    return (last - first) / 1e9


class StampedSource(Source[T, Any]):
    """Another source, with a stamp at its first and last poll."""

    def __init__(self, inner: Source[T, Any], directory: str) -> None:
        self.name = inner.name
        self._inner = inner
        self._directory = directory

    def validate(self) -> None:
        self._inner.validate()

    def create_enumerator(self, context: SplitEnumeratorContext[Any]) -> SplitEnumerator[Any]:
        return self._inner.create_enumerator(context)

    def restore_enumerator(self, context: SplitEnumeratorContext[Any], state: Any) -> SplitEnumerator[Any]:
        return self._inner.restore_enumerator(context, state)

    def create_reader(self, context: RuntimeContext) -> SourceReader[T, Any]:
        return _StampedReader(self._inner.create_reader(context), self._directory, context.subtask_index)


class _StampedReader(SourceReader[T, Any]):
    def __init__(self, inner: SourceReader[T, Any], directory: str, subtask: int) -> None:
        self._inner = inner
        self._directory = directory
        self._subtask = subtask
        self._first_ns = 0
        self._records = 0

    def start(self) -> None:
        self._inner.start()

    def add_splits(self, splits: Sequence[Any]) -> None:
        self._first_ns = self._first_ns or time.monotonic_ns()
        self._inner.add_splits(splits)

    def poll_next(self) -> Sequence[T] | EndOfInput | None:
        batch = self._inner.poll_next()
        if batch is EndOfInput.END:
            now = time.monotonic_ns()
            leave_stamp(self._directory, "source", self._subtask, self._records, self._first_ns or now, now)
        elif batch is not None:
            self._records += len(batch)
        return batch

    def notify_no_more_splits(self) -> None:
        self._inner.notify_no_more_splits()

    def snapshot_state(self, checkpoint_id: int) -> Sequence[Any]:
        return self._inner.snapshot_state(checkpoint_id)

    def notify_checkpoint_complete(self, checkpoint_id: int) -> None:
        self._inner.notify_checkpoint_complete(checkpoint_id)

    def close(self) -> None:
        self._inner.close()


class CountingSink(Sink[Any]):
    """Counts records."""

    name = "Count"

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def create_writer(self, context: WriterContext) -> SinkWriter[Any]:
        return _CountingWriter(self._directory, context.runtime_context.subtask_index)


class _CountingWriter(SinkWriter[Any]):
    def __init__(self, directory: str, subtask: int) -> None:
        self._directory = directory
        self._subtask = subtask
        self._records = 0
        self._first_ns = 0

    def write(self, value: Any) -> None:
        self.write_batch((value,))

    def write_batch(self, values: Sequence[Any]) -> None:
        self._first_ns = self._first_ns or time.monotonic_ns()
        self._records += len(values)

    def close(self, completed: bool) -> None:
        if completed:
            now = time.monotonic_ns()
            leave_stamp(self._directory, "sink", self._subtask, self._records, self._first_ns or now, now)


class LatestPerKeySink(Sink[tuple[str, int]]):
    """Keeps the last value of each key: the cheapest sink that can be checked."""

    name = "Latest per key"

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def create_writer(self, context: WriterContext) -> SinkWriter[tuple[str, int]]:
        return _LatestPerKeyWriter(self._directory, context.runtime_context.subtask_index)


class _LatestPerKeyWriter(_CountingWriter):
    def __init__(self, directory: str, subtask: int) -> None:
        super().__init__(directory, subtask)
        self._latest: dict[str, int] = {}

    def write_batch(self, values: Sequence[Any]) -> None:
        self._first_ns = self._first_ns or time.monotonic_ns()
        self._latest.update(values)
        self._records += len(values)

    def close(self, completed: bool) -> None:
        super().close(completed)
        if completed:
            path = Path(self._directory) / f"counts-{self._subtask}.json"
            path.write_bytes(msgspec.json.encode(self._latest))


def read_counts(directory: Path) -> dict[str, int]:
    """What all LatestPerKeySinks of a job hold together.

    Raises:
        AssertionError: two of them hold the same key.
    """
    counts: dict[str, int] = {}
    for path in sorted(directory.glob("counts-*.json")):
        part = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
        assert counts.keys().isdisjoint(part), "A key reached two subtasks."
        counts.update(part)
    return counts
