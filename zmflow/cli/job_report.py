"""One job in full, as ``zmflow info`` prints it: state, vertices, subtasks, what failed and what followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from zmflow.cli.checkpoints import checkpoints_sentence
from zmflow.cli.output import print_lines, print_table
from zmflow.cli.progress import vertex_records, vertex_state
from zmflow.cli.times import duration_text, now_ms, time_since, when
from zmflow.protocol.metric_samples import identifier

if TYPE_CHECKING:
    from zmflow.protocol.messages import ExceptionEntry, JobStatus, TaskFailure
    from zmflow.protocol.metric_samples import VertexMetric

__all__ = ["failure_place", "history_lines", "print_status"]

GAUGE_TEXTS_MAX = 3
"""Different texts of a gauge's subtasks that its line shows; ``--json`` has all."""

GAUGE_CHARACTERS_MAX = 40
"""Characters of each of them."""


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
    if any(v.metrics for v in status.vertices):
        print_lines([""])
        _print_metrics(status)
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


def _print_metrics(status: JobStatus) -> None:
    print_table(
        ["Vertex", "Operator", "Metric", "Kind", "Value"],
        [
            [v.vertex_id, metric.operator or "-", identifier(metric.groups, metric.name), metric.kind, text]
            for v in status.vertices
            for metric in v.metrics
            for text in [_metric_text(metric)]
        ],
        empty="No function has metrics.",
    )


def _metric_text(metric: VertexMetric) -> str:
    """What a metric of all subtasks comes to.

    >>> from zmflow.protocol.metric_samples import VertexMetric
    >>> _metric_text(VertexMetric("Map", [], "bad", "counter", 2, count=1200))
    '1,200'
    >>> _metric_text(VertexMetric("Map", [], "calls", "meter", 2, count=1200, rate=2.5))
    '1,200, 2.5 per second'
    >>> _metric_text(VertexMetric("Map", [], "size", "gauge", 2, min=3, max=5, values=[(0, 3), (1, 5)]))
    '3 to 5'
    """
    if metric.kind == "counter":
        return _number(metric.count)
    if metric.kind == "meter":
        return f"{_number(metric.count)}, {_number(metric.rate)} per second"
    if metric.kind == "distribution":
        if not metric.count:
            return "0"
        span = f"{_number(metric.min)} to {_number(metric.max)}"
        return f"{_number(metric.count)}, {span}, mean {_number(metric.mean)}, sum {_number(metric.sum)}"
    texts = list(dict.fromkeys(" ".join(v.split()) for _, v in metric.values if isinstance(v, str)))
    shown = [
        text if len(text) <= GAUGE_CHARACTERS_MAX else text[:GAUGE_CHARACTERS_MAX] + "…" for text in texts
    ]
    if len(shown) > GAUGE_TEXTS_MAX:
        shown[GAUGE_TEXTS_MAX:] = [f"{len(shown) - GAUGE_TEXTS_MAX} more"]
    if metric.min is not None:
        least, greatest = _number(metric.min), _number(metric.max)
        shown.insert(0, least if least == greatest else f"{least} to {greatest}")
    return ", ".join(shown)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


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
