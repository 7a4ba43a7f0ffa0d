"""Writes the generated pages: ``python -m zmflow.cli.reference DIRECTORY``.

CLI.md and SETTINGS.md are written whole, ARCHITECTURE.md between its markers: the map of modules from their
docstrings, the pictures of state machines from their tables.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import typer

from zmflow.cli.main import EXIT_CODES, app
from zmflow.config import OPTIONS
from zmflow.coordination.machine import Machine
from zmflow.coordination.states import MACHINES

__all__ = ["architecture_page", "cli_page", "main", "settings_page"]

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


def _module_map() -> str:
    package = Path(__file__).parent.parent
    lines: list[str] = []
    for path in sorted(package.rglob("*.py"), key=lambda path: (path.parent != package, path.parts)):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = re.split(r"(?<=[.:?]) ?\n|\n\n", docstring, maxsplit=1)[0].replace("\n", " ")
        name = path.relative_to(package).as_posix()
        if path.name == "__init__.py":
            lines.append(f"\n**`{path.parent.relative_to(package.parent).as_posix()}/`** {first}\n")
        else:
            lines.append(f"- `{name}`: {first}")
    return "\n".join(lines) + "\n"


def _state_diagram(machine: Machine[Any, Any]) -> str:
    """One machine as Mermaid draws it: an arrow per pair of states, named by the events that take it."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), following in machine.transitions.items():
        arrows.setdefault((state, following), []).append(event)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {machine.initial}"]
    lines += [f"    {state} --> {to}: {', '.join(events)}" for (state, to), events in arrows.items()]
    lines += [f"    {end} --> [*]" for end in sorted(machine.terminal)]
    return "\n".join([*lines, "```"])


def _state_diagrams() -> str:
    return "\n\n".join(f"{machine.title}:\n\n{_state_diagram(machine)}" for machine in MACHINES)


def architecture_page(text: str) -> str:
    """ARCHITECTURE.md with what stands between its markers written anew."""
    for marker, content in (("states", f"\n{_state_diagrams()}\n"), ("modules", _module_map())):
        begin, end = f"<!-- {marker} -->\n", f"<!-- /{marker} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}{content}\n{end}{after}"
    return text


def main() -> None:
    """Write the pages into the directory named on the command line."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    (directory / "CLI.md").write_text(cli_page(), encoding="utf-8")
    (directory / "SETTINGS.md").write_text(settings_page(), encoding="utf-8")
    architecture = directory / "ARCHITECTURE.md"
    architecture.write_text(architecture_page(architecture.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
