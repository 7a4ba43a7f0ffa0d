"""``zmflow cluster start``, ``status`` and ``stop``: real daemons in the background of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zmflow.cli.jobs import JOB_COLUMNS, cluster_client, job_rows
from zmflow.cli.options import Definitions, JobManagerAddress, Json, resolve_settings
from zmflow.cli.output import print_json, print_lines, print_table
from zmflow.cli.slots import resources_text
from zmflow.cli.taskmanagers import slots_in_use, slots_sentence, state_text, trouble_lines
from zmflow.cli.times import when

if TYPE_CHECKING:
    from zmflow.protocol.messages import ClusterStatus

__all__ = ["app", "start", "status", "stop"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Start, show and stop a cluster of daemons on this machine.\n\n"
    "Example: zmflow cluster start --taskmanagers 2",
)

Directory = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="Where its pids, sockets and logs are; default: one per user."),
]


@app.command("start")
def start(
    taskmanagers: Annotated[int, typer.Option("--taskmanagers", min=1, help="TaskManagers to start.")] = 1,
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, help="Slots of each; default: CPU cores.")
    ] = None,
    directory: Directory = None,
    definitions: Definitions = None,
    as_json: Json = False,
) -> None:
    """Start a JobManager and TaskManagers, wait until their slots are there, and return.

    What a cluster that was killed left behind in the same directory is cleaned up first.

    Example: zmflow cluster start --taskmanagers 2 --slots 2
    """
    from zmflow.runtime import local_cluster

    options = {} if slots is None else {"taskmanager.numberOfTaskSlots": str(slots)}
    settings = resolve_settings(definitions, None, options)
    started = local_cluster.start(settings, taskmanagers, directory)
    if as_json:
        print_json(started)
        return
    count = f"{taskmanagers} TaskManager{'s' if taskmanagers > 1 else ''}"
    address = f"{started.host}:{started.port}"
    lines = [
        f"Started a JobManager at {address} and {count}.",
        f"Logs are in {started.directory}/logs.",
    ]
    if directory is not None:
        lines.append(f"Commands find it with --jobmanager {address}.")
    print_lines(lines)


@app.command("status")
def status(
    directory: Directory = None,
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    as_json: Json = False,
) -> None:
    """Show a cluster: its TaskManagers, how they do and what they still have, and its jobs.

    'zmflow slots' shows what each slot does.

    Example: zmflow cluster status --json
    """
    with cluster_client(definitions, jobmanager, directory) as client:
        found = client.cluster_status()
    if as_json:
        print_json(found)
    else:
        print_cluster(found)


def print_cluster(found: ClusterStatus) -> None:
    """A cluster for people."""
    print_lines(
        [
            f"JobManager {found.jobmanager}, since {when(found.started_ms)}",
            f"{slots_sentence(found.taskmanagers)}.",
            *trouble_lines(found.taskmanagers),
            "",
        ]
    )
    print_table(
        [
            "TaskManager",
            "Host",
            "Pid",
            "State",
            "Slots free",
            "Resources",
            "Resources free",
            "Last heartbeat",
        ],
        [
            [
                taskmanager.taskmanager_id,
                taskmanager.host,
                str(taskmanager.pid),
                state_text(taskmanager),
                f"{len(taskmanager.slots) - slots_in_use(taskmanager)} of {len(taskmanager.slots)}",
                resources_text(taskmanager.resources),
                resources_text(taskmanager.free_resources),
                f"{taskmanager.heartbeat_age_ms / 1000:.1f} s ago",
            ]
            for taskmanager in found.taskmanagers
        ],
        empty="No TaskManager is registered.",
    )
    if found.jobs:
        print_lines([""])
        print_table(JOB_COLUMNS, job_rows(found.jobs), empty="")


@app.command("stop")
def stop(directory: Directory = None, definitions: Definitions = None, as_json: Json = False) -> None:
    """Stop the cluster that 'zmflow cluster start' began, its jobs included.

    Example: zmflow cluster stop
    """
    from zmflow.runtime import local_cluster

    stopped = local_cluster.stop(directory, resolve_settings(definitions))
    if as_json:
        print_json(stopped)
    elif stopped is None:
        print_lines(["No cluster was started here."])
    else:
        print_lines([f"Stopped the JobManager at {stopped.host}:{stopped.port} and its TaskManagers."])
