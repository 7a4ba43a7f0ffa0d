"""Progress of a job: the state of a vertex, lines for pipes, a table for terminals."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from zmflow.cli import progress
from zmflow.cli.progress import LineProgress, LiveProgress, vertex_records, vertex_state
from zmflow.protocol.messages import JobState, JobStatus, JobSummary, SubtaskStatus, TaskState, VertexStatus


def vertex(*states: TaskState, records: int = 0, attempt: int = 0) -> VertexStatus:
    """A vertex whose subtasks are in these states."""
    subtasks = [
        SubtaskStatus(i, state, attempt, "a", "tm", i, "a1-1", records, records * 2, 0, 0, 0, 0)
        for i, state in enumerate(states)
    ]
    return VertexStatus("v1", "Source -> map", ["Source", "map"], len(states), "default", subtasks)


def status(state: JobState, *vertices: VertexStatus, reason: str = "") -> JobStatus:
    """A job in this state."""
    return JobStatus(1, 0, JobSummary("9f", "count", state, 1, 0, 2, 1, 0), reason, list(vertices), None, 0)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("RUNNING", "FINISHED"), "RUNNING"),
        (("FINISHED", "FINISHED"), "FINISHED"),
        (("DEPLOYING", "RUNNING"), "DEPLOYING"),
        (("FINISHED", "FAILED"), "FAILED"),
        (("CANCELED", "RUNNING"), "CANCELED"),
        ((), "CREATED"),
    ],
)
def test_a_vertex_is_as_far_as_its_last_subtask(states: tuple[TaskState, ...], expected: str) -> None:
    """One failure decides; otherwise the subtask furthest behind."""
    assert expected == vertex_state(vertex(*states))


def test_records_are_summed_over_subtasks() -> None:
    """The numbers of a vertex are those of all its subtasks."""
    assert vertex_records(vertex("RUNNING", "RUNNING", records=3)) == (6, 12)


def test_lines_are_written_once_per_change() -> None:
    """Pushes without news write nothing, so a log does not fill with them."""
    stream = io.StringIO()
    lines = LineProgress(stream)
    waiting = status("CREATED", vertex("CREATED"), reason="waiting for 4 slots, 2 are free")
    for step in (
        waiting,
        waiting,
        status("RUNNING", vertex("RUNNING")),
        status("RUNNING", vertex("RUNNING", records=9)),
    ):
        lines.update(step)
    lines.update(status("FINISHED", vertex("FINISHED", records=9)))
    lines.close()
    assert stream.getvalue().splitlines() == [
        "Job count (9f) is CREATED: waiting for 4 slots, 2 are free",
        "Job count (9f) is RUNNING",
        "  Source -> map x1 is RUNNING",
        "Job count (9f) is FINISHED",
        "  Source -> map x1 is FINISHED, 9 records in, 18 out",
    ]


def test_a_job_that_is_over_at_once_draws_nothing() -> None:
    """Nothing is imported, drawn or erased for a job of a few milliseconds."""
    terminal = io.StringIO()
    live = LiveProgress(terminal)
    live.update(status("RUNNING", vertex("RUNNING")))
    live.close()
    assert terminal.getvalue() == ""


def test_the_live_table_shows_each_vertex_and_lets_text_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vertex, state and records are drawn; printed lines come through whole."""
    monkeypatch.setattr(progress, "LIVE_AFTER_SECONDS", 0.0)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = io.StringIO()
    live = LiveProgress(terminal)
    live.update(status("RUNNING", vertex("RUNNING", records=1500)))
    live.write_above("a printed line\n")
    live.update(status("RUNNING", vertex("RUNNING", records=2500), reason="nearly there"))
    live.close()
    drawn = terminal.getvalue()
    assert all(
        part in drawn for part in ("Source -> map", "RUNNING", "2.5 k", "nearly there", "a printed line\n")
    )


