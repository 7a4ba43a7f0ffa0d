"""Many seeds on several processes, and what came of them."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from zmflow.testing.simulation.run import Outcome, run_seed

__all__ = ["RunSeed", "Summary", "run_seeds"]

CHUNK_SEEDS = 100
"""Seeds a process takes at a time: about a second, so that all processes end together."""

FAILURES_MAX = 20
"""Failing seeds that are kept; by then it is plain that something is wrong."""


class RunSeed(Protocol):
    """Simulates one seed; a function of a module, so that other processes find it."""

    def __call__(self, seed: int, *, trace: bool = False) -> Outcome: ...


@dataclass(slots=True)
class Summary:
    """What came of a range of seeds."""

    seeds: int = 0
    steps: int = 0
    virtual_ms: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    failures: list[Outcome] = field(default_factory=list)  # by seed, the lowest few
    failed: int = 0

    def add(self, outcome: Outcome) -> None:
        """One more seed."""
        self.seeds += 1
        self.steps += outcome.steps
        self.virtual_ms += outcome.virtual_ms
        for kind, number in outcome.faults.items():
            self.faults[kind] = self.faults.get(kind, 0) + number
        if outcome.violation:
            self.failed += 1
            self.failures.append(outcome)
            self._keep_lowest()

    def merge(self, other: Summary) -> None:
        """The seeds of another process."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.virtual_ms += other.virtual_ms
        self.failed += other.failed
        for kind, number in other.faults.items():
            self.faults[kind] = self.faults.get(kind, 0) + number
        self.failures += other.failures
        self._keep_lowest()

    def _keep_lowest(self) -> None:
        self.failures.sort(key=lambda outcome: outcome.seed)
        del self.failures[FAILURES_MAX:]


def _run_chunk(seeds: range, *, run: RunSeed, trace: bool) -> Summary:
    summary = Summary()
    # A seed leaves cycles behind, some 100 KB; to look for them while seeds run costs a tenth of the time.
    gc.disable()
    try:
        for seed in seeds:
            summary.add(run(seed, trace=trace))
    finally:
        gc.enable()
        gc.collect()
    return summary


def _chunks(seeds: range) -> Iterator[range]:
    for first in range(seeds.start, seeds.stop, CHUNK_SEEDS):
        yield range(first, min(first + CHUNK_SEEDS, seeds.stop))


def run_seeds(
    seeds: range,
    *,
    run: RunSeed = run_seed,
    processes: int = 1,
    trace: bool = False,
    progress: Callable[[Summary], object] = lambda _summary: None,
) -> Summary:
    """Simulate every seed of a range.

    Args:
        run: simulates one.
        processes: how many to spread them over.
        trace: keep the traces of the seeds that fail.
        progress: called with what there is so far, some times a second.
    """
    summary = Summary()
    run_chunk = partial(_run_chunk, run=run, trace=trace)
    if processes == 1 or len(seeds) <= CHUNK_SEEDS:
        for chunk in _chunks(seeds):
            summary.merge(run_chunk(chunk))
            progress(summary)
        return summary
    # Fresh interpreters: whatever else the caller runs (threads, sockets) stays with the caller.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for part in pool.imap_unordered(run_chunk, _chunks(seeds)):
            summary.merge(part)
            progress(summary)
    return summary
