"""One job in full, as ``zmflow info`` prints it: state, vertices, subtasks, what failed and what followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from zmflow.cli.checkpoints import checkpoints_sentence
from zmflow.cli.output import print_lines, print_table
from zmflow.cli.progress import vertex_records, vertex_state
from zmflow.cli.times import duration_text, now_ms, time_since, when

if TYPE_CHECKING:
    from zmflow.protocol.messages import ExceptionEntry, JobStatus, TaskFailure

__all__ = ["failure_place", "history_lines", "print_status"]


def print_status(status: JobStatus) -> None:
    """One job in full, for people."""
    print_lines([*_head(status), ""])
    print_table(
        [
            "Vertex",
            "Name",
            "State",
            "Parallelism",
            "Sharing group",
            "Co-location group",
            "Records in",
            "Records out",
        ],
        [
            [
                v.vertex_id,
                v.name,
                vertex_state(v),
                v.parallelism,
                v.sharing_group,
                v.co_location_group or "-",
                *vertex_records(v),
            ]
            for v in status.vertices
        ],
        empty="The job has no vertices.",
    )
    print_lines([""])
    _print_subtasks(status)
    if status.exceptions:
        print_lines(["", "Failures, the newest last", *history_lines(status.exceptions)])
    failure = status.failure or (status.exceptions[-1].failure if status.exceptions else None)
    if failure is not None:
        print_lines(["", *_failure_lines(failure)])


def _head(status: JobStatus) -> Iterator[str]:
    summary = status.summary
    yield f"Job       {summary.name} ({summary.job_id})"
    yield f"State     {summary.state}" + (f": {status.reason}" if status.reason else "")
    yield f"Submitted {when(summary.submitted_ms)}"
    if summary.finished_ms:
        yield f"Finished  {when(summary.finished_ms)}"
    yield f"Ran for   {status.run_ms / 1000:.1f} s"
    yield f"Restarts  {summary.restarts}"
    if status.checkpoints is not None:
        yield f"Checkpoints {checkpoints_sentence(status.checkpoints)}"
    for note in status.notes:
        yield f"Note      {note}"


def _print_subtasks(status: JobStatus) -> None:
    now = now_ms()
    print_table(
        ["Subtask", "State", "For", "Attempt", "Host", "TaskManager", "Slot", "Records in", "Records out"],
        [
            [
                f"{v.vertex_id} {s.subtask_index + 1}/{v.parallelism}",
                s.state,
                time_since(s.since_ms, now),
                str(s.attempt_number),
                s.host or "-",
                s.taskmanager_id or "-",
                str(s.slot_index) if s.taskmanager_id else "-",
                s.records_in,
                s.records_out,
            ]
            for v in status.vertices
            for s in v.subtasks
        ],
        empty="No subtask has a slot yet.",
    )


def history_lines(entries: Sequence[ExceptionEntry]) -> Iterator[str]:
    """What failed, where, and what followed: some lines for each failure."""
    for entry in entries:
        yield f"{when(entry.at_ms)}  {entry.failure.summary}"
        if place := failure_place(entry.failure, entry.taskmanager_id, entry.slot_index):
            yield f"  in {place}" if entry.failure.vertex_name else f"  on {place}"
        yield f"  {_consequence(entry)}"
        for other in entry.concurrent:
            where = failure_place(other)
            yield "    meanwhile" + (f", {where}" if where else "") + f": {other.summary}"


def failure_place(failure: TaskFailure, taskmanager_id: str = "", slot_index: int = -1) -> str:
    """Task, host, TaskManager and slot, as far as they are known.

    >>> from zmflow.protocol.messages import TaskFailure
    >>> failure_place(TaskFailure("user", "E", "node7", "Map", subtask_index=1), "node7-3f", 0)
    'Map (subtask 2), host node7, TaskManager node7-3f, slot 0'
    """
    parts = []
    if failure.vertex_name:
        subtask = f" (subtask {failure.subtask_index + 1})" if failure.subtask_index >= 0 else ""
        parts.append(failure.vertex_name + subtask)
    if failure.host:
        parts.append(f"host {failure.host}")
    if taskmanager_id:
        parts.append(f"TaskManager {taskmanager_id}")
    if slot_index >= 0:
        parts.append(f"slot {slot_index}")
    return ", ".join(parts)


def _consequence(entry: ExceptionEntry) -> str:
    if entry.backoff_ms < 0:
        return "the job ended"
    names = f": {', '.join(entry.restarted)}" if entry.restarted else ""
    return (
        f"restarted {entry.restarted_tasks} of {entry.tasks_total} tasks "
        f"after {duration_text(entry.backoff_ms)}{names}"
    )


def _failure_lines(failure: TaskFailure) -> Iterator[str]:
    """The newest failure in full: the user's own frames are what is looked for."""
    yield failure.summary
    if failure.user_traceback:
        yield failure.user_traceback.rstrip("\n")
    if failure.hint:
        yield f"Hint: {failure.hint}"
