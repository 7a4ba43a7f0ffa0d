"""Word count of a large text: files, flat_map, map, key_by, a shuffle between two processes, sum.

Run as a program it is one variant: ``loop`` or ``job MODE``, with the path of the text behind.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.results import BenchmarkResult, at_least, figure
from benchmarks.rounds import run_rounds
from benchmarks.stamps import LatestPerKeySink, StampedSource, read_counts, read_stamps, steady_state_s
from benchmarks.zipf_text import ZipfText, zipf_text

__all__ = ["NAME", "measure"]

NAME = "word_count"

SIZE_BYTES = 200_000_000
SIZE_QUICK_BYTES = 10_000_000
PARALLELISM = 2
SETTINGS = {"taskmanager.network.compression.codec": "lz4"}

split: Callable[[str], list[str]] = lambda line: line.split()  # noqa: E731 - what users write, and both variants call
to_pair: Callable[[str], tuple[str, int]] = lambda word: (word, 1)  # noqa: E731
key_of: Callable[[tuple[str, int]], str] = lambda pair: pair[0]  # noqa: E731


def loop(text: ZipfText) -> dict[str, float | int]:
    """The loop somebody would write by hand, in one process, calling the same functions."""
    started = time.perf_counter()
    counts: dict[str, int] = {}
    with Path(text.path).open(encoding="utf-8") as file:
        for line in file:
            for word in split(line):
                pair = to_pair(word)
                key = key_of(pair)
                counts[key] = counts.get(key, 0) + pair[1]
    seconds = time.perf_counter() - started
    assert counts == text.counts()
    return {"steady_s": seconds, "words": sum(counts.values())}


def job(mode: str, text: ZipfText) -> dict[str, float | int]:
    """The same through the public API; the counts are compared with the true ones."""
    from zmflow import RuntimeExecutionMode, StreamExecutionEnvironment
    from zmflow.connectors import TextFileSource

    with tempfile.TemporaryDirectory() as directory:
        env = StreamExecutionEnvironment.get_execution_environment()
        env.set_parallelism(PARALLELISM).set_runtime_mode(RuntimeExecutionMode[mode])
        counts = (
            env.from_source(StampedSource(TextFileSource(text.path), directory))
            .flat_map(split)
            .map(to_pair)
            .key_by(key_of)
            .sum(1)
        )
        counts.sink_to(LatestPerKeySink(directory))
        env.execute(NAME)
        stamps = read_stamps(Path(directory))
        found = read_counts(Path(directory))
    assert found == text.counts(), "The counts are wrong."
    assert len({stamp.pid for stamp in stamps}) == PARALLELISM, "Not two processes."
    if mode == "STREAMING":
        assert sum(stamp.records for stamp in stamps if stamp.role == "sink") == text.words
    return {
        "steady_s": steady_state_s(stamps),
        "words": sum(found.values()),
        "memory_peak_bytes": max(stamp.memory_peak_bytes for stamp in stamps),
    }


def measure(*, quick: bool) -> BenchmarkResult:
    """Loop, STREAMING (every running count reaches the sink) and BATCH (final counts only) in turn."""
    text = zipf_text(SIZE_QUICK_BYTES if quick else SIZE_BYTES)
    program = ["-m", "benchmarks.word_count"]
    about = json.dumps({name: getattr(text, name) for name in text.__struct_fields__})
    samples = run_rounds(
        {
            "loop": ([*program, "loop", about], {}),
            "STREAMING": ([*program, "STREAMING", about], SETTINGS),
            "BATCH": ([*program, "BATCH", about], SETTINGS),
        },
        quick=quick,
    )
    figures = []
    for name, variant in samples.items():
        figures.append(
            figure(name, "words/s", [text.words / seconds for seconds in variant.numbers("steady_s")])
        )
        figures.append(
            figure(name, "words/s", [text.words / seconds for seconds in variant.whole_s()], "whole process")
        )
    steady = {name: variant.median("steady_s") for name, variant in samples.items()}
    return BenchmarkResult(
        name=NAME,
        title="Word count with a shuffle between two processes, lz4",
        parameters={"size_bytes": text.size_bytes, "words": text.words, "parallelism": PARALLELISM},
        figures=figures,
        bounds=[
            at_least(f"{mode} beside the hand-written loop", steady["loop"] / steady[mode], 0.35)
            for mode in ("STREAMING", "BATCH")
        ],
        verified="every count equals the one taken while the text was written, in every run",
    )


if __name__ == "__main__":
    what, about_text = sys.argv[1:]
    described = ZipfText(**json.loads(about_text))
    print(json.dumps(loop(described) if what == "loop" else job(what, described)))
