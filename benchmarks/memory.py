"""Memory that does not grow: with the size of the input, or behind a sink that is too slow.

Run as a program: ``slow SECONDS``, a sink of 1 ms per record behind a source without limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import BenchmarkResult, Bound, Figure, at_most, figure
from benchmarks.rounds import run_process, run_rounds
from benchmarks.word_count import SETTINGS
from benchmarks.zipf_text import ZipfText, zipf_text
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

NAME = "memory"

SIZE_BYTES = 20_000_000
SIZE_QUICK_BYTES = 2_000_000
VOCABULARY = 1_000
"""So few words that the state is some 100 KiB, and the bound may be taken of all memory."""

SLOW_SECONDS = 60
SLOW_SECONDS_QUICK = 6
SECONDS_PER_RECORD = 0.001
RECORD_SIZE_BYTES = 1024
RECORDS_PER_BATCH = 64
NOTE_EVERY_S = 0.1

SETTLED_SHARE = 0.2
"""Of the time, after which memory has reached what it needs: interpreters warm, frames all in flight."""


def resident_bytes() -> int:
    """The memory this process has resident now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Notes:
    """Writes how many records there were and how much memory is in use, some times a second."""

    def __init__(self, directory: str, role: str) -> None:
        self._file = (Path(directory) / role).open("a", encoding="ascii")
        self._due = 0.0
        self._records = 0

    def add(self, records: int) -> None:
        """Count records; note when it is time."""
        self._records += records
        now = time.monotonic()
        if now >= self._due:
            self._due = now + NOTE_EVERY_S
            self._file.write(f"{now} {self._records} {resident_bytes()}\n")
            self._file.flush()

    def close(self) -> None:
        """No more notes."""
        self._file.close()


class _EndlessEnumerator(SplitEnumerator[int]):
    def __init__(self, context: SplitEnumeratorContext[int]) -> None:
        self._context = context

    def handle_split_request(self, subtask: int) -> None:
        self._context.assign_splits([0], subtask)

    def add_splits_back(self, splits: Sequence[int], subtask: int) -> None:
        """Every reader has a split of its own, which it is given again when it asks."""


class EndlessSource(Source[str, int]):
    """Texts of 1 KiB, as fast as they are taken, for ever."""

    name = "Endless"

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def create_enumerator(self, context: SplitEnumeratorContext[int]) -> SplitEnumerator[int]:
        return _EndlessEnumerator(context)

    def create_reader(self, context: RuntimeContext) -> SourceReader[str, int]:  # noqa: ARG002 - of the interface
        return _EndlessReader(Notes(self._directory, "source"))


class _EndlessReader(SourceReader[str, int]):
    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._begun = False
        self._number = 0

    def add_splits(self, splits: Sequence[int]) -> None:  # noqa: ARG002 - of the interface
        self._begun = True

    def notify_no_more_splits(self) -> None:
        pass

    def poll_next(self) -> list[str] | EndOfInput | None:
        if not self._begun:
            return None
        self._notes.add(RECORDS_PER_BATCH)
        first, self._number = self._number, self._number + RECORDS_PER_BATCH
        return [f"{number:<{RECORD_SIZE_BYTES}}" for number in range(first, self._number)]

    def close(self) -> None:
        self._notes.close()


class SlowSink(Sink[str]):
    """Takes 1 ms for each record."""

    name = "Slow"

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def create_writer(self, context: WriterContext) -> SinkWriter[str]:  # noqa: ARG002 - of the interface
        return _SlowWriter(Notes(self._directory, "sink"))


class _SlowWriter(SinkWriter[str]):
    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._next = 0

    def write(self, value: str) -> None:
        assert int(value) == self._next, "A record was lost."
        self._next += 1
        self._notes.add(1)
        time.sleep(SECONDS_PER_RECORD)

    def close(self, completed: bool) -> None:  # noqa: ARG002 - of the interface
        self._notes.close()


