"""``zmflow plan``: what a changed program would restore of a savepoint, before anything is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zmflow.cli.options import AllowNonRestoredState, Definitions, Json, PyFlinkImports, resolve_settings
from zmflow.cli.output import print_json, print_table
from zmflow.config.options import STATE_BACKEND
from zmflow.errors import JobGraphError

if TYPE_CHECKING:
    from zmflow.coordination.checkpoints.recovery_plan import RecoveryPlan

__all__ = ["plan"]


def plan(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="The Python program.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="-- ARGS", help="What the script finds in sys.argv.")
    ] = None,
    against: Annotated[
        str,
        typer.Option("--against", metavar="PATH", help="Savepoint or checkpoint it would begin from."),
    ] = ...,  # type: ignore[assignment]
    parallelism: Annotated[
        int | None, typer.Option("-p", "--parallelism", min=1, help="Parallelism of operators that set none.")
    ] = None,
    allow_non_restored_state: AllowNonRestoredState = False,
    definitions: Definitions = None,
    pyflink: PyFlinkImports = False,
    as_json: Json = False,
) -> None:
    """Show what the job of a script would restore of a savepoint, drop, or be refused for. Nothing runs.

    The exit code is 2 when the job would be refused.

    Example: zmflow plan examples/word_count.py --against /mnt/savepoints/savepoint-3f2a10-0c5e77aa01b2
    """
    from zmflow.cli.explain import capture_graph
    from zmflow.coordination.checkpoints.recovery_plan import foreign_state, plan_recovery
    from zmflow.state.checkpoint_storage import absolute_location
    from zmflow.state.native_files import TAKE_A_SAVEPOINT
    from zmflow.state.snapshot_files import SnapshotFiles

    options = {} if parallelism is None else {"parallelism.default": str(parallelism)}
    settings = resolve_settings(definitions, None, options)
    files = SnapshotFiles(absolute_location(against), settings)
    files.check_sizes()
    graph = capture_graph(script, arguments or [], settings, pyflink=pyflink)
    found = plan_recovery(graph, files.metadata, files.stateful_operators(), drops=allow_non_restored_state)
    if as_json:
        print_json({"snapshot": files.location, "operators": found.operators})
    else:
        _print(found)
    if why := foreign_state(files.metadata, settings.with_values(graph.settings, "job")[STATE_BACKEND]):
        raise JobGraphError(f"The job would be refused: {why}", hint=TAKE_A_SAVEPOINT)
    refused = found.having("refused")
    if refused:
        names = ", ".join(each.uid or each.name for each in refused)
        raise JobGraphError(
            f"The job would be refused because of {names}.",
            hint="Keep uids and max parallelism as they were; --allow-non-restored-state drops what the job "
            "has no operator for.",
        )


def _print(found: RecoveryPlan) -> None:
    print_table(
        ["Operator", "Uid", "Verdict", "Tasks before", "Tasks", "Why"],
        [
            [
                each.name,
                each.uid or "-",
                each.verdict,
                each.parallelism_before or "-",
                each.parallelism or "-",
                each.reason,
            ]
            for each in found.operators
        ],
        empty="The job has no operators.",
    )
