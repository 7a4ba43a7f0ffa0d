"""The two engines: how a program is run on each, and what it printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["TIMEOUT_S", "has_pyflink", "pyflink_lines", "zmflow_lines"]

TIMEOUT_S = 300
"""PyFlink starts a JVM and Python workers for each job, which takes most of a minute on two busy cores."""


def has_pyflink(python: str) -> bool:
    """Whether an interpreter can import the real PyFlink."""
    probe = [python, "-c", "import pyflink.datastream, py4j"]
    try:
        return subprocess.run(probe, capture_output=True, check=False, cwd="/").returncode == 0
    except OSError:
        return False


def pyflink_lines(python: str, script: Path) -> list[str]:
    """What a program prints on PyFlink. Its workers are the ``python`` that is found first on the path."""
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(python).absolute().parent}{os.pathsep}{environment['PATH']}"
    return _lines([python, str(script)], environment)


def zmflow_lines(script: Path) -> list[str]:
    """What a program prints on zmflow, on an embedded cluster."""
    command = [
        str(Path(sys.executable).with_name("zmflow")),
        "run",
        "--pyflink",
        "--no-progress",
        str(script),
    ]
    return _lines(command, os.environ | {"ZMFLOW_EXECUTION_TARGET": "embedded"})


def _lines(command: list[str], environment: dict[str, str]) -> list[str]:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return sorted(line for line in done.stdout.splitlines() if "> " in line)
