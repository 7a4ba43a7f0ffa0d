"""``zmflow list``, ``info``, ``cancel`` and ``logs``: the jobs of a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zmflow.cli.options import Definitions, JobManagerAddress, Json, resolve_settings
from zmflow.cli.output import print_json, print_lines, print_table
from zmflow.cli.times import when
from zmflow.errors import ConfigurationError, JobFailedError

if TYPE_CHECKING:
    from zmflow.protocol.messages import JobSummary
    from zmflow.runtime.client import ClusterClient

__all__ = ["JOB_COLUMNS", "cancel", "cluster_client", "find_job", "info", "job_rows", "list_jobs", "logs"]

JOB_COLUMNS = ("Job", "Name", "State", "Restarts", "Tasks running/finished/all", "Submitted", "Finished")
"""What ``job_rows`` fills."""

Job = Annotated[
    str, typer.Argument(metavar="JOB", help="Id of the job, or the first characters of it, or its name.")
]


@contextlib.contextmanager
def cluster_client(
    definitions: list[str] | None, jobmanager: str | None, directory: Path | None = None
) -> Iterator[ClusterClient]:
    """A connection to the cluster the options name, or to the one started on this machine.

    Args:
        directory: where that one was started; None for the user's own.

    Raises:
        ConfigurationError: neither is there.
        ClusterError: the JobManager cannot be reached, or refuses.
    """
    from zmflow.cli.targets import require_cluster, with_local_cluster
    from zmflow.runtime.client import ClusterClient

    settings = require_cluster(with_local_cluster(resolve_settings(definitions, jobmanager), directory))
    with contextlib.closing(ClusterClient(settings)) as client:
        yield client


def find_job(jobs: list[JobSummary], wanted: str) -> str:
    """The id of the job that ``wanted`` names: its id, a unique beginning of it, or a name: a unique one, or
    that of one job which has not ended and of others which have.

    Raises:
        ConfigurationError: no such job, or more than one.
    """
    matches = [job for job in jobs if job.job_id == wanted] or [
        job for job in jobs if job.job_id.startswith(wanted) or job.name == wanted
    ]
    if len(matches) > 1 and all(job.name == wanted for job in matches):
        matches = [job for job in matches if job.state not in ("FINISHED", "FAILED", "CANCELED")] or matches
    if len(matches) == 1:
        return matches[0].job_id
    if matches:
        raise ConfigurationError(
            f"{wanted!r} names {len(matches)} jobs.",
            detail="\n".join(f"{job.job_id}  {job.name}  {job.state}" for job in matches),
            hint="Give more of the id.",
        )
    raise ConfigurationError(
        f"The cluster knows no job {wanted!r}.", hint="'zmflow list' shows the jobs it knows."
    )


def job_rows(jobs: list[JobSummary]) -> list[list[object]]:
    """Table rows of job summaries, newest first."""
    return [
        [
            job.job_id,
            job.name,
            job.state,
            job.restarts,
            f"{job.tasks_running}/{job.tasks_finished}/{job.tasks_total}",
            when(job.submitted_ms),
            when(job.finished_ms),
        ]
        for job in sorted(jobs, key=lambda job: job.submitted_ms, reverse=True)
    ]


def list_jobs(
    definitions: Definitions = None, jobmanager: JobManagerAddress = None, as_json: Json = False
) -> None:
    """List the jobs a cluster knows, newest first.

    Example: zmflow list --jobmanager node7:6123
    """
    with cluster_client(definitions, jobmanager) as client:
        jobs = client.list_jobs()
    if as_json:
        print_json(jobs)
        return
    print_table(JOB_COLUMNS, job_rows(jobs), empty="The cluster has had no job yet.")


def info(
    job: Job,
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    as_json: Json = False,
) -> None:
    """Show a job: its state and why, its vertices, which subtask sits in which slot, what failed before.

    Example: zmflow info 3f2a
    """
    from zmflow.cli.job_report import print_status

    with cluster_client(definitions, jobmanager) as client:
        status = client.get_job(find_job(client.list_jobs(), job))
    if as_json:
        print_json(status)
    else:
        print_status(status)


def cancel(
    job: Job,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Return when the job has ended, or at once.")
    ] = True,
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    as_json: Json = False,
) -> None:
    """Cancel a job. A task that does not stop within task.cancellation.timeout is killed.

    Example: zmflow cancel 3f2a
    """
    from zmflow.runtime.client import ENDED_STATES

    with cluster_client(definitions, jobmanager) as client:
        job_id = find_job(client.list_jobs(), job)
        client.cancel_job(job_id)
        status = client.get_job(job_id)
        if wait and status.summary.state not in ENDED_STATES:
            for status in client.watch(job_id):
                if status.summary.state in ENDED_STATES:
                    break
    if as_json:
        print_json(status.summary)
    else:
        print_lines([f"Job {status.summary.name} ({job_id}) is {status.summary.state}."])
    if wait and status.summary.state == "FAILED":
        raise JobFailedError("The job failed while it was being cancelled.", detail=status.reason)


def logs(
    job: Job,
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    as_json: Annotated[bool, typer.Option("--json", help="The JSON lines as they were written.")] = False,
) -> None:
    """Show the newest log lines of a job from all its TaskManagers, what it printed included.

    Example: zmflow logs 3f2a
    """
    from zmflow.cli.log_lines import readable

    with cluster_client(definitions, jobmanager) as client:
        lines = client.logs(find_job(client.list_jobs(), job))
    print_lines(lines if as_json else map(readable, lines))
