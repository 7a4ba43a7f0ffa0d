"""The benchmarks run, check their output, and report every sample."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 110

pytestmark = pytest.mark.integration


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m benchmarks``."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.parametrize(
    "name",
    ["stateless_chain", "job_start", "shuffle", "keyed_state", "tumbling_window", "checkpoint", "recovery"],
)
def test_a_quick_run_is_written_and_reported(tmp_path: Path, name: str) -> None:
    """All samples are in the file, with the machine; the report shows the same medians again."""
    done = benchmarks("run", name, "--quick", "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((tmp_path / "out.json").read_bytes())
    assert report["quick"]
    assert report["machine"]["cpu"]
    assert report["machine"]["cores"] >= 1
    (result,) = report["results"]
    assert result["name"] == name
    assert result["bounds"]
    assert all(figure["samples"] and figure["median"] > 0 for figure in result["figures"])
    again = benchmarks("report", str(tmp_path / "out.json"))
    assert again.stdout == done.stdout
    assert "A quick run" in again.stdout
    assert result["title"] in again.stdout


def test_memory_grows_neither_with_the_input_nor_behind_a_slow_sink(tmp_path: Path) -> None:
    """A file ten times larger, and 6 s of a sink of 1 ms per record (60 s in the full benchmark)."""
    done = benchmarks("run", "memory", "--quick", "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr
    (result,) = msgspec.json.decode((tmp_path / "out.json").read_bytes())["results"]
    assert len(result["bounds"]) == 3
    # Short runs on a shared machine: the full benchmark's limits for the slow sink are narrower.
    assert all(bound["value"] < 1.2 for bound in result["bounds"]), result["bounds"]


def test_unknown_benchmarks_are_refused() -> None:
    """With the names that exist."""
    refused = benchmarks("run", "quantum")
    assert refused.returncode == 2
    assert "unknown: quantum" in refused.stderr
    assert benchmarks("list").stdout.split() == [
        "stateless_chain",
        "word_count",
        "keyed_state",
        "tumbling_window",
        "shuffle",
        "latency",
        "job_start",
        "memory",
        "checkpoint",
        "recovery",
    ]
