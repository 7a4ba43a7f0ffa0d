"""``zmflow jobmanager`` and ``zmflow taskmanager``: the daemons, in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from zmflow.cli import draining
from zmflow.cli.options import Definitions, JobManagerAddress, resolve_settings
from zmflow.errors import ConfigurationError

__all__ = ["jobmanager", "taskmanager", "taskmanager_app"]

taskmanager_app = typer.Typer(rich_markup_mode=None)


def jobmanager(
    bind: Annotated[
        str | None, typer.Option("--bind", metavar="HOST", help="Address to bind; default: loopback.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", help="Control port; 0 chooses a free one.")] = None,
    definitions: Definitions = None,
) -> None:
    """Run a JobManager until it gets SIGTERM or Ctrl-C.

    Another address than loopback needs a key file: see 'zmflow keygen'.

    Example: zmflow jobmanager --bind 10.0.0.7 -D security.curve.key-file=cluster.key
    """
    from zmflow.runtime.jobmanager import run_jobmanager

    options = {}
    if bind is not None:
        options["jobmanager.bind-host"] = bind
    if port is not None:
        options["jobmanager.rpc.port"] = str(port)
    run_jobmanager(resolve_settings(definitions, None, options))


@taskmanager_app.callback(invoke_without_command=True)
def taskmanager(
    context: typer.Context,
    jobmanager: JobManagerAddress = None,
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, help="Slots to offer; default: CPU cores.")
    ] = None,
    definitions: Definitions = None,
) -> None:
    """Run a TaskManager until it gets SIGTERM or Ctrl-C. It finds its JobManager by --jobmanager or settings.

    With a command: drain one that runs, or take that back.

    Example: zmflow taskmanager --jobmanager 10.0.0.7:6123 --slots 4
    """
    if context.invoked_subcommand is not None:
        if slots is not None:
            raise ConfigurationError(
                f"--slots says how many slots a new TaskManager offers; {context.invoked_subcommand} "
                "is about one that runs.",
                hint=f"Leave it out: zmflow taskmanager {context.invoked_subcommand} HOST_OR_ID.",
            )
        return
    from zmflow.cli.targets import require_cluster
    from zmflow.runtime.taskmanager import run_taskmanager

    options = {} if slots is None else {"taskmanager.numberOfTaskSlots": str(slots)}
    run_taskmanager(require_cluster(resolve_settings(definitions, jobmanager, options)))


taskmanager_app.command("drain")(draining.drain)
taskmanager_app.command("undrain")(draining.undrain)