def slow(seconds: int) -> dict[str, Any]:
    """Lets the job run for a while, cancels it, and reads what its processes noted."""
    from zmflow import StreamExecutionEnvironment
    from zmflow.errors import JobCanceledError

    with tempfile.TemporaryDirectory() as directory:
        env = StreamExecutionEnvironment.get_execution_environment()
        env.set_parallelism(1)
        stream = env.from_source(EndlessSource(directory)).slot_sharing_group("source")
        stream.rebalance().sink_to(SlowSink(directory)).slot_sharing_group("sink")
        client = env.execute_async(NAME)
        time.sleep(seconds)
        state = client.get_job_status()
        assert state == "RUNNING", f"The job is {state}."
        client.cancel()
        with contextlib.suppress(JobCanceledError):
            client.get_job_execution_result()
        client.close()
        notes = {role: read_notes(Path(directory) / role) for role in ("source", "sink")}
    return {
        "in_flight": notes["source"][-1][1] - notes["sink"][-1][1],
        "processed": notes["sink"][-1][1],
        "source_bytes": [note[2] for note in notes["source"]],
        "sink_bytes": [note[2] for note in notes["sink"]],
    }


def read_notes(path: Path) -> list[tuple[float, int, int]]:
    """Moment, records so far and memory of each note."""
    fields = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return [(float(moment), int(records), int(memory)) for moment, records, memory in fields]


def measure(*, quick: bool) -> BenchmarkResult:
    """A file and one ten times as large in turn; then once the slow sink."""
    size = SIZE_QUICK_BYTES if quick else SIZE_BYTES
    texts = {"x1": zipf_text(size, VOCABULARY), "x10": zipf_text(10 * size, VOCABULARY)}
    samples = run_rounds(
        {f"word count, file {name}": (word_count_of(text), SETTINGS) for name, text in texts.items()},
        quick=quick,
    )
    figures = [
        figure(
            f"{name}, most memory of a worker",
            "MB",
            [each / 1e6 for each in variant.numbers("memory_peak_bytes")],
        )
        for name, variant in samples.items()
    ]
    small, large = (variant.median("memory_peak_bytes") for variant in samples.values())
    seconds = SLOW_SECONDS_QUICK if quick else SLOW_SECONDS
    slow_figures, slow_bounds = measure_slow(seconds)
    return BenchmarkResult(
        name=NAME,
        title="Memory of workers",
        parameters={
            "small_file_bytes": texts["x1"].size_bytes,
            "vocabulary": VOCABULARY,
            "slow_seconds": seconds,
        },
        figures=figures + slow_figures,
        bounds=[
            at_most("word count of a file ten times larger, memory beside x1", large / small, 1.2),
            *slow_bounds,
        ],
        verified="all counts are right; the slow sink got every record in order",
    )


def word_count_of(text: ZipfText) -> list[str]:
    """The arguments of a word count that checks its result."""
    about = json.dumps({name: getattr(text, name) for name in text.__struct_fields__})
    return ["-m", "benchmarks.word_count", "BATCH", about]


def measure_slow(seconds: int) -> tuple[list[Figure], list[Bound]]:
    """Memory over time; flat means that it does not grow after it has settled."""
    said = run_process(["-m", "benchmarks.memory", "slow", str(seconds)]).said
    figures, bounds = [], []
    for role in ("source", "sink"):
        series = said[f"{role}_bytes"]
        assert isinstance(series, list)
        assert len(series) > 10, f"Only {len(series)} notes of the {role}."
        settled = series[int(len(series) * SETTLED_SHARE) :]
        figures.append(figure(f"slow sink, {role} process", "MB", [each / 1e6 for each in settled]))
        tenth = max(1, len(settled) // 10)
        growth = statistics.median(settled[-tenth:]) / statistics.median(settled[:tenth])
        bounds.append(at_most(f"slow sink for {seconds} s, growth of the {role} process", growth, 1.05))
    figures.append(
        figure("slow sink, records in flight at the end", "records", [float(str(said["in_flight"]))])
    )
    figures.append(figure("slow sink, records processed", "records", [float(str(said["processed"]))]))
    return figures, bounds


if __name__ == "__main__":
    print(json.dumps(slow(int(sys.argv[2]))))
