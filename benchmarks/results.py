"""The nouns of a benchmark report: every raw sample, the medians, the bounds and whether they hold."""

from __future__ import annotations

import statistics
from typing import Literal

import msgspec

__all__ = ["BenchmarkResult", "Bound", "Figure", "Machine", "Report", "at_least", "at_most", "figure"]


class Figure(msgspec.Struct, frozen=True):
    """One quantity, measured several times in the same run.

    ``scope`` says what a sample covers: a whole process from start to exit, or its steady state only.
    """

    name: str
    unit: str
    scope: Literal["whole process", "steady state"]
    samples: list[float]
    median: float


class Bound(msgspec.Struct, frozen=True):
    """What must hold, what was measured, and whether it does."""

    statement: str
    value: float
    relation: Literal[">=", "<"]
    limit: float
    holds: bool


class BenchmarkResult(msgspec.Struct, frozen=True):
    """A benchmark's figures. ``verified`` says how its output was checked: there is none unchecked."""

    name: str
    title: str
    parameters: dict[str, str | int | float]
    figures: list[Figure]
    bounds: list[Bound]
    verified: str
    elapsed_s: float = 0.0


class Machine(msgspec.Struct, frozen=True):
    """What the figures were measured on."""

    cpu: str
    cores: int
    memory_gib: float
    python: str
    system: str


class Report(msgspec.Struct, frozen=True):
    """All results of one run. Those of a quick run are not figures to compare."""

    zmflow: str
    date: str
    quick: bool
    machine: Machine
    results: list[BenchmarkResult]


def figure(
    name: str,
    unit: str,
    samples: list[float],
    scope: Literal["whole process", "steady state"] = "steady state",
) -> Figure:
    """A figure and its median.

    >>> figure("rate", "records/s", [3.0, 1.0, 2.0]).median
    2.0
    """
    return Figure(name, unit, scope, samples, statistics.median(samples))


def at_least(statement: str, value: float, limit: float) -> Bound:
    """The bound ``value >= limit``."""
    return Bound(statement, value, ">=", limit, value >= limit)


def at_most(statement: str, value: float, limit: float) -> Bound:
    """The bound ``value < limit``."""
    return Bound(statement, value, "<", limit, value < limit)
