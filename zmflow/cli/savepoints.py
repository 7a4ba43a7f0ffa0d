"""``zmflow savepoint``, ``stop`` and ``rescale``: what a job is begun from again, elsewhere or otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zmflow.cli.jobs import cluster_client, find_job
from zmflow.cli.options import Definitions, JobManagerAddress, Json
from zmflow.cli.output import print_json, print_lines

if TYPE_CHECKING:
    from zmflow.protocol.checkpoints import CheckpointKind
    from zmflow.runtime.client import ClusterClient

__all__ = ["rescale", "savepoint", "stop"]

Job = Annotated[
    str, typer.Argument(metavar="JOB", help="Id of the job, or the first characters of it, or its name.")
]


def savepoint(
    job: Job,
    directory: Annotated[
        str | None,
        typer.Argument(
            metavar="DIR",
            help="Where it gets a directory of its own, as a path or a URL; "
            "default: execution.checkpointing.savepoint-dir.",
        ),
    ] = None,
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    as_json: Json = False,
) -> None:
    """Take a savepoint of a job, which runs on, and print where it is.

    It can be moved as a whole. The job never deletes it.

    Example: zmflow savepoint 3f2a /mnt/savepoints
    """
    _take(job, directory, "savepoint", definitions, jobmanager, as_json=as_json)


def stop(
    job: Job,
    drain: Annotated[
        bool,
        typer.Option(
            "--drain", help="Let event time go to its end before: all windows and timers fire. For good."
        ),
    ] = False,
    directory: Annotated[
        str | None,
        typer.Option(
            "--savepoint-dir", metavar="DIR", help="Default: execution.checkpointing.savepoint-dir."
        ),
    ] = None,
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    as_json: Json = False,
) -> None:
    """Stop a job with a savepoint, and print where that is: 'zmflow run --from-savepoint' goes on from it.

    Example: zmflow stop 3f2a --savepoint-dir /mnt/savepoints
    """
    _take(job, directory, "drain" if drain else "stop", definitions, jobmanager, as_json=as_json)


def rescale(
    job: Job,
    parallelism: Annotated[
        int,
        typer.Option("-p", "--parallelism", min=1, help="How many subtasks its operators have from now on."),
    ],
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    as_json: Json = False,
) -> None:
    """Let a running job go on at another parallelism, from a checkpoint that is taken for that.

    What the program runs in one subtask stays so.

    Example: zmflow rescale 3f2a -p 8
    """
    with cluster_client(definitions, jobmanager) as client:
        job_id = _once_it_runs(client, job)
        client.rescale(job_id, parallelism)
    if as_json:
        print_json({"job_id": job_id, "parallelism": parallelism})
    else:
        print_lines([f"Job {job_id} runs at parallelism {parallelism}."])


def _once_it_runs(client: ClusterClient, job: str) -> str:
    """The id of a job, all of whose tasks run, or which has ended: who has just started it need not wait."""
    from zmflow.runtime.client import ENDED_STATES

    job_id = find_job(client.list_jobs(), job)
    for status in client.watch(job_id):
        summary = status.summary
        if summary.state in ENDED_STATES or (
            summary.tasks_running
            and summary.tasks_running + summary.tasks_finished == summary.tasks_total
            and summary.state == "RUNNING"
        ):
            break
    return job_id


def _take(
    job: str,
    directory: str | None,
    kind: CheckpointKind,
    definitions: list[str] | None,
    jobmanager: str | None,
    *,
    as_json: bool,
) -> None:
    from zmflow.state.checkpoint_storage import absolute_location

    with cluster_client(definitions, jobmanager) as client:
        job_id = _once_it_runs(client, job)
        location = client.savepoint(job_id, absolute_location(directory) if directory else "", kind)
    if as_json:
        print_json({"job_id": job_id, "location": location})
    else:
        print_lines([location])
