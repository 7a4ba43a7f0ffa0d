"""How a job is doing, for somebody who watches: live on a terminal, a line per change elsewhere.

Both kinds are told every ``JobStatus`` the JobManager pushes and write to standard error only, so a job's
own output stays clean in a pipe.
"""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from zmflow.cli.output import STATE_COLOURS
from zmflow.protocol.messages import JobStatus, TaskState, VertexStatus

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

__all__ = [
    "Counts",
    "LineProgress",
    "LiveProgress",
    "Progress",
    "record_rates",
    "short_count",
    "vertex_records",
    "vertex_state",
]

LIVE_AFTER_SECONDS = 0.4
"""A job that is over sooner needs no picture, and is spared the 0.1 s that importing rich takes."""

_ORDER: tuple[TaskState, ...] = (
    "FAILED",
    "CANCELING",
    "CANCELED",
    "CREATED",
    "SCHEDULED",
    "DEPLOYING",
    "INITIALIZING",
    "RUNNING",
    "FINISHED",
)

_NUMBERS = re.compile(r"\d+(\.\d+)?")


class Progress(Protocol):
    """Somebody who wants to know about every change of a job."""

    def update(self, status: JobStatus) -> None:
        """The job's newest status. May be called from any thread, one call at a time."""
        ...

    def close(self) -> None:
        """There will be no more; leave the terminal as it was."""
        ...


def vertex_state(vertex: VertexStatus) -> TaskState:
    """The state that says most about a vertex: a failure, else that of its subtask furthest behind."""
    return min((subtask.state for subtask in vertex.subtasks), key=_ORDER.index, default="CREATED")


def vertex_records(vertex: VertexStatus) -> tuple[int, int]:
    """Records in and out of all subtasks of a vertex."""
    return (
        sum(subtask.records_in for subtask in vertex.subtasks),
        sum(subtask.records_out for subtask in vertex.subtasks),
    )


def _restart_text(vertex: VertexStatus) -> str:
    """Tells a vertex that runs again from one that runs still."""
    restart = max((subtask.attempt_number for subtask in vertex.subtasks), default=0)
    return f" (restart {restart})" if restart else ""


def short_count(count: float) -> str:
    """A number of records in at most six characters.

    >>> [short_count(n) for n in (0, 999, 1500, 25_000_000, 3.2e9)]
    ['0', '999', '1.5 k', '25.0 M', '3.2 G']
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"


class LineProgress:
    """A line for each change of state of the job or one of its vertices."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._last: dict[str, str] = {}

    def update(self, status: JobStatus) -> None:
        """Print what changed since the last call."""
        summary = status.summary
        # While tasks run the reason counts them, and the lines of the vertices say that already.
        told = status.reason and summary.state not in ("RUNNING", "FINISHED")
        reason = f": {status.reason}" if told else ""
        # The reason of a restart counts down; only what else changes in it is worth a line.
        same = _NUMBERS.sub("", reason) if summary.state == "RESTARTING" else reason
        head = f"Job {summary.name} ({summary.job_id}) is {summary.state}"
        self._say("job", head + same, head + reason)
        for vertex in status.vertices:
            state = vertex_state(vertex)
            if state != "CREATED":
                records_in, records_out = vertex_records(vertex)
                counts = f", {records_in} records in, {records_out} out" if state == "FINISHED" else ""
                line = f"  {vertex.name} x{vertex.parallelism} is {state}{_restart_text(vertex)}"
                self._say(vertex.vertex_id, line, line + counts)

    def _say(self, subject: str, news: str, line: str) -> None:
        """Write the line if ``news`` is any about this subject."""
        if self._last.get(subject) != news:
            self._last[subject] = news
            self._stream.write(line + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Nothing is held."""


Counts = dict[int, tuple[int, int, int]]
"""Of each subtask: its attempt, records in and records out since that attempt began."""


def record_rates(before: Counts, after: Counts, seconds: float) -> tuple[float, float]:
    """Records in and out per second. What a new attempt has counted, it has counted since ``before``."""
    records_in = records_out = 0
    for subtask, (attempt, now_in, now_out) in after.items():
        then_attempt, then_in, then_out = before.get(subtask, (attempt, 0, 0))
        same = attempt == then_attempt
        records_in += max(now_in - then_in, 0) if same else now_in
        records_out += max(now_out - then_out, 0) if same else now_out
    return records_in / seconds, records_out / seconds


class LiveProgress:
    """A small table at the bottom of a terminal, drawn again at each status, gone when the job is over.

    Text that the job prints meanwhile must go through ``write_above``.
    """

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._started = time.monotonic()
        self._console: Console | None = None
        self._live: Live | None = None
        self._counted: dict[str, tuple[float, Counts]] = {}
        self._rates: dict[str, tuple[float, float]] = {}

    def update(self, status: JobStatus) -> None:
        """Draw the table again."""
        now = time.monotonic()
        self._measure(status, now)
        if self._live is None:
            if now - self._started < LIVE_AFTER_SECONDS:
                return
            from rich.console import Console
            from rich.live import Live

            self._console = Console(file=self._terminal)
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
            )
            self._live.start()
        self._live.update(self._table(status), refresh=True)

    def write_above(self, lines: str) -> None:
        """Print whole lines above the table."""
        if self._console is None:
            self._terminal.write(lines)
            self._terminal.flush()
        else:
            self._console.out(lines, end="", highlight=False)

    def close(self) -> None:
        """Remove the table."""
        if self._live is not None:
            self._live.stop()
            self._live = self._console = None

    def _measure(self, status: JobStatus, now: float) -> None:
        for vertex in status.vertices:
            before = self._counted.get(vertex.vertex_id)
            if before is None or now - before[0] >= LIVE_AFTER_SECONDS:
                counts = {
                    s.subtask_index: (s.attempt_number, s.records_in, s.records_out) for s in vertex.subtasks
                }
                self._counted[vertex.vertex_id] = (now, counts)
                if before is not None:
                    self._rates[vertex.vertex_id] = record_rates(before[1], counts, now - before[0])

    def _table(self, status: JobStatus) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        summary = status.summary
        elapsed = time.monotonic() - self._started
        restarts = f"  restarts: {summary.restarts}" if summary.restarts else ""
        title = Text.assemble(
            (f"{summary.name}  ", "bold"),
            (summary.state, STATE_COLOURS.get(summary.state, "")),
            f"  {summary.tasks_running} of {summary.tasks_total} tasks run  {elapsed:.0f} s{restarts}",
            f"\n{status.reason}" if status.reason else "",
        )
        table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
        for column in ("Vertex", "State"):
            table.add_column(column, no_wrap=True)
        for column in ("Subtasks", "In", "In/s", "Out", "Out/s"):
            table.add_column(column, justify="right", no_wrap=True)
        for vertex in status.vertices:
            state = vertex_state(vertex)
            records_in, records_out = vertex_records(vertex)
            in_rate, out_rate = self._rates.get(vertex.vertex_id, (0.0, 0.0))
            table.add_row(
                Text(vertex.name, overflow="ellipsis"),
                Text(state, style=STATE_COLOURS.get(state, "")),
                str(vertex.parallelism),
                *(short_count(number) for number in (records_in, in_rate, records_out, out_rate)),
            )
        return table
