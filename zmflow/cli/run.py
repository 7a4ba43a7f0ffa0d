"""``zmflow run``: a script, its job, and how the job is doing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zmflow.cli.options import (
    AllowNonRestoredState,
    Claim,
    Definitions,
    FromSavepoint,
    JobManagerAddress,
    Json,
    PyFlinkImports,
    resolve_settings,
)

if TYPE_CHECKING:
    from zmflow.cli.progress import Progress

__all__ = ["recovery_options", "run", "watching"]


def run(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="The Python program.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="-- ARGS", help="What the script finds in sys.argv.")
    ] = None,
    parallelism: Annotated[
        int | None, typer.Option("-p", "--parallelism", min=1, help="Parallelism of operators that set none.")
    ] = None,
    definitions: Definitions = None,
    py_files: Annotated[
        str | None,
        typer.Option("--py-files", metavar="A.py,PKG/", help="Modules and packages to ship with the job."),
    ] = None,
    jobmanager: JobManagerAddress = None,
    pyflink: PyFlinkImports = False,
    detached: Annotated[
        bool, typer.Option("-d", "--detached", help="Submit and return; needs a cluster.")
    ] = False,
    name: Annotated[str | None, typer.Option("--name", help="Name of a job that sets none.")] = None,
    from_savepoint: FromSavepoint = None,
    claim: Claim = None,
    allow_non_restored_state: AllowNonRestoredState = False,
    as_json: Json = False,
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", help="Show on stderr how the job is doing.")
    ] = True,
) -> None:
    """Run a script and wait for its job; the exit code says how it ended.

    The job runs on the JobManager of --jobmanager or of the settings; else on the cluster that
    'zmflow cluster start' began on this machine; else on an embedded cluster that ends with the script.

    Example: zmflow run -p 4 examples/word_count.py -- --input texts/ --output counts/
    """
    from zmflow.api.environment import environment_context
    from zmflow.cli.execution import ReportingExecutor
    from zmflow.cli.script import run_script
    from zmflow.cli.targets import with_local_cluster

    options = {
        "parallelism.default": None if parallelism is None else str(parallelism),
        "python.files": py_files,
        "pipeline.name": name,
        **recovery_options(from_savepoint, claim, allow=allow_non_restored_state),
    }
    chosen = {key: text for key, text in options.items() if text is not None}
    settings = with_local_cluster(resolve_settings(definitions, jobmanager, chosen))
    with watching(progress) as show:
        executor = ReportingExecutor(settings, show, detached=detached)
        try:
            with environment_context(settings, executor):
                run_script(script, arguments or [], pyflink=pyflink)
        except KeyboardInterrupt:
            executor.report_interrupted(settings)
            raise
        finally:
            executor.report(as_json=as_json)


def recovery_options(path: str | None, claim: bool | None, *, allow: bool) -> dict[str, str | None]:
    """The settings that the options about where a job begins stand for.

    >>> recovery_options("/s/savepoint-1", True, allow=False)["execution.state-recovery.claim-mode"]
    'CLAIM'
    """
    from zmflow.state.checkpoint_storage import absolute_location

    return {
        "execution.state-recovery.path": None if path is None else absolute_location(path),
        "execution.state-recovery.claim-mode": None if claim is None else "CLAIM" if claim else "NO_CLAIM",
        "execution.state-recovery.ignore-unclaimed-state": "true" if allow else None,
    }


@contextlib.contextmanager
def watching(wanted: bool) -> Iterator[Progress | None]:
    """What shows how jobs are doing, as standard error allows: a live table, lines, or nothing."""
    if not wanted:
        yield None
        return
    from zmflow.cli.progress import LineProgress, LiveProgress

    if not sys.stderr.isatty():
        yield LineProgress()
        return
    from zmflow.cli.terminal import TerminalRelay

    with TerminalRelay() as relay:
        live = LiveProgress(relay.terminal)
        relay.start(live.write_above)
        try:
            yield live
        finally:
            live.close()