def test_a_restart_is_told_with_its_reason_and_again_when_it_runs() -> None:
    """The wait is not counted down; a vertex that runs again is told from one that never stopped."""
    stream = io.StringIO()
    lines = LineProgress(stream)
    reason = "restarts 1 of 2 tasks in 1.0 s: ValueError: bad line 7"
    for step in (
        status("RUNNING", vertex("RUNNING", records=9)),
        status("RESTARTING", vertex("CREATED", attempt=1), reason=reason),
        status("RESTARTING", vertex("CREATED", attempt=1), reason=reason.replace("1.0 s", "0.4 s")),
        status("RUNNING", vertex("RUNNING", attempt=1)),
        status("RUNNING", vertex("RUNNING", records=3, attempt=1)),
    ):
        lines.update(step)
    assert stream.getvalue().splitlines() == [
        "Job count (9f) is RUNNING",
        "  Source -> map x1 is RUNNING",
        f"Job count (9f) is RESTARTING: {reason}",
        "Job count (9f) is RUNNING",
        "  Source -> map x1 is RUNNING (restart 1)",
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({0: (0, 100, 10)}, {0: (0, 300, 30)}, (100.0, 10.0)),
        ({0: (0, 100, 10)}, {0: (1, 60, 6)}, (30.0, 3.0)),
        ({0: (0, 100, 10), 1: (0, 100, 10)}, {0: (1, 0, 0), 1: (0, 120, 12)}, (10.0, 1.0)),
        ({0: (0, 100, 10)}, {0: (0, 90, 9)}, (0.0, 0.0)),
        ({}, {0: (0, 500, 50)}, (250.0, 25.0)),
        ({0: (0, 100, 10)}, {}, (0.0, 0.0)),
    ],
    ids=["goes on", "restarted", "one of two restarted", "late news", "a new subtask", "fewer subtasks"],
)
def test_rates_stay_true_when_counters_begin_anew(
    before: progress.Counts, after: progress.Counts, expected: tuple[float, float]
) -> None:
    """In two seconds: what a new attempt has counted, it has counted since."""
    assert progress.record_rates(before, after, 2.0) == expected


def test_the_live_table_shows_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """State in colour, its reason, and how many there were."""
    monkeypatch.setattr(progress, "LIVE_AFTER_SECONDS", 0.0)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = io.StringIO()
    live = LiveProgress(terminal)
    restarting = status("RESTARTING", vertex("CANCELED"), reason="restarts 2 of 2 tasks in 1.0 s: E")
    summary = type(restarting.summary)("9f", "count", "RESTARTING", 1, 0, 2, 0, 0, 4)
    live.update(type(restarting)(1, 0, summary, restarting.reason, restarting.vertices, None, 0))
    live.close()
    drawn = terminal.getvalue()
    assert "\x1b[33mRESTARTING" in drawn and "restarts: 4" in drawn
    assert "restarts 2 of 2 tasks in 1.0 s: E" in drawn


RELAYED = """
import os, sys
from zmflow.cli.terminal import TerminalRelay
with TerminalRelay() as relay:
    relay.start(lambda text: (relay.terminal.write("<" + text.rstrip() + ">\\n"), relay.terminal.flush()))
    os.write(1, b"half ")
    os.write(1, b"a line\\n")
    print("printed")
    print("an error", file=sys.stderr)
    os.write(1, b"no newline")
print("after")
"""


def test_the_relay_hands_over_whole_lines_and_restores_the_terminal() -> None:
    """On a real terminal: each line once, halves joined, the last one without its newline, then silence."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", RELAYED], stdout=theirs, stderr=theirs, timeout=30, check=False
        )
        os.close(theirs)
        shown = os.read(ours, 65536).decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
    assert done.returncode == 0, shown
    text = shown.replace(">\n<", "\n").replace("<", "").replace(">", "")
    assert text.splitlines() == ["half a line", "printed", "an error", "no newline", "after"]
