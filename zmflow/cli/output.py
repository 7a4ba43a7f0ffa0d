"""What the command line prints: tables, JSON, errors; colours only where a person looks.

Results go to standard output, everything about them (errors, progress) to standard error, so that
``zmflow list --json | jq`` and ``zmflow run job.py > words.txt`` hold only what they should.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from zmflow.errors import ZmflowError

__all__ = ["STATE_COLOURS", "json_text", "plain", "print_error", "print_json", "print_lines", "print_table"]

STATE_COLOURS = {
    # jobs and tasks
    "RUNNING": "green",
    "FINISHED": "cyan",
    "FAILED": "red",
    "FAILING": "red",
    "RESTARTING": "yellow",
    # checkpoints
    "COMPLETED": "cyan",
    "ABORTED": "yellow",
    "CANCELING": "yellow",
    "CANCELLING": "yellow",
    "CANCELED": "yellow",
    # slots and TaskManagers
    "allocated": "green",
    "pending": "yellow",
    "releasing": "yellow",
    "alive": "green",
    "late": "red",
    "draining": "yellow",
    "late, draining": "red",
}
"""How states look on a terminal, wherever they are shown. What needs no attention has no colour."""

COLUMN_GAP_CHARACTERS = 3
"""What rich puts between two columns."""

FOLDED_CHARACTERS_MIN = 7
"""A column whose cells are folded can still be read when it is this narrow."""


def plain(value: object) -> object:
    """Messages as objects with field names: structs are arrays on the wire, which no reader of JSON wants.

    >>> from zmflow.protocol.messages import ListJobs
    >>> plain([ListJobs(3, 1)])
    [{'epoch': 3, 'request_id': 1}]
    """
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        return None  # which JSON has no word for
    return value


def json_text(value: object) -> str:
    """One JSON document, readable, with field names instead of the arrays of the wire."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n"


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json_text(value))
    sys.stdout.flush()


def print_lines(lines: Iterable[str]) -> None:
    """Lines on standard output, visible at once."""
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A table: ruled and coloured on a terminal, aligned plain text elsewhere.

    Args:
        columns: the headings; the cells under ``State`` are coloured by their text.
        rows: cells are printed with ``str``; numbers are aligned to the right.
        empty: the sentence to print when there are no rows.
    """
    if not rows:
        print_lines([empty])
    elif sys.stdout.isatty():
        _print_rich_table(columns, rows)
    else:
        print_lines(_aligned(columns, rows))


def _print_rich_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    cells = [[_cell(cell) for cell in row] for row in rows]
    whole = _columns_kept_whole([list(columns), *cells], console.width)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        justify: Literal["right", "left"] = "right" if isinstance(rows[0][i], int) else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=i in whole)
    for row in cells:
        table.add_row(*(Text(text, _style(column, text)) for column, text in zip(columns, row, strict=True)))
    console.print(table)


def _columns_kept_whole(cells: Sequence[Sequence[str]], width: int) -> set[int]:
    """The columns of single words, narrow ones first, as long as the others have room to be folded in."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    words = [i for i in range(len(widths)) if not any(" " in row[i] for row in cells[1:])]
    left = width - len(widths) * (COLUMN_GAP_CHARACTERS + FOLDED_CHARACTERS_MIN)
    whole = set()
    for i in sorted(words, key=widths.__getitem__):
        left -= widths[i] - FOLDED_CHARACTERS_MIN
        if left < 0:
            break
        whole.add(i)
    return whole


def _style(column: str, text: str) -> str:
    return STATE_COLOURS.get(text, "") if column == "State" else ""


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterable[str]:
    cells = [list(columns), *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    right = [isinstance(cell, int) for cell in rows[0]]
    for row in cells:
        parts = [
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        ]
        yield "  ".join(parts).rstrip()


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def print_error(error: ZmflowError, *, debug: bool) -> None:
    """Message, detail and hint on standard error; with ``debug`` the traceback before them.

    A failed job's detail begins with the user's own traceback; it comes first, as Python would show it.
    """
    from zmflow.errors import JobFailedError

    if debug:
        traceback.print_exception(error, file=sys.stderr)
    parts = [f"Error: {error.message}"]
    if error.detail:
        parts.append(error.detail.rstrip("\n"))
    if isinstance(error, JobFailedError) and error.detail and "Traceback (most recent" in error.detail:
        parts.reverse()
    if error.hint:
        parts.append(f"Hint: {error.hint}")
    text = "\n".join(parts) + "\n"
    if sys.stderr.isatty():
        text = text.replace("Error: ", "\x1b[1;31mError:\x1b[0m ", 1)
    sys.stderr.write(text)
    sys.stderr.flush()
