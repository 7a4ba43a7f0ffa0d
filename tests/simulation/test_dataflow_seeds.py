"""Simulated jobs with their records: each counts once, and planted bugs are found."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from dataflow_bugs import DATAFLOW_BUGS

from zmflow.testing.simulation.dataflow import run_dataflow
from zmflow.testing.simulation.dataflow.__main__ import main
from zmflow.testing.simulation.dataflow.task import FlowTask

SEEDS = 600
BUG_SEEDS_MAX = 600

AGAIN = "overtaken records are sent again"

ONCE_FAILED = (15, 28, 2341, 3203)
"""Found in the engine: nobody told a task that waited behind another one that waited (15); a task ended while
its last commits were put off (28); splits of a reader that restarted were in no snapshot (2341, 3203)."""


def test_every_record_of_some_hundred_jobs_counts_once():
    """Each seed comes to its end with the output of a run without failures, and faults do happen."""
    faults: dict[str, int] = {}
    for seed in range(SEEDS):
        outcome = run_dataflow(seed)
        assert not outcome.violation, "\n".join([f"{outcome.violation}", outcome.command, *outcome.story])
        for fault, count in outcome.faults.items():
            faults[fault] = faults.get(fault, 0) + count
    for fault in (
        "task fails",
        "worker dies",
        "job is rescaled",
        "savepoint is taken",
        "commit is put off",
        AGAIN,
    ):
        assert faults.get(fault, 0) >= 20, faults


@pytest.mark.parametrize("seed", ONCE_FAILED)
def test_a_seed_that_failed_once_passes(seed):
    """What was found is mended."""
    assert not run_dataflow(seed).violation


@pytest.mark.parametrize("name", DATAFLOW_BUGS)
def test_a_planted_bug_is_caught(name):
    """Some of the first seeds fails while the bug is there, and passes without it."""
    with DATAFLOW_BUGS[name]():
        caught = next((o for o in map(run_dataflow, range(BUG_SEEDS_MAX)) if o.violation), None)
    assert caught is not None, f"{DATAFLOW_BUGS[name].__doc__} {BUG_SEEDS_MAX} seeds did not show it"
    print(f"{name}: seed {caught.seed}: {caught.violation.splitlines()[0]}")
    assert not run_dataflow(caught.seed).violation, "it fails without the bug"


TRACES = """
import hashlib
from zmflow.testing.simulation.dataflow import run_dataflow

for seed in range(40):
    outcome = run_dataflow(seed, trace=True)
    print(seed, outcome.steps, hashlib.sha256("\\n".join(outcome.trace).encode()).hexdigest())
"""


def test_the_same_seed_gives_the_same_trace():
    """Two processes with different hash seeds trace the same events."""
    first, second = (
        subprocess.run(
            [sys.executable, "-c", TRACES],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        ).stdout.splitlines()
        for hash_seed in ("1", "2")
    )
    assert first == second
    assert len({line.split()[2] for line in first}) == len(first), "seeds that give the same trace"


def test_a_failing_seed_tells_its_story(capsys, monkeypatch):
    """The command ends with 1, names the seed and what repeats it, and tells what happened."""
    monkeypatch.setattr(FlowTask, "_end", lambda self, _chain: self._finished())
    assert main(["--seeds", "0..2", "--processes", "1"]) == 1
    told = capsys.readouterr().err
    assert "Seed 0: " in told
    assert "python -m zmflow.testing.simulation.dataflow --seeds 0 --trace" in told
    assert "What happened last:" in told
    assert re.search(r"checkpoint \d+ begins", told)
