"""``zmflow explain``: the plan of a script's job, without running the job."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from zmflow.cli.options import Definitions, Json, PyFlinkImports, resolve_settings
from zmflow.cli.output import json_text, print_lines
from zmflow.errors import ConfigurationError, JobGraphError

if TYPE_CHECKING:
    from zmflow.config import Settings
    from zmflow.graph.job_graph import JobGraph

__all__ = ["PlanFormat", "explain"]


class PlanFormat(StrEnum):
    """How a plan is written."""

    TEXT = "text"
    MERMAID = "mermaid"
    SVG = "svg"


class _PlanCaptured(BaseException):
    """Ends the script at the point where it would have run its job.

    Not an Exception: a script that catches those around ``execute`` must stop all the same.
    """

    def __init__(self, graph: JobGraph) -> None:
        super().__init__(graph.name)
        self.graph = graph


class _CapturingExecutor:
    """Takes the JobGraph and runs nothing."""

    def submit(self, graph: JobGraph, settings: Settings, *, collect: bool) -> NoReturn:  # noqa: ARG002
        raise _PlanCaptured(graph)


def explain(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="The Python program.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="-- ARGS", help="What the script finds in sys.argv.")
    ] = None,
    parallelism: Annotated[
        int | None, typer.Option("-p", "--parallelism", min=1, help="Parallelism of operators that set none.")
    ] = None,
    definitions: Definitions = None,
    pyflink: PyFlinkImports = False,
    plan_format: Annotated[PlanFormat, typer.Option("--format", help="How to write the plan.")] = (
        PlanFormat.TEXT
    ),
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write to this file instead.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the plan of a script's first job: operators, chains, subtasks, exchanges, slots needed.

    The script runs up to its execute() and no further.

    Example: zmflow explain -p 2 --format svg --output plan.svg examples/word_count.py
    """
    from zmflow.graph import explain as plans

    options = {} if parallelism is None else {"parallelism.default": str(parallelism)}
    settings = resolve_settings(definitions, None, options)
    graph = capture_graph(script, arguments or [], settings, pyflink=pyflink)
    plan = plans.describe(graph)
    if as_json:
        text = json_text(plan)
    elif plan_format is PlanFormat.MERMAID:
        text = plans.render_mermaid(plan)
    elif plan_format is PlanFormat.SVG:
        text = plans.render_svg(plan)
    else:
        text = plans.render_text(plan)
    if output is None:
        print_lines([text.rstrip("\n")])
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"The plan cannot be written to {str(output)!r}.", detail=str(error)
        ) from None


def capture_graph(
    script: Path, arguments: list[str], settings: Settings, *, pyflink: bool = False
) -> JobGraph:
    """The JobGraph that the script would have submitted first.

    Raises:
        JobGraphError: the script ended without executing a job.
    """
    from zmflow.api.environment import environment_context
    from zmflow.cli.script import run_script

    try:
        with environment_context(settings, _CapturingExecutor()):
            run_script(script, arguments, pyflink=pyflink)
    except _PlanCaptured as captured:
        return captured.graph
    raise JobGraphError(
        f"The script {str(script)!r} ended without executing a job.",
        hint="Call execute(), execute_async() or execute_and_collect() in it.",
    )
