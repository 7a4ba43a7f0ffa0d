"""map, filter, map, count over integers: what a chain costs beside the loop somebody would write by hand.

Run as a program it is one variant: ``loop NUMBERS`` or ``job NUMBERS PARALLELISM``.
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
from benchmarks.stamps import CountingSink, StampedSource, read_stamps, steady_state_s

__all__ = ["NAME", "measure"]

NAME = "stateless_chain"

NUMBERS = 5_000_000
NUMBERS_QUICK = 500_000

first: Callable[[int], int] = lambda number: number * 3  # noqa: E731 - what users write, and both variants call
keep: Callable[[int], bool] = lambda number: number % 4 != 1  # noqa: E731
second: Callable[[int], int] = lambda number: number + 7  # noqa: E731


def expected_count(numbers: int) -> int:
    """How many of 1..n times 3 do not leave 1 when divided by 4: those where n does not leave 3."""
    return numbers - (numbers + 1) // 4


def loop(numbers: int) -> dict[str, float | int]:
    """The loop somebody would write by hand, calling the same functions."""
    started = time.perf_counter()
    count = 0
    for number in range(1, numbers + 1):
        value = first(number)
        if keep(value):
            value = second(value)
            count += 1
    return {"steady_s": time.perf_counter() - started, "count": count}


def job(numbers: int, parallelism: int) -> dict[str, float | int]:
    """The same through the public API."""
    from zmflow import SequenceSource, StreamExecutionEnvironment

    with tempfile.TemporaryDirectory() as directory:
        env = StreamExecutionEnvironment.get_execution_environment()
        env.set_parallelism(parallelism)
        source = StampedSource(SequenceSource(1, numbers), directory)
        env.from_source(source).map(first).filter(keep).map(second).sink_to(CountingSink(directory))
        env.execute(NAME)
        stamps = read_stamps(Path(directory))
    count = sum(stamp.records for stamp in stamps if stamp.role == "sink")
    return {"steady_s": steady_state_s(stamps), "count": count}


def measure(*, quick: bool) -> BenchmarkResult:
    """Loop, parallelism 1 and parallelism 2 in turn."""
    numbers = NUMBERS_QUICK if quick else NUMBERS
    module = ["-m", "benchmarks.stateless_chain"]
    samples = run_rounds(
        {
            "loop": ([*module, "loop", str(numbers)], {}),
            "p=1": ([*module, "job", str(numbers), "1"], {}),
            "p=2": ([*module, "job", str(numbers), "2"], {}),
        },
        quick=quick,
    )
    figures = []
    for name, variant in samples.items():
        assert set(variant.numbers("count")) == {float(expected_count(numbers))}, (
            name,
            variant.numbers("count"),
        )
        rates = [numbers / seconds for seconds in variant.numbers("steady_s")]
        whole = [numbers / seconds for seconds in variant.whole_s()]
        figures.append(figure(name, "records/s", rates))
        figures.append(figure(name, "records/s", whole, "whole process"))
    steady = {name: variant.median("steady_s") for name, variant in samples.items()}
    return BenchmarkResult(
        name=NAME,
        title="Stateless chain: map, filter, map, count",
        parameters={"numbers": numbers},
        figures=figures,
        bounds=[
            at_least("parallelism 1 beside the hand-written loop", steady["loop"] / steady["p=1"], 0.70),
            at_least("parallelism 2 beside parallelism 1", steady["p=1"] / steady["p=2"], 1.7),
        ],
        verified="the count is the closed formula's in every run",
    )


if __name__ == "__main__":
    what, size, *rest = sys.argv[1:]
    print(json.dumps(loop(int(size)) if what == "loop" else job(int(size), int(rest[0]))))
