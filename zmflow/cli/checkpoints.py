"""``zmflow checkpoints``: what became of the checkpoints of a job, and how long which task took."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from zmflow.cli.jobs import cluster_client, find_job
from zmflow.cli.options import Definitions, JobManagerAddress, Json
from zmflow.cli.output import print_json, print_lines, print_table
from zmflow.cli.times import duration_text, now_ms, time_since, when
from zmflow.errors import ConfigurationError

if TYPE_CHECKING:
    from zmflow.protocol.checkpoint_statistics import CheckpointRecord, CheckpointSummary
    from zmflow.protocol.messages import CheckpointStatistics

__all__ = ["checkpoints", "checkpoints_sentence", "print_checkpoint", "print_checkpoints"]


def checkpoints(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="Id of the job, or the first characters of it, or its name.")
    ],
    number: Annotated[
        int | None, typer.Option("--id", metavar="NUMBER", min=1, help="This checkpoint, task by task.")
    ] = None,
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    as_json: Json = False,
) -> None:
    """Show the newest checkpoints of a job: how far, how long, how large, why one failed.

    Example: zmflow checkpoints 3f2a --id 7
    """
    with cluster_client(definitions, jobmanager) as client:
        statistics = client.checkpoints(find_job(client.list_jobs(), job), number or 0)
    if number is None:
        if as_json:
            print_json(statistics)
        else:
            print_checkpoints(statistics)
        return
    record = next((each for each in statistics.records if each.checkpoint_id == number), None)
    if record is None:
        known = ", ".join(str(each.checkpoint_id) for each in statistics.records)
        raise ConfigurationError(
            f"Checkpoint {number} of job {statistics.job_id} is not known.",
            detail=f"Known: {known or 'none'}.",
            hint="The newest ten are kept.",
        )
    if as_json:
        print_json(record)
    else:
        print_checkpoint(record)


def checkpoints_sentence(summary: CheckpointSummary) -> str:
    """All checkpoints of a job in one line.

    >>> from zmflow.protocol.checkpoint_statistics import CheckpointSummary
    >>> checkpoints_sentence(CheckpointSummary(1000))
    'none is complete yet'
    """
    if summary.last_id:
        from zmflow.protocol.resources import size_text

        ago = time_since(summary.last_wall_ms, now_ms())
        took = f"{size_text(summary.last_bytes)} in {_millis(summary.last_duration_ms)}"
        parts = [f"{summary.completed} complete, the last is {summary.last_id}: {ago} ago, {took}"]
    else:
        parts = ["none is complete yet"]
    if summary.in_progress:
        parts.append(f"{summary.in_progress} under way")
    if summary.aborted:
        parts.append(f"{summary.aborted} given up")
    if summary.failed:
        parts.append(f"{summary.failed} failed, the last because: {summary.last_failure}")
    return "; ".join(parts)


def print_checkpoints(statistics: CheckpointStatistics) -> None:
    """The newest checkpoints for people, and all of them in a line."""
    from zmflow.protocol.resources import size_text

    summary = statistics.summary
    print_table(
        [
            "Checkpoint",
            "Kind",
            "State",
            "Triggered",
            "Took",
            "Tasks",
            "Size",
            "Written",
            "In flight",
            "Aligned for",
            "Stood still",
            "Wrote for",
        ],
        [
            [
                record.checkpoint_id,
                record.kind,
                _state(record),
                when(record.triggered_wall_ms),
                _millis(record.duration_ms),
                f"{record.acknowledged}/{record.tasks}",
                size_text(record.state_bytes),
                size_text(record.written_bytes),
                size_text(record.in_flight_bytes) if record.unaligned else "-",
                _micros(record.alignment_us),
                _micros(record.sync_us),
                _micros(record.async_us),
            ]
            for record in statistics.records
        ],
        empty="The job takes no checkpoints." if summary is None else "The job has taken no checkpoint yet.",
    )
    print_lines(_below(statistics))


def _below(statistics: CheckpointStatistics) -> Iterator[str]:
    reasons = [record for record in statistics.records if record.failure]
    if reasons:
        yield ""
        for record in reasons:
            yield f"{record.checkpoint_id}: {record.failure}"
    kept = [r.location for r in statistics.records if r.state == "COMPLETED" and not r.discarded]
    if kept and kept[-1]:
        yield ""
        yield f"The last complete one is in {kept[-1]}"
    if statistics.summary is not None:
        yield ""
        interval_ms = statistics.summary.interval_ms
        every = f"Every {_millis(interval_ms)}" if interval_ms > 0 else "Only when asked for"
        yield f"{every}; {checkpoints_sentence(statistics.summary)}."


def print_checkpoint(record: CheckpointRecord) -> None:
    """One checkpoint for people, task by task."""
    from zmflow.protocol.resources import size_text

    lines = [
        f"Checkpoint {record.checkpoint_id} ({record.kind})",
        f"State      {_state(record)}" + (f": {record.failure}" if record.failure else ""),
        f"Triggered  {when(record.triggered_wall_ms)}",
        f"Took       {_millis(record.duration_ms)}",
        f"Tasks      {record.acknowledged} of {record.tasks} have acknowledged",
        f"Size       {size_text(record.state_bytes)}, {size_text(record.written_bytes)} written",
        *_overtaken(record),
        f"Location   {record.location or 'the memory of the JobManager'}"
        + (" (deleted)" if record.discarded else ""),
        "",
    ]
    print_lines(lines)
    print_table(
        [
            "Task",
            "Name",
            "After",
            "Barrier after",
            "Aligned for",
            "Stood still",
            "Wrote for",
            "Size",
            "Written",
            "In flight",
        ],
        [
            [
                f"{task.vertex_id} {task.subtask_index + 1}",
                task.vertex_name,
                _millis(task.after_ms),
                _micros(task.metrics.start_delay_us),
                _micros(task.metrics.alignment_us),
                _micros(task.metrics.sync_us),
                _micros(task.metrics.async_us),
                size_text(task.metrics.state_bytes),
                size_text(task.metrics.written_bytes),
                size_text(task.metrics.in_flight_bytes) if task.metrics.unaligned else "-",
            ]
            for task in sorted(record.subtasks, key=lambda task: (task.vertex_id, task.subtask_index))
        ],
        empty="No task has acknowledged, or the job has ended.",
    )


def _overtaken(record: CheckpointRecord) -> Iterator[str]:
    """What barriers overtook, if they did."""
    from zmflow.protocol.resources import size_text

    if record.unaligned:
        yield f"In flight  {size_text(record.in_flight_bytes)}: its barriers overtook records"


def _state(record: CheckpointRecord) -> str:
    """How far it is; what counts as a failure is called one.

    >>> from zmflow.protocol.checkpoint_statistics import CheckpointRecord
    >>> _state(CheckpointRecord(1, "checkpoint", "ABORTED", 0, 0, counted=True))
    'FAILED'
    """
    return "FAILED" if record.counted else record.state


def _millis(duration_ms: int) -> str:
    """Checkpoints take milliseconds or minutes.

    >>> [_millis(n) for n in (7, 1_500, 61_000)]
    ['7 ms', '1.5 s', '1 min 1 s']
    """
    return f"{duration_ms} ms" if duration_ms < 1_000 else duration_text(duration_ms)


def _micros(duration_us: int) -> str:
    """Likewise, of what may take less than a millisecond.

    >>> [_micros(n) for n in (0, 250, 1_500, 2_000_000)]
    ['0 ms', '0.2 ms', '1.5 ms', '2.0 s']
    """
    if duration_us < 10_000:
        return f"{duration_us / 1_000:.1f} ms".replace("0.0 ms", "0 ms")
    return _millis(duration_us // 1_000)
