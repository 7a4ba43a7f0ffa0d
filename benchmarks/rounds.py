"""Rounds of measurements: every variant once per round, in turn, so that all meet the same machine.

A busy neighbour or a processor that slows down then touches all variants alike, and ratios stay true. The
first round is a warm-up and not counted. Each variant is a process of its own, which prints what it measured
inside as one line of JSON; how long the process lived is measured outside.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ROUNDS", "ROUNDS_QUICK", "Sample", "Samples", "run_process", "run_rounds"]

ROUNDS = 5
ROUNDS_QUICK = 2
PROCESS_TIMEOUT_S = 900
"""Some ten times what the slowest variant takes on a slow machine."""

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Sample:
    """One process: how long it lived and what it said."""

    whole_s: float
    said: dict[str, float | int | str | list[float]]

    def number(self, name: str) -> float:
        """One of the numbers it said."""
        value = self.said[name]
        assert isinstance(value, (int, float)), (name, value)
        return float(value)


@dataclass(frozen=True)
class Samples:
    """The samples of one variant, one per round."""

    samples: list[Sample] = field(default_factory=list)

    def whole_s(self) -> list[float]:
        """How long each process lived."""
        return [sample.whole_s for sample in self.samples]

    def numbers(self, name: str) -> list[float]:
        """A number each process said."""
        return [sample.number(name) for sample in self.samples]

    def median(self, name: str) -> float:
        """The median of a number."""
        return statistics.median(self.numbers(name))


def environment_for(directory: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a measured process: no settings but these, and this package importable."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ZMFLOW_")}
    given = {
        "ZMFLOW_" + key.upper().replace(".", "_").replace("-", "_"): text for key, text in settings.items()
    }
    path = os.pathsep.join([str(ROOT), *filter(None, [kept.get("PYTHONPATH")])])
    # No settings file of the user's either.
    return kept | {"PYTHONPATH": path, "HOME": str(directory)} | given


def run_process(
    arguments: Sequence[str], settings: Mapping[str, str] | None = None, *, directory: Path | None = None
) -> Sample:
    """Run ``python ARGUMENTS`` to its end in a directory of its own.

    Raises:
        RuntimeError: it failed; with what it wrote to stderr.
    """
    with tempfile.TemporaryDirectory(prefix="zmflow-benchmark-") as temporary:
        place = directory or Path(temporary)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=place,
            env=environment_for(place, settings or {}),
            capture_output=True,
            text=True,
            timeout=PROCESS_TIMEOUT_S,
            check=False,
        )
        whole_s = time.perf_counter() - started
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}{done.stdout}")
    lines = done.stdout.strip().splitlines()
    said: dict[str, float | int | str | list[float]] = next(
        (json.loads(line) for line in reversed(lines) if line.startswith("{")), {}
    )
    return Sample(whole_s, said)


def run_rounds(
    variants: Mapping[str, tuple[Sequence[str], Mapping[str, str]]], *, quick: bool
) -> dict[str, Samples]:
    """Each variant (arguments, settings) once per round, after a warm-up round."""
    gathered = {name: Samples() for name in variants}
    for number in range(1 + (ROUNDS_QUICK if quick else ROUNDS)):
        for name, (arguments, settings) in variants.items():
            sample = run_process(arguments, settings)
            said = {key: value for key, value in sample.said.items() if not isinstance(value, list)}
            shown = "  ".join(
                f"{key} {value:,.4g}" for key, value in said.items() if not isinstance(value, str)
            )
            mark = "warm-up" if number == 0 else f"round {number}"
            print(f"  {mark}: {name}: whole {sample.whole_s:.2f} s  {shown}", file=sys.stderr, flush=True)
            if number:
                gathered[name].samples.append(sample)
    return gathered
