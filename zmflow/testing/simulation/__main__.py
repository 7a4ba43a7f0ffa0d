"""``python -m zmflow.testing.simulation --seeds A..B``: simulate, and say what was found."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from zmflow.testing.simulation.campaign import RunSeed, Summary, run_seeds
from zmflow.testing.simulation.run import PROGRAM, Outcome, run_seed

__all__ = ["main", "simulate"]


def _seeds(text: str) -> range:
    """``A..B`` without B, or a single seed.

    >>> _seeds("3..7"), _seeds("9")
    (range(3, 7), range(9, 10))
    """
    first, dots, last = text.partition("..")
    try:
        start = int(first)
        stop = int(last) if dots else start + 1
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of seeds such as 0..10000") from None
    if not 0 <= start < stop:
        raise argparse.ArgumentTypeError(f"there is no seed in {text!r}")
    return range(start, stop)


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--seeds", type=_seeds, required=True, help="A..B (without B), or one seed")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="processes; default: the CPU cores"
    )
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 1 when a seed failed."""
    what = "Simulate clusters, one for each seed, and check what must hold."
    return simulate(arguments, run_seed, program=PROGRAM, description=what)


def simulate(arguments: Sequence[str] | None, run: RunSeed, *, program: str, description: str) -> int:
    """A command that simulates seeds; returns its exit code: 1 when one failed.

    Args:
        arguments: of the command line.
        run: simulates one seed.
        program: the module that is the command.
        description: for ``--help``.
    """
    options = _parser(program, description).parse_args(arguments)
    seeds: range = options.seeds
    began = time.monotonic()
    if options.trace:
        summary = Summary()
        for seed in seeds:
            outcome = run(seed, trace=True)
            _say(sys.stdout, *outcome.trace)
            outcome.trace = []
            summary.add(outcome)
    else:
        processes = max(1, options.processes)
        summary = run_seeds(seeds, run=run, processes=processes, progress=_progress(len(seeds)))
    seconds = time.monotonic() - began
    if options.json:
        _say(sys.stdout, json.dumps(_as_json(summary, seconds)))
    else:
        _print_summary(summary, seconds)
    if summary.failed:
        _print_failures(summary)
        return 1
    return 0


def _progress(total: int) -> Any:
    shown = sys.stderr.isatty()

    def show(summary: Summary) -> None:
        if shown:
            end = "\n" if summary.seeds == total else ""
            failed = f", {summary.failed} failed" if summary.failed else ""
            sys.stderr.write(f"\r{summary.seeds} of {total} seeds{failed}{end}")
            sys.stderr.flush()

    return show


def _say(stream: TextIO, *lines: str) -> None:
    for line in lines:
        stream.write(f"{line}\n")
    stream.flush()


def _print_summary(summary: Summary, seconds: float) -> None:
    hours = summary.virtual_ms / 3_600_000
    faults = ", ".join(f"{number} {kind}" for kind, number in sorted(summary.faults.items()))
    _say(
        sys.stdout,
        f"{summary.seeds} seeds, {summary.steps} events, {hours:.1f} simulated hours in {seconds:.1f} s",
        f"Faults: {faults or 'none'}",
        f"{summary.failed} seeds failed" if summary.failed else "No seed failed",
    )


def _print_failures(summary: Summary) -> None:
    first: Outcome = summary.failures[0]
    _say(sys.stderr, f"\nSeed {first.seed}: {first.violation}", *first.story)
    _say(sys.stderr, f"\nTo see it again: {first.command}")
    if len(summary.failures) > 1:
        _say(sys.stderr, f"\nThe lowest failing seeds of {summary.failed}:")
        for outcome in summary.failures:
            _say(sys.stderr, f"  {outcome.seed}: {outcome.violation.splitlines()[0]}")


def _as_json(summary: Summary, seconds: float) -> dict[str, Any]:
    return {
        "seeds": summary.seeds,
        "events": summary.steps,
        "virtual_ms": summary.virtual_ms,
        "seconds": round(seconds, 3),
        "faults": dict(sorted(summary.faults.items())),
        "failed": summary.failed,
        "failures": [
            {"seed": outcome.seed, "violation": outcome.violation, "command": outcome.command}
            for outcome in summary.failures
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
