"""``zmflow checkpoint list`` and ``show``: what is on disk, and what is in it, without the program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zmflow.cli.jobs import cluster_client, find_job
from zmflow.cli.options import Definitions, JobManagerAddress, Json, resolve_settings
from zmflow.cli.output import print_json, print_lines, print_table
from zmflow.cli.times import when

if TYPE_CHECKING:
    from zmflow.state.snapshot_contents import SnapshotContents
    from zmflow.state.snapshot_files import SnapshotFiles

__all__ = ["app", "list_snapshots", "show"]

DEPTH_MAX = 3
"""Directories below the one that is named: of a job, of a checkpoint, and one for who sorts them."""

app = typer.Typer(
    name="checkpoint",
    help="Look at checkpoints and savepoints on disk.\n\n"
    "Example: zmflow checkpoint show savepoints/savepoint-1f2e3d",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_snapshots(
    place: Annotated[
        str,
        typer.Argument(metavar="DIR|JOB", help="A directory or its URL, or a job of the cluster."),
    ],
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    as_json: Json = False,
) -> None:
    """List the completed checkpoints and savepoints in a directory, or those of a job; the newest first.

    Example: zmflow checkpoint list s3://bucket/checkpoints
    """
    if "://" in place or Path(place).is_dir():
        locations = _below(place, definitions)
    else:
        with cluster_client(definitions, jobmanager) as client:
            known = client.checkpoints(find_job(client.list_jobs(), place)).records
        locations = [r.location for r in known if r.state == "COMPLETED" and r.location and not r.discarded]
    found = [_open(location, definitions) for location in locations]
    found.sort(key=lambda files: (files.metadata.triggered_wall_ms, files.location), reverse=True)
    if as_json:
        print_json(
            [
                {
                    "location": files.location,
                    "kind": files.metadata.kind,
                    "checkpoint_id": files.metadata.checkpoint_id,
                    "job_id": files.metadata.job_id,
                    "job_name": files.metadata.job_name,
                    "triggered_wall_ms": files.metadata.triggered_wall_ms,
                    "size_bytes": files.metadata.state_bytes,
                    "written_bytes": files.metadata.written_bytes,
                }
                for files in found
            ]
        )
        return
    from zmflow.protocol.resources import size_text

    print_table(
        ["Number", "Kind", "Job", "Name", "Triggered", "Size", "Written", "Location"],
        [
            [
                files.metadata.checkpoint_id,
                files.metadata.kind,
                files.metadata.job_id[:8],
                files.metadata.job_name,
                when(files.metadata.triggered_wall_ms),
                size_text(files.metadata.state_bytes),
                size_text(files.metadata.written_bytes),
                files.location,
            ]
            for files in found
        ],
        empty="There are none.",
    )


@app.command("show")
def show(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The directory of a checkpoint or savepoint.")],
    definitions: Definitions = None,
    as_json: Json = False,
) -> None:
    """Show what a checkpoint or savepoint holds: operators, uids, states, kinds, sizes, key groups.

    Example: zmflow checkpoint show /mnt/savepoints/savepoint-3f2a10-0c5e77aa01b2
    """
    from zmflow.state.snapshot_contents import contents_of

    contents = contents_of(_open(path, definitions))
    if as_json:
        print_json(contents)
    else:
        _print(contents)


def _open(path: str, definitions: list[str] | None) -> SnapshotFiles:
    from zmflow.state.checkpoint_storage import absolute_location
    from zmflow.state.snapshot_files import SnapshotFiles

    return SnapshotFiles(absolute_location(path), resolve_settings(definitions))


def _below(place: str, definitions: list[str] | None) -> list[str]:
    from zmflow.protocol.checkpoint_metadata import METADATA_NAME
    from zmflow.state.checkpoint_storage import absolute_location, open_storage

    storage = open_storage(absolute_location(place), resolve_settings(definitions))
    return list(storage.locations_with(METADATA_NAME, DEPTH_MAX))


def _print(contents: SnapshotContents) -> None:
    from zmflow.protocol.resources import size_text

    print_lines(
        [
            f"{contents.kind.capitalize()} {contents.checkpoint_id}",
            f"Job        {contents.job_name} ({contents.job_id})",
            f"Location   {contents.location}",
            f"Triggered  {when(contents.triggered_wall_ms)}",
            f"Size       {size_text(contents.size_bytes)}",
            f"Written    {size_text(contents.written_bytes)}",
            "",
        ]
    )
    rows: list[list[object]] = []
    for operator in contents.operators:
        place = [operator.name, operator.uid or "-", operator.operator_id[:8]]
        tasks = f"{operator.parallelism} of {operator.max_parallelism}"
        if operator.finished:
            tasks += f", {operator.finished} finished"
        if operator.enumerator_bytes:
            rows.append([*place, tasks, "", "split enumerator", "", size_text(operator.enumerator_bytes), ""])
        if operator.in_flight_bytes:
            rows.append([*place, tasks, "", "on its way", "", size_text(operator.in_flight_bytes), ""])
        for state in operator.states:
            kind = (
                state.kind
                + (", by window" if state.namespaced else "")
                + (", expires" if state.expires else "")
            )
            known = state.entries >= 0
            size = size_text(state.size_bytes) if known else ""
            entries = state.entries if known else "in its files"
            rows.append([*place, tasks, state.name, kind, entries, size, state.key_groups or ""])
        if not (operator.states or operator.enumerator_bytes or operator.in_flight_bytes):
            rows.append([*place, tasks, "", "no state", "", "", ""])
    print_table(
        ["Operator", "Uid", "Id", "Tasks", "State", "Kind", "Entries", "Size", "Key groups"],
        rows,
        empty="It has no operators.",
    )
