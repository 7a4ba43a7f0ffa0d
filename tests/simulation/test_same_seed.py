"""The same seed gives the same history, whatever the process hashes strings to."""

from __future__ import annotations

import os
import subprocess
import sys

TRACES = """
import hashlib
from zmflow.testing.simulation import run_seed

for seed in range(60):
    outcome = run_seed(seed, trace=True)
    digest = hashlib.sha256("\\n".join(outcome.trace).encode()).hexdigest()
    print(seed, outcome.steps, outcome.virtual_ms, digest, outcome.violation)
"""


def _traces(hash_seed: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-c", TRACES],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return ran.stdout.splitlines()


def test_traces_do_not_depend_on_the_hash_seed():
    """Two processes with different hash seeds trace the same events and effects for 60 seeds."""
    first, second = _traces("1"), _traces("2")
    assert first == second
    assert len({line.split()[3] for line in first}) == len(first), "seeds that give the same trace"
