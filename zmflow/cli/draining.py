"""``zmflow taskmanager drain`` and ``undrain``: empty a TaskManager while its jobs go on, or take it back."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from zmflow.cli.jobs import cluster_client
from zmflow.cli.options import Definitions, JobManagerAddress, Json
from zmflow.cli.output import print_json, print_lines
from zmflow.cli.taskmanagers import drain_sentence, find_taskmanagers, slots_in_use
from zmflow.errors import ClusterError, JobManagerUnreachableError, ZmflowError

if TYPE_CHECKING:
    from zmflow.protocol.messages import ClusterStatus, TaskManagerStatus
    from zmflow.runtime.client import ClusterClient

__all__ = ["DrainProgress", "drain", "undrain", "wait_until_empty"]

ASK_INTERVAL_SECONDS = 0.2
"""Below what a person waiting notices; an answer costs the leader well under a millisecond."""

Name = Annotated[
    str,
    typer.Argument(
        metavar="HOST_OR_ID",
        help="Id of the TaskManager, the first characters of it, or a host for all of it.",
    ),
]


def drain(
    context: typer.Context,
    name: Name,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Return when no slot there is in use, or at once.")
    ] = True,
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    as_json: Json = False,
) -> None:
    """Start nothing new on a TaskManager and move its tasks elsewhere.

    They move one pipelined region after another, as soon as other TaskManagers have slots for them. The
    TaskManager itself goes on; stop it when it is empty. Ctrl-C ends the waiting, not the draining.

    Example: zmflow taskmanager drain node7
    """
    with _client(context, definitions, jobmanager) as client:
        names = _tell(client, name, drain=True)
        if wait:
            with _progress() as progress, _interruption_explained(name):
                left = wait_until_empty(
                    client.cluster_status, names, progress, lambda: time.sleep(ASK_INTERVAL_SECONDS)
                )
        else:
            left = _of(client.cluster_status(), names)
    if as_json:
        print_json(_report(names, left))
        return
    print_lines(f"{one.taskmanager_id} on {one.host} {drain_sentence(one)}" for one in left)
    there = {one.taskmanager_id for one in left}
    print_lines(f"{gone} has left the cluster." for gone in names if gone not in there)


def undrain(
    context: typer.Context,
    name: Name,
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    as_json: Json = False,
) -> None:
    """Take back a drain: new slots are given there again. What has moved stays where it is.

    Example: zmflow taskmanager undrain node7
    """
    with _client(context, definitions, jobmanager) as client:
        names = _tell(client, name, drain=False)
        left = _of(client.cluster_status(), names)
    if as_json:
        print_json(_report(names, left))
        return
    print_lines(f"{one.taskmanager_id} on {one.host} takes new slots again." for one in left)
    if not left:
        print_lines([f"{name} is not drained any more; no TaskManager runs there now."])


@contextlib.contextmanager
def _client(
    context: typer.Context, definitions: list[str] | None, jobmanager: str | None
) -> Iterator[ClusterClient]:
    """A connection to the cluster; options given before the word ``drain`` count too."""
    before = context.parent.params if context.parent is not None else {}
    merged = [*(before.get("definitions") or []), *(definitions or [])]
    with cluster_client(merged, jobmanager or before.get("jobmanager")) as client:
        yield client


def _tell(client: ClusterClient, name: str, *, drain: bool) -> list[str]:
    """The TaskManagers it is about: the leader decides that; for a name it refuses we list what there is."""
    try:
        return client.drain(name, drain)
    except JobManagerUnreachableError:
        raise
    except ZmflowError:
        find_taskmanagers(client.cluster_status().taskmanagers, name)
        raise


def _of(status: ClusterStatus, names: list[str]) -> list[TaskManagerStatus]:
    return [found for found in status.taskmanagers if found.taskmanager_id in names]


def _report(names: list[str], left: list[TaskManagerStatus]) -> dict[str, object]:
    return {
        "taskmanagers": names,
        "draining": any(one.draining for one in left),
        "slots_in_use": sum(map(slots_in_use, left)),
        "notes": {one.taskmanager_id: one.note for one in left if one.note},
    }


class DrainProgress:
    """How far a drain is: one line that is written over on a terminal, a line per change elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._last: dict[str, str] = {}

    def update(self, taskmanagers: list[TaskManagerStatus]) -> None:
        """Show these."""
        lines = {one.taskmanager_id: f"{one.taskmanager_id} {drain_sentence(one)}" for one in taskmanagers}
        if self._live:
            busy = [lines[one.taskmanager_id] for one in taskmanagers if slots_in_use(one)]
            text = "  ".join(busy)[: shutil.get_terminal_size().columns - 1]
            self._stream.write(f"\r\x1b[2K{text}")
        else:
            for name, line in lines.items():
                if self._last.get(name) != line:
                    self._stream.write(line + "\n")
        self._last = lines
        self._stream.flush()

    def close(self) -> None:
        """Leave a clean line."""
        if self._live:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()


@contextlib.contextmanager
def _progress() -> Iterator[DrainProgress]:
    progress = DrainProgress(sys.stderr)
    try:
        yield progress
    finally:
        progress.close()


@contextlib.contextmanager
def _interruption_explained(name: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write(f"The drain goes on; 'zmflow taskmanager undrain {name}' takes it back.\n")
        raise


def wait_until_empty(
    ask: Callable[[], ClusterStatus],
    names: list[str],
    progress: DrainProgress,
    pause: Callable[[], object],
) -> list[TaskManagerStatus]:
    """Ask until no slot of these TaskManagers is in use; those that are still there then.

    Args:
        ask: the cluster's status now.
        names: their ids. One that leaves the cluster is empty too.
        pause: called between two questions.

    Raises:
        ClusterError: somebody took the drain back.
    """
    while True:
        left = _of(ask(), names)
        kept = [one for one in left if not one.draining]
        if kept:
            raise ClusterError(
                f"The drain of {kept[0].taskmanager_id} was taken back before it was empty.",
                detail=f"{slots_in_use(kept[0])} of its slots are in use.",
                hint="Somebody undrained it, or the JobManager was restarted. Drain it again.",
            )
        progress.update(left)
        if not any(map(slots_in_use, left)):
            return left
        pause()
