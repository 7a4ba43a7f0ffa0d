"""The options many commands share, and the settings they lead to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from zmflow.errors import ConfigurationError

if TYPE_CHECKING:
    from zmflow.config import Settings

__all__ = [
    "AllowNonRestoredState",
    "Claim",
    "Definitions",
    "FromSavepoint",
    "JobManagerAddress",
    "Json",
    "PyFlinkImports",
    "parse_definitions",
    "resolve_settings",
]

Definitions = Annotated[
    list[str] | None,
    typer.Option("-D", "--define", metavar="KEY=VALUE", help="Set a setting; may be repeated."),
]
JobManagerAddress = Annotated[
    str | None,
    typer.Option("--jobmanager", metavar="HOST:PORT", help="The JobManager to talk to."),
]
PyFlinkImports = Annotated[
    bool, typer.Option("--pyflink", help="Resolve the script's imports of pyflink to zmflow.")
]
FromSavepoint = Annotated[
    str | None,
    typer.Option(
        "--from-savepoint", metavar="PATH", help="Begin from this savepoint or retained checkpoint."
    ),
]
Claim = Annotated[
    bool | None,
    typer.Option("--claim/--no-claim", help="Own its files and delete them in time, or leave them alone."),
]
AllowNonRestoredState = Annotated[
    bool,
    typer.Option("--allow-non-restored-state", help="Drop state of operators that the job has not."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def parse_definitions(definitions: list[str] | None) -> dict[str, str]:
    """The keys and texts of ``-D`` options, in order; a later one wins.

    >>> parse_definitions(["parallelism.default=2", "pipeline.name=a=b"])
    {'parallelism.default': '2', 'pipeline.name': 'a=b'}
    """
    found = {}
    for definition in definitions or []:
        key, equals, text = definition.partition("=")
        if not equals or not key.strip():
            raise ConfigurationError(
                f"The option -D {definition} is not of the form KEY=VALUE.",
                hint="Write for example -D parallelism.default=2.",
            )
        found[key.strip()] = text.strip()
    return found


def parse_address(address: str) -> tuple[str, str]:
    """Host and port of ``host:port``; the port may be missing and is then an empty text.

    >>> parse_address("node7:6123"), parse_address("[::1]:6123"), parse_address("node7")
    (('node7', '6123'), ('::1', '6123'), ('node7', ''))
    """
    host, colon, port = address.rpartition(":")
    if not colon or (address.startswith("[") and address.endswith("]")):
        host, port = address, ""
    host = host.removeprefix("[").removesuffix("]")
    if not host or (port and not port.isdecimal()) or (colon and not port and not address.endswith("]")):
        raise ConfigurationError(
            f"The address {address!r} is not of the form HOST:PORT.",
            detail="From --jobmanager.",
            hint="Write for example --jobmanager node7:6123.",
        )
    return host, port


def resolve_settings(
    definitions: list[str] | None = None,
    jobmanager: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of this command: file and environment, then ``-D``, then the command's own options.

    Args:
        definitions: the texts of ``-D``.
        jobmanager: ``host:port`` of ``--jobmanager``.
        options: settings other options of the command stand for, by key.

    Raises:
        ConfigurationError: an unknown key, a wrong value or a malformed address.
    """
    from zmflow.config import load_settings
    from zmflow.config.options import JOBMANAGER_ADDRESS, JOBMANAGER_PORT

    settings = load_settings(parse_definitions(definitions))
    if jobmanager is not None:
        host, port = parse_address(jobmanager)
        values = {JOBMANAGER_ADDRESS.key: host}
        if port:
            values[JOBMANAGER_PORT.key] = port
        settings = settings.with_values(values, "--jobmanager")
    return settings.with_values(options or {}, "command line")
