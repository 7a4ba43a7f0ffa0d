"""What ``zmflow info`` prints of a job that failed and was restarted."""

from __future__ import annotations

import json

import pytest

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
