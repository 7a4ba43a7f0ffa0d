"""Event-time tumbling windows: the mean per key and ten seconds, of records up to five seconds out of order.

Run as a program it is one variant: ``loop RECORDS`` or ``job RECORDS PARALLELISM``.
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
from zmflow import (
    AggregateFunction,
    Duration,
    SequenceSource,
    StreamExecutionEnvironment,
    Time,
    TumblingEventTimeWindows,
    WatermarkStrategy,
)

__all__ = ["NAME", "measure"]

NAME = "tumbling_window"

RECORDS = 10_000_000
RECORDS_QUICK = 200_000
KEYS = 10_000
PARALLELISM = 2
WINDOW_MS = 10_000
OUT_OF_ORDER_MS = 5_000
RECORDS_PER_MS = 100
"""Ten windows of event time in ten million records, each of a hundred thousand a key's hundred."""

Event = tuple[str, int, int]  # key, timestamp, value

# What users write, and both variants call. Timestamps go back by up to the bound, in a fixed pattern.
event_of: Callable[[int], Event] = lambda n: (  # noqa: E731
    f"k{n % KEYS}",
    n // RECORDS_PER_MS - (n * 7_919) % OUT_OF_ORDER_MS,
    n % 1_000,
)
key_of: Callable[[Event], str] = lambda event: event[0]  # noqa: E731
timestamp_of: Callable[[Event, int], int] = lambda event, _before: event[1]  # noqa: E731


def figures_of(row: tuple[str, int, int, int]) -> list[tuple[str, int]]:
    """The totals, each under its name."""
    return list(zip(("sum", "count", "windows"), row[1:], strict=True))


class Mean(AggregateFunction[Event, tuple[int, int], tuple[int, int]]):
    """Sum and number of the values: their mean, without rounding."""

    def create_accumulator(self) -> tuple[int, int]:
        return 0, 0

    def add(self, value: Event, accumulator: tuple[int, int]) -> tuple[int, int]:
        return accumulator[0] + value[2], accumulator[1] + 1

    def get_result(self, accumulator: tuple[int, int]) -> tuple[int, int]:
        return accumulator

    def merge(self, acc_a: tuple[int, int], acc_b: tuple[int, int]) -> tuple[int, int]:
        return acc_a[0] + acc_b[0], acc_a[1] + acc_b[1]


def loop(records: int) -> dict[str, float | int]:
    """The loop somebody would write by hand: a dictionary per window, closed by a watermark per batch."""
    mean = Mean()
    started = time.perf_counter()
    windows: dict[int, dict[str, tuple[int, int]]] = {}
    total = count = fired = 0
    highest = -(2**63)
    for number in range(1, records + 1):
        event = event_of(number)
        timestamp = timestamp_of(event, 0)
        if timestamp > highest:
            highest = timestamp
        start = timestamp - timestamp % WINDOW_MS
        window = windows.get(start)
        if window is None:
            window = windows[start] = {}
        key = key_of(event)
        window[key] = mean.add(event, window.get(key) or mean.create_accumulator())
        if number % 1_024 == 0:
            for begin in [b for b in windows if b + WINDOW_MS <= highest - OUT_OF_ORDER_MS]:
                for accumulator in windows.pop(begin).values():
                    result = mean.get_result(accumulator)
                    total, count, fired = total + result[0], count + result[1], fired + 1
    for window in windows.values():
        for accumulator in window.values():
            result = mean.get_result(accumulator)
            total, count, fired = total + result[0], count + result[1], fired + 1
    return {"steady_s": time.perf_counter() - started, "sum": total, "count": count, "windows": fired}


def job(records: int, parallelism: int) -> dict[str, float | int]:
    """The same through the public API. What windows emit is summed up per key by the sink's own job."""
    with tempfile.TemporaryDirectory() as directory:
        env = StreamExecutionEnvironment.get_execution_environment()
        env.set_parallelism(parallelism)
        source = StampedSource(SequenceSource(1, records), directory)
        strategy = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_millis(OUT_OF_ORDER_MS))
        means = (
            env.from_source(source)
            .map(event_of)
            .assign_timestamps_and_watermarks(strategy.with_timestamp_assigner(timestamp_of))
            .key_by(key_of)
            .window(TumblingEventTimeWindows.of(Time.milliseconds(WINDOW_MS)))
            .aggregate(Mean())
        )
        totals = means.map(lambda mean: ("all", *mean, 1)).key_by(lambda _mean: "all")
        sums = totals.reduce(lambda a, b: ("all", a[1] + b[1], a[2] + b[2], a[3] + b[3]))
        sums.flat_map(figures_of).sink_to(LatestPerKeySink(directory))
        env.execute(NAME)
        stamps = read_stamps(Path(directory))
        found = read_counts(Path(directory))
    return {"steady_s": steady_state_s(stamps), **found}


def measure(*, quick: bool) -> BenchmarkResult:
    """Loop and parallelism 2 in turn; both must see every record once, in as many windows."""
    records = RECORDS_QUICK if quick else RECORDS
    module = ["-m", "benchmarks.tumbling_window"]
    samples = run_rounds(
        {
            "loop": ([*module, "loop", str(records)], {}),
            f"p={PARALLELISM}": ([*module, "job", str(records), str(PARALLELISM)], {}),
        },
        quick=quick,
    )
    figures = []
    for name, variant in samples.items():
        assert set(variant.numbers("count")) == {float(records)}, (name, variant.numbers("count"))
        figures.append(
            figure(name, "records/s", [records / seconds for seconds in variant.numbers("steady_s")])
        )
        whole = [records / seconds for seconds in variant.whole_s()]
        figures.append(figure(name, "records/s", whole, "whole process"))
    for what in ("sum", "windows"):
        seen = {value for variant in samples.values() for value in variant.numbers(what)}
        assert len(seen) == 1, (what, seen)
    steady = {name: variant.median("steady_s") for name, variant in samples.items()}
    return BenchmarkResult(
        name=NAME,
        title="Tumbling event-time windows: mean per key",
        parameters={"records": records, "keys": KEYS, "parallelism": PARALLELISM},
        figures=figures,
        bounds=[at_least("beside the hand-written loop", steady["loop"] / steady[f"p={PARALLELISM}"], 0.30)],
        verified="records, sums and windows are the loop's in every run",
    )


if __name__ == "__main__":
    what, size, *rest = sys.argv[1:]
    print(json.dumps(loop(int(size)) if what == "loop" else job(int(size), int(rest[0]))))
