"""How long a job with state is down when a process is killed: its worker, or a whole TaskManager.

With local recovery: a restarted worker finds the copies of its TaskManager; those of a TaskManager that is
killed are gone with it, and the checkpoint is read. The wait before a restart is set to a millisecond, so
that it is not what is measured.

Run as a program it is one variant: ``worker STATE_BYTES`` or ``taskmanager STATE_BYTES``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cluster import running_cluster
from benchmarks.profiles import ProfileJob, profile_job, users_of_size, wait_for
from benchmarks.results import BenchmarkResult, Bound, at_most, figure
from benchmarks.rounds import run_rounds
from zmflow.protocol.messages import JobStatus

__all__ = ["NAME", "measure"]

NAME = "recovery"

STATE_BYTES = 100_000_000
STATE_QUICK_BYTES = 2_000_000

SETTINGS = {
    "execution.checkpointing.interval": "500 ms",
    "execution.checkpointing.min-pause": "500 ms",
    "execution.checkpointing.local-backup.enabled": "true",
    "execution.state-recovery.from-local": "true",
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": "10",
    "restart-strategy.fixed-delay.delay": "1 ms",
}

BOUNDS_S = {"worker": 1.0, "taskmanager": 2.0}
"""From when it is known that the process is gone until its tasks have processed records again."""


def recovery(victim: str, state_bytes: int) -> dict[str, float | int]:
    """Kill a process of a job whose state is complete, and see when the job is back."""
    users = users_of_size(state_bytes)
    with (
        tempfile.TemporaryDirectory() as temporary,
        running_cluster(taskmanagers=2, slots=1) as cluster,
        profile_job(users, Path(temporary), cluster, SETTINGS) as job,
    ):
        (full,) = job.notes("full")

        def whole_checkpoint() -> bool:
            job.status()
            records = job.client.checkpoints(job.job_id).records
            return any(
                record.state == "COMPLETED" and record.triggered_wall_ms > full.wall_ms for record in records
            )

        wait_for("a checkpoint with all state", whole_checkpoint)
        pid = _process_of(job, victim)
        known = len(job.notes("first"))
        killed_ms = time.time() * 1000
        os.kill(pid, signal.SIGKILL)
        # First what the processes of the job say for themselves, then questions: they cost time, too.
        wait_for("records after the restart", lambda: len(job.notes("first")) > known)
        status: JobStatus = wait_for("all tasks", lambda: _all_run(job.status()))
        first = job.notes("first")[known]
        (failure,) = status.exceptions
        summary = status.checkpoints
        assert summary is not None
        assert summary.restored_id, "Nothing was restored."
        assert first.restored, "The state of the first record was lost."
        running_ms = max(task.since_ms for vertex in status.vertices for task in vertex.subtasks)
        return {
            "detected_s": max(1.0, failure.at_ms - killed_ms) / 1000,  # instants are whole milliseconds
            "running_s": (running_ms - failure.at_ms) / 1000,
            "first_record_s": (first.wall_ms - failure.at_ms) / 1000,
            "restored_bytes": summary.last_bytes,
        }


def _process_of(job: ProfileJob, victim: str) -> int:
    """The process of the worker that runs the job, or of its TaskManager."""
    for taskmanager in job.client.cluster_status().taskmanagers:
        for slot in taskmanager.slots:
            if slot.job_id == job.job_id and slot.state == "allocated":
                return slot.worker_pid if victim == "worker" else taskmanager.pid
    raise AssertionError("No slot runs the job.")


def _all_run(status: JobStatus) -> JobStatus | None:
    """The status when every task has restarted and runs."""
    tasks = [task for vertex in status.vertices for task in vertex.subtasks]
    return status if status.exceptions and all(task.state == "RUNNING" for task in tasks) else None


def measure(*, quick: bool) -> BenchmarkResult:
    """A worker and a TaskManager in turn, each on a cluster of its own."""
    size = STATE_QUICK_BYTES if quick else STATE_BYTES
    samples = run_rounds(
        {victim: (["-m", "benchmarks.recovery", victim, str(size)], {}) for victim in BOUNDS_S},
        quick=quick,
    )
    figures = []
    bounds: list[Bound] = []
    for victim, variant in samples.items():
        for name, field in (
            ("killed to noticed", "detected_s"),
            ("noticed to all tasks RUNNING", "running_s"),
            ("noticed to first record", "first_record_s"),
        ):
            figures.append(figure(f"{victim}: {name}", "s", variant.numbers(field)))
        for name, field in (("all tasks RUNNING", "running_s"), ("first record", "first_record_s")):
            statement = f"{victim} killed, noticed to {name} in s"
            bounds.append(at_most(statement, variant.median(field), BOUNDS_S[victim]))
    return BenchmarkResult(
        name=NAME,
        title="Recovery after kill -9, checkpoints in a local directory",
        parameters={"state_bytes": size, "users": users_of_size(size), "taskmanagers": 2},
        figures=figures,
        bounds=bounds,
        verified="after the restart each profile is its user's, with every visit",
    )


if __name__ == "__main__":
    print(json.dumps(recovery(sys.argv[1], int(sys.argv[2]))))
