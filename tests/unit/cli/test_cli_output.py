"""What is printed where: tables, JSON, errors, log lines."""

from __future__ import annotations

import json

import pytest

from zmflow.cli.log_lines import readable
from zmflow.cli.output import plain, print_error, print_json, print_table
from zmflow.errors import ConfigurationError, JobFailedError
from zmflow.protocol.messages import JobList, JobSummary

SUMMARY = JobSummary("9f", "count", "RUNNING", 1, 0, 4, 4, 0)


def test_messages_become_objects_with_field_names(capsys: pytest.CaptureFixture[str]) -> None:
    """What is an array on the wire has names in JSON, at every depth."""
    print_json(JobList(3, 1, [SUMMARY]))
    printed = json.loads(capsys.readouterr().out)
    assert (printed["jobs"][0]["job_id"], printed["jobs"][0]["state"], printed["epoch"]) == (
        "9f",
        "RUNNING",
        3,
    )


def test_bytes_become_text() -> None:
    """Bytes that are not UTF-8 do not stop a command."""
    assert plain({"a": b"b\xff"}) == {"a": "b�"}


def test_a_table_is_aligned_plain_text_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers to the right, no colours, no trailing blanks."""
    print_table(["Name", "Records"], [["a", 5], ["long", 1_000_000]], empty="None.")
    assert capsys.readouterr().out == "Name    Records\na             5\nlong  1,000,000\n"


def test_an_empty_table_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """No headings over nothing."""
    print_table(["Name"], [], empty="None yet.")
    assert capsys.readouterr().out == "None yet.\n"


def test_an_error_is_message_detail_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """Three parts on standard error, nothing on standard output, no traceback."""
    print_error(ConfigurationError("Wrong.", detail="From -D.", hint="Do that."), debug=False)
    assert capsys.readouterr() == ("", "Error: Wrong.\nFrom -D.\nHint: Do that.\n")


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """With --debug the place in our code is shown as well."""
    try:
        raise ConfigurationError("Wrong.")
    except ConfigurationError as error:
        print_error(error, debug=True)
    assert "test_cli_output.py" in capsys.readouterr().err


def test_a_users_traceback_comes_before_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a failed job the user's own code is what the reader sees first."""
    detail = (
        'Traceback (most recent call last):\n  File "job.py", line 3\nZeroDivisionError: division by zero\n'
    )
    print_error(JobFailedError("The map 'halve' (1/2) failed on host a.", detail=detail), debug=False)
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback") and printed.endswith(
        "Error: The map 'halve' (1/2) failed on host a.\n"
    )


@pytest.mark.parametrize("line", ["", "[1, 2]", "{", "null"])
def test_lines_that_are_not_log_entries_are_shown_as_they_are(line: str) -> None:
    """A worker that crashed may leave half a line."""
    assert line == readable(line)
