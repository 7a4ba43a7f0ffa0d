"""The ``zmflow`` command: which commands there are, and how errors end them.

Command modules import what they use when they run: ``zmflow run`` of a small job is over in less than a
second, so nothing may be imported that it does not need.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from zmflow.cli import (
    checkpoints,
    cluster,
    daemons,
    explain,
    jobs,
    plan,
    run,
    savepoints,
    settings,
    slots,
    snapshots,
)
from zmflow.cli.output import print_error, print_lines
from zmflow.errors import ZmflowError

__all__ = ["EXIT_CODES", "app", "main"]

EXIT_CODES = {
    0: "the job finished, or the command did what it says",
    1: "the job failed, or the script raised an error",
    2: "wrong usage: an option, a setting, a missing file, a program that cannot run",
    3: "the cluster cannot be reached or refused",
    4: "the job was cancelled",
    130: "interrupted with Ctrl-C",
}
"""What the exit status of every command means."""

EXIT_CODE_INTERRUPTED = 130

_EPILOG = "Exit codes:\n\n" + "\n\n".join(f"{code}: {meaning}." for code, meaning in EXIT_CODES.items())


class _Commands(TyperGroup):
    """Turns the errors of any command into what a person reads and a script tests."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ZmflowError as error:
            print_error(error, debug=bool(ctx.params.get("debug")))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            sys.stderr.write("Interrupted.\n")
            raise typer.Exit(EXIT_CODE_INTERRUPTED) from None


app = typer.Typer(
    name="zmflow",
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print_lines([f"zmflow {metadata.version('zmflow')}, Python {sys.version.split()[0]}"])
        raise typer.Exit


@app.callback()
def _zmflow(
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks of errors too.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Run dataflow jobs written in Python, embedded or on a cluster.

    Example: zmflow run examples/word_count.py -- --input README.md
    """


app.command("run")(run.run)
app.command("explain")(explain.explain)
app.command("plan")(plan.plan)
app.command("list")(jobs.list_jobs)
app.command("info")(jobs.info)
app.command("checkpoints")(checkpoints.checkpoints)
app.command("savepoint")(savepoints.savepoint)
app.command("stop")(savepoints.stop)
app.command("rescale")(savepoints.rescale)
app.command("cancel")(jobs.cancel)
app.command("logs")(jobs.logs)
app.command("slots")(slots.slots)
app.command("status")(cluster.status)
app.command("config")(settings.config)
app.command("keygen")(settings.keygen)
app.command("jobmanager")(daemons.jobmanager)
app.add_typer(daemons.taskmanager_app, name="taskmanager")
app.add_typer(snapshots.app, name="checkpoint")
app.add_typer(cluster.app, name="cluster")


def main() -> None:
    """The entry point: runs the command of ``sys.argv`` and exits with its code."""
    # Not app(): that installs an exception hook, which would also print the errors of users' scripts.
    typer.main.get_command(app)(prog_name="zmflow")


if __name__ == "__main__":
    main()
