"""A report as Markdown: the tables that stand in the README."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.results import BenchmarkResult, Figure, Report

__all__ = ["markdown"]


def markdown(report: Report) -> str:
    """The machine, the bounds, and the figures of each benchmark."""
    machine = report.machine
    about = f"zmflow {report.zmflow}, {report.date}: {machine.cpu}, {machine.cores} cores"
    lines = [
        f"{about}, {machine.memory_gib} GiB, {machine.python}, {machine.system}.",
        "Medians of the rounds of one run, after a warm-up; the range of the samples in brackets.",
    ]
    if report.quick:
        lines.append("**A quick run: it shows that the benchmarks work, its figures mean nothing.**")
    lines += ["", "| What must hold | Measured | Bound | |", "|---|---:|---:|---|"]
    for result in report.results:
        for bound in result.bounds:
            verdict = "holds" if bound.holds else "**missed**"
            limit = f"{'≥' if bound.relation == '>=' else '<'} {_number(bound.limit)}"
            lines.append(
                f"| {result.name}: {bound.statement} | {_number(bound.value)} | {limit} | {verdict} |"
            )
    for result in report.results:
        lines += ["", *_figures(result)]
    return "\n".join(lines)


def _figures(result: BenchmarkResult) -> Iterator[str]:
    parameters = ", ".join(
        f"{name} {value:,}" if not isinstance(value, str) else f"{name} {value}"
        for name, value in result.parameters.items()
    )
    yield f"**{result.title}** ({parameters}; {result.verified})"
    yield ""
    scopes = [
        scope for scope in ("steady state", "whole process") if any(e.scope == scope for e in result.figures)
    ]
    yield "| | Unit | " + " | ".join(scope.capitalize() for scope in scopes) + " |"
    yield "|---|---|" + "---:|" * len(scopes)
    by_name: dict[tuple[str, str], dict[str, Figure]] = {}
    for each in result.figures:
        by_name.setdefault((each.name, each.unit), {})[each.scope] = each
    for (name, unit), found in by_name.items():
        yield f"| {name} | {unit} | " + " | ".join(_cell(found.get(scope)) for scope in scopes) + " |"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    low, high = min(figure.samples), max(figure.samples)
    return f"{_number(figure.median)} ({_number(low)} to {_number(high)})"


def _number(value: float) -> str:
    """Three significant digits, thousands apart.

    >>> _number(1234567.0), _number(0.01234), _number(2)
    ('1,230,000', '0.0123', '2.00')
    """
    if value == 0:
        return "0"
    if abs(value) >= 100:
        digits = len(str(int(abs(value))))
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:#.3g}"
