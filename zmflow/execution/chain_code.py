"""The text of compiled chains: from a run of operators to one Python function per batch (design D5).

A *segment* is a run of operators without a branch. Its function takes the rows of a batch and returns the
rows that leave the segment. Each user call stands on a line of its own, so that a traceback through the
function names the operator that was running: ``SegmentCode.node_of_line`` knows.

map and filter alone become one list comprehension::

    def segment(batch, emit):
        return [v2
            for v0 in batch
            for v1 in (f0(v0),)
            if f1(v1)
            for v2 in (f2(v1),)
        ]

``for v in (x,)`` is how CPython spells an assignment inside a comprehension at no cost. With flat_map or a
keyed aggregate it is a loop, which hands rows on whenever ``ROWS_HELD_MAX`` have gathered, so that a
flat_map without end holds a bounded number of them.

Rows with timestamps have a loop of their own, which carries each row's timestamp along and returns both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

__all__ = ["ROWS_HELD_MAX", "SegmentCode", "Step", "compile_segment"]

ROWS_HELD_MAX = 8192
"""Rows a flat_map gathers before they move on: some frames' worth for every consumer, so that handing
over costs little beside producing them."""

FLAT_MAP_CHUNK = 256
"""Rows taken at once from a generator: few enough to arrive early, enough to forget the cost of asking."""

StepKind = Literal["map", "filter", "flat_map", "reduce"]


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a segment: its node in the chain, what to call, its key and state if it has them.

    ``reject`` is told the row, the error and the timestamp (None without) when the call raises; the row is
    then left out. Without it, errors leave the segment. ``adapts`` marks a call that has a ``resolved()``
    method, which yields a faster function once the call has seen a record; it is asked once per batch. A
    reduce without ``key`` takes pairs of key and record.
    """

    node: int
    kind: StepKind
    call: Callable[..., Any]
    key: Callable[[Any], Any] | None = None
    state: dict[Any, Any] = field(default_factory=dict)
    adapts: bool = False
    reject: Callable[[Any, Exception, int | None], None] | None = None


@dataclass(frozen=True, slots=True)
class SegmentCode:
    """A compiled segment: ``run(batch, emit) -> rows``."""

    run: Callable[..., Any]
    filename: str
    source: str
    node_of_line: dict[int, int]


class _Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.node_of_line: dict[int, int] = {}

    def add(self, indent: int, text: str, node: int | None = None) -> None:
        self.lines.append("    " * indent + text)
        if node is not None:
            self.node_of_line[len(self.lines)] = node

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


_MISSING = object()
_MATERIALISED = frozenset((list, tuple))


def _chunks(result: Iterable[Any] | None) -> Iterator[list[Any]]:
    """What a flat_map returned, in pieces; None counts as nothing, as in PyFlink."""
    if result is None:
        return
    rows = iter(result)
    while piece := list(islice(rows, FLAT_MAP_CHUNK)):
        yield piece


def _whole(result: Iterable[Any] | None) -> list[Any]:
    """All that a flat_map returned, so that an error on the way leaves nothing half done."""
    return [] if result is None else list(result)


def compile_segment(
    name: str, steps: list[Step], *, ends_in_state: bool = False, timed: bool = False
) -> SegmentCode:
    """Compile the operators of a segment.

    Args:
        name: what tracebacks show as the file, in angle brackets.
        steps: at least one operator, in order.
        ends_in_state: the last step is a reduce that only keeps its state and emits nothing.
        timed: for rows with timestamps: ``run(rows, timestamps, emit) -> (rows, timestamps)``.
    """
    if timed:
        lines = _loop(steps, ends_in_state, timed=True)
    elif all(step.kind in ("map", "filter") and step.reject is None for step in steps):
        lines = _comprehension(steps)
    else:
        lines = _loop(steps, ends_in_state, timed=False)
    namespace: dict[str, Any] = {
        "MISSING": _MISSING,
        "MATERIALISED": _MATERIALISED,
        "chunks": _chunks,
        "whole": _whole,
        "ROWS_HELD_MAX": ROWS_HELD_MAX,
    }
    for index, step in enumerate(steps):
        namespace[f"f{index}"] = step.call
        namespace[f"reject{index}"] = step.reject
        if step.kind == "reduce":
            namespace[f"key{index}"] = step.key
            namespace[f"state{index}"] = step.state
    filename = f"<zmflow chain: {name}{', timed' if timed else ''}>"
    # The functions become default arguments, which are locals: no global look-up per record.
    exec(compile(lines.text, filename, "exec"), namespace)  # noqa: S102 - our own text
    return SegmentCode(namespace["segment"], filename, lines.text, lines.node_of_line)


