"""``python -m benchmarks list | run [NAMES] [--all] [--quick] [--json FILE] | report FILE``."""

from __future__ import annotations

import argparse
import datetime
import importlib
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Protocol, cast

import msgspec

from benchmarks.machine import this_machine
from benchmarks.report import markdown
from benchmarks.results import BenchmarkResult, Report

__all__ = ["NAMES", "main"]

NAMES = (
    "stateless_chain",
    "word_count",
    "keyed_state",
    "tumbling_window",
    "shuffle",
    "latency",
    "job_start",
    "memory",
    "checkpoint",
    "recovery",
)


class _Benchmark(Protocol):
    def measure(self, *, quick: bool) -> BenchmarkResult: ...


def run(names: Sequence[str], *, quick: bool) -> Report:
    """Measure the named benchmarks, one after the other."""
    results = []
    for name in names:
        print(f"{name}:", file=sys.stderr, flush=True)
        benchmark = cast(_Benchmark, importlib.import_module(f"benchmarks.{name}"))
        started = time.perf_counter()
        result = benchmark.measure(quick=quick)
        results.append(msgspec.structs.replace(result, elapsed_s=round(time.perf_counter() - started, 1)))
    return Report(
        zmflow=metadata.version("zmflow"),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        quick=quick,
        machine=this_machine(),
        results=results,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 when a bound does not hold (a quick run judges none)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures zmflow.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name the benchmarks")
    running = commands.add_parser("run", help="measure")
    running.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    running.add_argument("--all", action="store_true", help="every benchmark")
    running.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how fast")
    running.add_argument("--json", type=Path, metavar="FILE", help="write every sample to this file")
    reporting = commands.add_parser("report", help="the tables of a run, as Markdown")
    reporting.add_argument("file", type=Path)
    options = parser.parse_args(arguments)

    if options.command == "list":
        print("\n".join(NAMES))
        return 0
    if options.command == "report":
        print(markdown(msgspec.json.decode(options.file.read_bytes(), type=Report)))
        return 0
    names = list(NAMES) if options.all else options.names
    unknown = sorted(set(names) - set(NAMES))
    if unknown or not names:
        running.error(f"unknown: {', '.join(unknown)}" if unknown else "name benchmarks, or give --all")
    report = run(names, quick=options.quick)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    print(markdown(report))
    return int(not options.quick and not all(bound.holds for each in report.results for bound in each.bounds))


if __name__ == "__main__":
    sys.exit(main())
