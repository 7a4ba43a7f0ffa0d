"""Input that cannot be read, functions that cannot travel: ``zmflow run`` says it in one paragraph."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

BEGIN = """
import threading
from zmflow import StreamExecutionEnvironment
from zmflow.connectors import CsvFileSource, JsonLinesSource, TextFileSource
env = StreamExecutionEnvironment.get_execution_environment()
env.set_parallelism(1)
"""
UNREADABLE = """
import os
real = os.scandir
def scandir(path):  # root, who may run the tests, is refused nothing
    if str(path).endswith("closed"):
        raise PermissionError(13, os.strerror(13), str(path))
    return real(path)
os.scandir = scandir
env.from_source(TextFileSource("closed")).print()
"""
LOCK = """
guard = threading.Lock()
env.from_sequence(1, 9).map(lambda n: (n, guard)[0]).print()
"""


def run(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a script in its directory."""
    (directory / "job.py").write_text(BEGIN + text + "\nenv.execute()\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ZMFLOW_")}
    return subprocess.run(
        [sys.executable, "-m", "zmflow.cli.main", "run", "--no-progress", "job.py"],
        cwd=directory,
        env={**clean, "XDG_STATE_HOME": str(directory / "state")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('env.from_source(TextFileSource("missing.txt")).print()', ["No such file", "missing.txt"]),
        (UNREADABLE, ["Permission denied", "closed"]),
        ('env.from_source(TextFileSource("latin.txt")).print()', ["latin.txt", "byte 4"]),
        ('env.from_source(CsvFileSource("bad.csv")).print()', ["bad.csv"]),
        ('env.from_source(JsonLinesSource("bad.jsonl")).print()', ["bad.jsonl"]),
        (LOCK, ["operator 'Map'", "'guard'", "cannot be pickled"]),
    ],
    ids=["missing", "unreadable", "undecodable", "csv", "json", "lambda"],
)
def test_what_cannot_be_read_or_sent_is_one_paragraph(tmp_path: Path, text: str, says: list[str]) -> None:
    """No traceback of the engine, no blank line; the object at fault is named."""
    (tmp_path / "latin.txt").write_bytes(b"abc\n\xe9\n")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n3,4,5\n")
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n{"a": \n')
    (tmp_path / "closed").mkdir()
    done = run(tmp_path, text)
    assert done.returncode in (1, 2), done.stderr
    assert all(word in done.stderr for word in says), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "\n\n" not in done.stderr.strip(), done.stderr


def test_undecodable_bytes_are_replaced_on_request(tmp_path: Path) -> None:
    """The other policy."""
    (tmp_path / "latin.txt").write_bytes(b"abc\n\xe9\n")
    done = run(tmp_path, 'env.from_source(TextFileSource("latin.txt", errors="replace")).map(ascii).print()')
    assert (done.returncode, done.stdout) == (0, "'abc'\n'\\ufffd'\n"), done.stderr
