"""``zmflow config`` and ``zmflow keygen``: what is set, and the keys of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zmflow.cli.options import Definitions, JobManagerAddress, Json, resolve_settings
from zmflow.cli.output import print_json, print_lines, print_table

__all__ = ["config", "keygen"]


def config(
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    only_set: Annotated[bool, typer.Option("--set", help="Only what is not at its default.")] = False,
    as_json: Json = False,
) -> None:
    """Show each setting: value, where it comes from, default, meaning.

    Example: zmflow config -D heartbeat.timeout='10 s' --set
    """
    settings = resolve_settings(definitions, jobmanager)
    rows = [
        {
            "key": option.key,
            "value": value.text,
            "from": value.where,
            "default": option.default_text,
            "kind": option.kind,
            "environment": option.environment_variable,
            "meaning": option.doc,
        }
        for option, value in settings
        if settings.is_set(option) or not only_set
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        ["Setting", "Value", "From", "Default", "Meaning"],
        [[row["key"], row["value"], row["from"], row["default"], row["meaning"]] for row in rows],
        empty="Every setting is at its default.",
    )


def keygen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the key.")],
    as_json: Json = False,
) -> None:
    """Make the key file of a cluster, readable by its owner only.

    Every JobManager, TaskManager and client of the cluster needs a copy, named by the setting
    security.curve.key-file. An existing file is never overwritten.

    Example: zmflow keygen cluster.key
    """
    from zmflow.runtime.security import create_key_file

    create_key_file(file)
    if as_json:
        print_json({"file": str(file), "setting": "security.curve.key-file"})
    else:
        print_lines([f"Wrote {file}. Copy it to every machine and set security.curve.key-file to its path."])
