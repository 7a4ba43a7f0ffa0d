"""The same history gives the same decisions, whatever the process hashes strings to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HISTORY = """
import sys
sys.path.insert(0, sys.argv[1])
from coordination.job_graphs import pipeline, runs_on, submit
from zmflow.protocol.messages import CancelJob, GetLogs, WatchJob
from zmflow.testing.control_plane import ControlPlane

cluster = ControlPlane([2, 3, 1], behaviour=runs_on)
client = cluster.add_client()
for number in range(4):
    cluster.say(client, submit(f"job{number}", pipeline(number + 1, separate=number == 2)))
    cluster.say(client, WatchJob(1, number, f"job{number}"))
cluster.settle()
cluster.say(client, GetLogs(1, 9, "job1", 10))
cluster.kill_worker(cluster.workers[0])
cluster.advance(3_000)
cluster.disconnect("tm-2", noticed=True)
cluster.say(client, CancelJob(1, 9, "job2"))
cluster.advance(20_000)
for entry in cluster.dispatcher.story():
    print(entry)
for message in client.received:
    print(message)
"""


def _trace(hash_seed: str) -> str:
    room = Path(__file__).parent.parent
    ran = subprocess.run(
        [sys.executable, "-c", HISTORY, str(room)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ran.stdout


def test_decisions_do_not_depend_on_the_hash_seed():
    """Two processes with different hash seeds tell the same story and send the same messages."""
    first, second = _trace("1"), _trace("2")
    assert first == second
    assert "CANCELED" in first
    assert "FAILED" in first