def _signature(steps: list[Step], timed: bool = False) -> str:
    bound: list[str] = []
    for index, step in enumerate(steps):
        bound.append(f"f{index}=f{index}")
        if step.kind == "reduce":
            if step.key is not None:
                bound.append(f"key{index}=key{index}")
            bound.append(f"state{index}=state{index}")
            bound.append(f"get{index}=state{index}.get")
    return f"def segment(batch, {'times, ' if timed else ''}emit, {', '.join(bound)}):"


def _comprehension(steps: list[Step]) -> _Lines:
    lines = _Lines()
    lines.add(0, _signature(steps))
    lines.add(1, "return [")
    body = _Lines()
    value = 0
    for index, step in enumerate(steps):
        if step.kind == "map":
            body.add(2, f"for v{value + 1} in (f{index}(v{value}),)", step.node)
            value += 1
        else:
            body.add(2, f"if f{index}(v{value})", step.node)
    if steps[-1].kind == "map":
        # The last map needs no name: its call is the element itself.
        last = body.lines.pop()
        body.node_of_line.pop(len(body.lines) + 1)
        lines.add(2, last.strip().split(" in (", 1)[1].removesuffix(",)"), steps[-1].node)
    else:
        lines.add(2, f"v{value}")
    lines.add(2, "for v0 in batch")
    offset = len(lines.lines)
    for number, text in enumerate(body.lines, start=1):
        lines.lines.append(text)
        if number in body.node_of_line:
            lines.node_of_line[offset + number] = body.node_of_line[number]
    lines.add(1, "]")
    return lines


def _loop(steps: list[Step], ends_in_state: bool, timed: bool) -> _Lines:
    lines = _Lines()
    lines.add(0, _signature(steps, timed))
    lists = ("out", "out_times") if timed else ("out",)

    def fresh_lists(indent: int) -> None:
        for name in lists:
            lines.add(indent, f"{name} = []")
            lines.add(indent, f"append_{name} = {name}.append")

    fresh_lists(1)
    for index, step in enumerate(steps):
        if step.adapts:
            lines.add(1, f"f{index} = f{index}.resolved()")
    lines.add(1, "for v0, time in zip(batch, times):" if timed else "for v0 in batch:")
    indent, value = 2, 0
    flush_indents: list[int] = []
    for index, step in enumerate(steps):
        call = f"f{index}(v{value})"
        guard = _Guard(lines, index, step, f"v{value}", "time" if timed else "None")
        if step.kind == "map":
            guard.add(indent, f"v{value + 1} = {call}")
            value += 1
        elif step.kind == "filter":
            if step.reject is None:
                lines.add(indent, f"if not {call}:", step.node)
            else:
                guard.add(indent, f"r{index} = {call}")
                lines.add(indent, f"if not r{index}:")
            lines.add(indent + 1, "continue")
        elif step.kind == "flat_map":
            guard.add(indent, f"r{index} = {call}" if step.reject is None else f"r{index} = whole({call})")
            lines.add(
                indent,
                f"for c{index} in (r{index},) if r{index}.__class__ in MATERIALISED else chunks(r{index}):",
                step.node,
            )
            flush_indents.append(indent + 1)
            lines.add(indent + 1, f"for v{value + 1} in c{index}:")
            indent, value = indent + 2, value + 1
        else:
            value = _reduce_lines(guard, index, step, indent, value)
    if not ends_in_state:
        lines.add(indent, f"append_out(v{value})")
        if timed:
            lines.add(indent, "append_out_times(time)")
        if flush_indents:
            flush = flush_indents[-1]
            lines.add(flush, "if len(out) >= ROWS_HELD_MAX:")
            lines.add(flush + 1, f"emit({', '.join(lists)})")
            fresh_lists(flush + 1)
    lines.add(1, f"return {', '.join(lists)}")
    return lines


class _Guard:
    """Adds the lines of one step: plain, or with what becomes of a row for which they raise."""

    def __init__(self, lines: _Lines, index: int, step: Step, row: str, time: str) -> None:
        self._lines = lines
        self._step = step
        self._reject = f"reject{index}({row}, error, {time})"

    def add(self, indent: int, *texts: str) -> None:
        """Lines that may raise."""
        if self._step.reject is None:
            for text in texts:
                self._lines.add(indent, text, self._step.node)
            return
        self._lines.add(indent, "try:")
        for text in texts:
            self._lines.add(indent + 1, text, self._step.node)
        self._lines.add(indent, "except Exception as error:")
        self._lines.add(indent + 1, self._reject, self._step.node)
        self._lines.add(indent + 1, "continue")


def _reduce_lines(guard: _Guard, index: int, step: Step, indent: int, value: int) -> int:
    if step.key is None:
        first = f"k{index}, v{value + 1} = v{value}"
        value += 1
    else:
        first = f"k{index} = key{index}(v{value})"
    guard.add(
        indent,
        first,
        f"a{index} = get{index}(k{index}, MISSING)",
        f"v{value + 1} = state{index}[k{index}] = v{value} if a{index} is MISSING "
        f"else f{index}(a{index}, v{value})",
    )
    return value + 1
