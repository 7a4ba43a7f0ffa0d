"""What ``zmflow info`` prints of a job that failed and was restarted."""

from __future__ import annotations

import json
import re

import pytest
from msgspec.structs import replace

from zmflow.cli.job_report import history_lines, print_status
from zmflow.cli.output import print_json
from zmflow.cli.times import when
from zmflow.protocol.messages import (
    ExceptionEntry,
    JobStatus,
    JobSummary,
    SubtaskStatus,
    TaskFailure,
    VertexStatus,
)
from zmflow.protocol.metric_samples import VertexMetric

FAILURE = TaskFailure(
    "user",
    "ValueError: bad line 7",
    "node7",
    "Map -> Sink",
    "Map",
    1,
    'Traceback (most recent call last):\n  File "job.py", line 3\nValueError: bad line 7\n',
    hint="Skip such lines.",
)
KILLED = TaskFailure("worker", "worker 4711 was killed by signal 9 (SIGKILL)", "node8", "Source")
LOST = TaskFailure("taskmanager", "TaskManager node8-77aa was lost", "node8")
RESTARTED = ExceptionEntry(
    5_000, FAILURE, "node7-3f", 0, ["Source", "Map -> Sink"], 4, 8, 1_000, [KILLED, LOST]
)
ENDED = ExceptionEntry(9_000, LOST, "node8-77aa", -1, [], 0, 8, -1)
NOTE = "Sources restart from their beginning: there are no checkpoints yet."


def status(*exceptions: ExceptionEntry, failure: TaskFailure | None = None) -> JobStatus:
    """A job of one vertex with this history."""
    subtasks = [
        SubtaskStatus(i, "RUNNING", 1, "node7", "node7-3f", i, "a1-1", 5, 7, 0, 0, 0, 0, 4_000)
        for i in range(2)
    ]
    vertices = [VertexStatus("v1", "Map -> Sink", ["Map", "Sink"], 2, "default", subtasks, "pair")]
    summary = JobSummary("9f", "count", "RUNNING", 1, 0, 8, 8, 0, 3)
    return JobStatus(1, 0, summary, "8 of 8 tasks run", vertices, failure, 9_000, list(exceptions), [NOTE])


def test_info_says_how_often_it_was_restarted_and_what_that_means(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Restarts, notes, the co-location group of a vertex and how long a subtask is in its state."""
    print_status(status())
    lines = capsys.readouterr().out.splitlines()
    assert "Restarts  3" in lines and f"Note      {NOTE}" in lines
    headings = next(i for i, line in enumerate(lines) if line.startswith("Vertex"))
    assert "Co-location group" in lines[headings] and " pair " in lines[headings + 1]
    (first,) = (line for line in lines if line.startswith("v1 1/2"))
    assert first.split()[2] == "RUNNING" and " d " in first
    assert "Failures" not in "\n".join(lines)


def test_each_failure_says_what_where_and_what_followed() -> None:
    """Failures that came while it waited are indented below the one that began it."""
    assert list(history_lines([RESTARTED, ENDED])) == [
        f"{when(5_000)}  ValueError: bad line 7",
        "  in Map -> Sink (subtask 2), host node7, TaskManager node7-3f, slot 0",
        "  restarted 4 of 8 tasks after 1.0 s: Source, Map -> Sink",
        "    meanwhile, Source, host node8: worker 4711 was killed by signal 9 (SIGKILL)",
        "    meanwhile, host node8: TaskManager node8-77aa was lost",
        f"{when(9_000)}  TaskManager node8-77aa was lost",
        "  on host node8, TaskManager node8-77aa",
        "  the job ended",
    ]


@pytest.mark.parametrize("failure", [None, FAILURE], ids=["it runs again", "it has failed"])
def test_the_newest_failure_is_shown_with_the_users_frames_and_the_hint(
    capsys: pytest.CaptureFixture[str], failure: TaskFailure | None
) -> None:
    """Whoever asks for a job that restarts over and over looks for these lines."""
    print_status(status(RESTARTED, failure=failure))
    assert capsys.readouterr().out.endswith(
        'Traceback (most recent call last):\n  File "job.py", line 3\nValueError: bad line 7\n'
        "Hint: Skip such lines.\n"
    )


def test_json_has_the_whole_history(capsys: pytest.CaptureFixture[str]) -> None:
    """Every field, at every depth."""
    print_json(status(RESTARTED, ENDED))
    printed = json.loads(capsys.readouterr().out)
    assert printed["exceptions"][0]["concurrent"][0]["summary"] == KILLED.summary
    assert (printed["exceptions"][1]["backoff_ms"], printed["notes"]) == (-1, [NOTE])
    assert (printed["summary"]["restarts"], printed["vertices"][0]["co_location_group"]) == (3, "pair")


def test_info_shows_the_metrics_of_all_subtasks(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each, by what its kind has; long texts and many are cut short."""
    texts: list[tuple[int, int | float | str]] = [(i, f"{i}" * 50) for i in range(5)]
    metrics = [
        VertexMetric("Map", [("table", "users")], "hits", "counter", 2, count=12_345),
        VertexMetric("Map", [], "calls", "meter", 2, count=10, rate=0.5),
        VertexMetric("Map", [], "size", "distribution", 2, count=4, sum=10, min=1, max=4, mean=2.5),
        VertexMetric("Map", [], "none", "distribution", 2, count=0, sum=0),
        VertexMetric("Sink", [], "level", "gauge", 2, min=3, max=3, values=[(0, 3), (1, 3)]),
        VertexMetric("Sink", [], "state", "gauge", 5, values=texts),
        VertexMetric("", [], "mixed", "gauge", 3, min=1, max=2.5, values=[(0, 1), (1, 2.5), (2, "off\n")]),
    ]
    running = status()
    vertices = [replace(running.vertices[0], metrics=metrics)]
    print_status(replace(running, vertices=vertices))
    lines = capsys.readouterr().out.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("Vertex  Operator"))
    rows = [re.split(r" {2,}", line) for line in lines[begin + 1 : begin + 8]]
    assert rows == [
        ["v1", "Map", "table.users.hits", "counter", "12,345"],
        ["v1", "Map", "calls", "meter", "10, 0.5 per second"],
        ["v1", "Map", "size", "distribution", "4, 1 to 4, mean 2.5, sum 10"],
        ["v1", "Map", "none", "distribution", "0"],
        ["v1", "Sink", "level", "gauge", "3"],
        ["v1", "Sink", "state", "gauge", f"{'0' * 40}…, {'1' * 40}…, {'2' * 40}…, 2 more"],
        ["v1", "-", "mixed", "gauge", "1 to 2.5, off"],
    ]


def test_numbers_json_has_no_word_for_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    """Python would write NaN and Infinity, which other readers refuse."""
    metric = VertexMetric("Map", [], "d", "distribution", 1, 1, None, float("inf"), float("nan"), 2.5)
    print_json(metric)
    printed = json.loads(capsys.readouterr().out)
    assert [printed[name] for name in ("sum", "min", "max")] == [None, None, 2.5]
