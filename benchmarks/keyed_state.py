"""A keyed process function with one ValueState: what a touch of state costs through the public API.

Run as a program it is one variant: ``loop RECORDS`` or ``job RECORDS PARALLELISM``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.results import BenchmarkResult, at_least, figure
from benchmarks.rounds import run_rounds
from benchmarks.stamps import LatestPerKeySink, StampedSource, read_counts, read_stamps, steady_state_s
from zmflow import (
    KeyedProcessFunction,
    RuntimeContext,
    SequenceSource,
    StreamExecutionEnvironment,
    ValueState,
    ValueStateDescriptor,
)

__all__ = ["NAME", "measure"]

NAME = "keyed_state"

RECORDS = 4_000_000
RECORDS_QUICK = 200_000
KEYS = 10_000
RECORDS_PER_SECOND_AND_CORE_MIN = 400_000

key_of: Callable[[int], str] = lambda number: f"k{number % KEYS}"  # noqa: E731 - what users write, both variants call


class CountPerKey(KeyedProcessFunction[str, int, tuple[str, int]]):
    """Counts the records of a key, and tells the count."""

    count: ValueState[int]

    def open(self, runtime_context: RuntimeContext) -> None:
        self.count = runtime_context.get_state(ValueStateDescriptor("count"))

    def process_element(
        self,
        value: int,  # noqa: ARG002 - of the interface
        ctx: KeyedProcessFunction.Context[str],
    ) -> Iterator[tuple[str, int]]:
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        yield ctx.get_current_key(), count


def expected_counts(records: int) -> dict[str, int]:
    """How often each key occurs among 1..n."""
    counts: dict[str, int] = {}
    for number in range(KEYS):
        counts[f"k{number}"] = records // KEYS + (1 <= number <= records % KEYS)
    return counts


def loop(records: int) -> dict[str, float | int]:
    """The loop somebody would write by hand, with a dictionary for the state."""
    started = time.perf_counter()
    counts: dict[str, int] = {}
    latest: dict[str, int] = {}
    for number in range(1, records + 1):
        key = key_of(number)
        count = counts.get(key, 0) + 1
        counts[key] = count
        latest[key] = count
    seconds = time.perf_counter() - started
    assert latest == expected_counts(records)
    return {"steady_s": seconds, "records": records}


def job(records: int, parallelism: int) -> dict[str, float | int]:
    """The same through the public API."""
    with tempfile.TemporaryDirectory() as directory:
        env = StreamExecutionEnvironment.get_execution_environment()
        env.set_parallelism(parallelism)
        source = StampedSource(SequenceSource(1, records), directory)
        counts = env.from_source(source).key_by(key_of).process(CountPerKey())
        counts.sink_to(LatestPerKeySink(directory))
        env.execute(NAME)
        stamps = read_stamps(Path(directory))
        assert read_counts(Path(directory)) == expected_counts(records), "The counts are wrong."
    return {"steady_s": steady_state_s(stamps), "records": records}


def measure(*, quick: bool) -> BenchmarkResult:
    """Loop, parallelism 1 and parallelism 2 in turn."""
    records = RECORDS_QUICK if quick else RECORDS
    module = ["-m", "benchmarks.keyed_state"]
    samples = run_rounds(
        {
            "loop": ([*module, "loop", str(records)], {}),
            "p=1": ([*module, "job", str(records), "1"], {}),
            "p=2": ([*module, "job", str(records), "2"], {}),
        },
        quick=quick,
    )
    figures = []
    for name, variant in samples.items():
        figures.append(
            figure(name, "records/s", [records / seconds for seconds in variant.numbers("steady_s")])
        )
        whole = [records / seconds for seconds in variant.whole_s()]
        figures.append(figure(name, "records/s", whole, "whole process"))
    rates = {name: records / variant.median("steady_s") for name, variant in samples.items()}
    per_core = min(rates["p=1"], rates["p=2"] / 2)
    return BenchmarkResult(
        name=NAME,
        title="Keyed process function with one ValueState",
        parameters={"records": records, "keys": KEYS},
        figures=figures,
        bounds=[at_least("records per second and core", per_core, RECORDS_PER_SECOND_AND_CORE_MIN)],
        verified="the count of every key is the closed formula's in every run",
    )


if __name__ == "__main__":
    what, size, *rest = sys.argv[1:]
    print(json.dumps(loop(int(size)) if what == "loop" else job(int(size), int(rest[0]))))
