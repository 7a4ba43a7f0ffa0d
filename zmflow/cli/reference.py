"""Writes the generated pages, CLI.md and SETTINGS.md: ``python -m zmflow.cli.reference DIRECTORY``."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from zmflow.cli.main import EXIT_CODES, app
from zmflow.config import OPTIONS

__all__ = ["cli_page", "main", "settings_page"]

HELP_WIDTH_CHARACTERS = 100

_GENERATED = "<!-- Written by `make docs`; edits here are lost. -->"


def cli_page() -> str:
    """Every command's help, as Markdown."""
    parts = ["# The zmflow command", _GENERATED]
    parts.append("## Exit codes\n")
    parts.append("| Code | Meaning |\n|---|---|")
    parts.append("\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()) + "\n")
    root = typer.main.get_command(app)
    pages = [("zmflow", root)]
    while pages:
        name, command = pages.pop(0)
        context = command.make_context(
            name, [], resilient_parsing=True, terminal_width=HELP_WIDTH_CHARACTERS, color=False
        )
        parts.append(f"## `{name}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
        children = getattr(command, "commands", {})
        pages[:0] = [(f"{name} {child}", children[child]) for child in children]
    return "\n".join(parts)


def settings_page() -> str:
    """Every setting, as a Markdown table."""
    rows = [
        f"| `{option.key}` | {f'`{option.default_text}`' if option.default_text else 'empty'} "
        f"| {option.kind} | {option.doc} | `{option.environment_variable}` |"
        for option in OPTIONS.values()
    ]
    return "\n".join(
        [
            "# Settings",
            _GENERATED,
            "",
            "Later wins: default, `zmflow.toml`, environment, `-D key=value`, what the program sets on its",
            "`Configuration`. `zmflow config` shows each value and where it comes from.",
            "",
            "| Key | Default | Value | Meaning | Environment |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Write both pages into the directory named on the command line."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    (directory / "CLI.md").write_text(cli_page(), encoding="utf-8")
    (directory / "SETTINGS.md").write_text(settings_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
