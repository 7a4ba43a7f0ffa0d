"""What checkpoints cost: throughput with and without them, and how long tasks stand still for them.

Run as a program it is one variant: ``counts RECORDS KEYS INTERVAL_MS`` (-1: no checkpoints) or
``pause STATE_BYTES CHECKPOINTS``, which needs three times as much memory as that, and twice that on disk.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.cluster import running_cluster
from benchmarks.profiles import profile_job, users_of_size, wait_for
from benchmarks.results import BenchmarkResult, Figure, at_least, at_most, figure
from benchmarks.rounds import run_process, run_rounds
from benchmarks.stamps import LatestPerKeySink, StampedSource, read_counts, read_stamps, steady_state_s
from zmflow import Configuration, SequenceSource, StreamExecutionEnvironment
from zmflow.protocol.checkpoint_statistics import CheckpointRecord
from zmflow.runtime.job_client import RemoteJobClient

__all__ = ["NAME", "measure"]

NAME = "checkpoint"

KEYS = 1_000_000
KEYS_QUICK = 20_000
RECORDS = 6_000_000
RECORDS_QUICK = 500_000
PARALLELISM = 2
INTERVAL_MS = 1_000
INTERVAL_QUICK_MS = 100

STATE_BYTES = 1_000_000_000
"""Pickled; as Python's objects it is twice as much."""
STATE_QUICK_BYTES = 10_000_000
CHECKPOINTS = 20
CHECKPOINTS_QUICK = 3
PAUSE_BETWEEN_MS = 200
"""Between two checkpoints of much state; each takes some seconds beside the task."""


def counts(records: int, keys: int, interval_ms: int) -> dict[str, float | int]:
    """Running counts of words through the public API; no checkpoints without an interval."""
    with tempfile.TemporaryDirectory() as directory:
        configuration = Configuration.from_dict(
            {
                "execution.runtime-mode": "STREAMING",
                "execution.checkpointing.interval": "-1" if interval_ms < 0 else f"{interval_ms} ms",
                "execution.checkpointing.dir": str(Path(directory) / "checkpoints"),
            }
        )
        env = StreamExecutionEnvironment.get_execution_environment(configuration)
        env.set_parallelism(PARALLELISM)
        source = StampedSource(SequenceSource(1, records), directory)
        words = env.from_source(source).map(lambda number: (f"word-{number % keys}", 1))
        words.key_by(lambda pair: pair[0]).sum(1).sink_to(LatestPerKeySink(directory))
        job = env.execute_async(NAME)
        assert isinstance(job, RemoteJobClient)
        job.get_job_execution_result()
        summary = job.status().checkpoints
        job.close()
        stamps = read_stamps(Path(directory))
        found = read_counts(Path(directory))
    assert found == {
        f"word-{place}": records // keys + (1 <= place <= records % keys) for place in range(keys)
    }, "The counts are wrong."
    assert sum(stamp.records for stamp in stamps if stamp.role == "sink") == records
    completed = summary.completed if summary is not None else 0
    assert bool(completed) == (interval_ms > 0), f"{completed} checkpoints are complete."
    assert summary is None or not summary.failed, summary
    return {
        "steady_s": steady_state_s(stamps),
        "checkpoints": completed,
        "state_bytes": summary.last_bytes if summary is not None else 0,
    }


def pause(state_bytes: int, checkpoints: int) -> dict[str, Any]:
    """Of some checkpoints of much state: how long its task stood still, what was done beside it."""
    users = users_of_size(state_bytes)
    settings = {
        "execution.checkpointing.interval": f"{PAUSE_BETWEEN_MS} ms",
        "execution.checkpointing.min-pause": f"{PAUSE_BETWEEN_MS} ms",
    }
    found: dict[int, CheckpointRecord] = {}
    filling: dict[int, CheckpointRecord] = {}
    with (
        tempfile.TemporaryDirectory() as temporary,
        running_cluster() as cluster,
        profile_job(users, Path(temporary), cluster, settings) as job,
    ):
        (full,) = job.notes("full")

        def enough() -> bool:
            job.status()
            for record in job.client.checkpoints(job.job_id).records:
                assert not record.failure, record
                if record.state == "COMPLETED":
                    whole = record.triggered_wall_ms > full.wall_ms
                    (found if whole else filling)[record.checkpoint_id] = record
            return len(found) >= checkpoints

        wait_for("checkpoints", enough)
    # One subtask has nearly all the state, so the longest of all subtasks is its figure.
    kept = [found[number] for number in sorted(found)]
    return {
        "users": users,
        "memory_bytes": full.memory_bytes,
        "sync_ms": [record.sync_us / 1e3 for record in kept],
        "async_s": [record.async_us / 1e6 for record in kept],
        "state_mb": [record.state_bytes / 1e6 for record in kept],
        "filling_sync_ms": [record.sync_us / 1e3 for record in filling.values()],
    }


def percentile(samples: list[float], percent: int) -> float:
    """The smallest sample that so many percent are not above.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 50), percentile([1.0, 2.0], 99)
    (2.0, 2.0)
    """
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def pause_figures(
    much: str, pauses: list[float], said: Mapping[str, float | int | str | list[float]]
) -> list[Figure]:
    """Everything that a run of ``pause`` said."""
    figures = []
    for name, unit, field in (
        ("pause", "ms", "sync_ms"),
        ("pause while it grows", "ms", "filling_sync_ms"),
        ("beside the task", "s", "async_s"),
        ("size of a checkpoint", "MB", "state_mb"),
    ):
        values = said[field]
        assert isinstance(values, list)
        if values:
            figures.append(figure(f"{much}, {name}", unit, values))
    figures += [
        figure(f"{much}, pause, p{percent}", "ms", [percentile(pauses, percent)]) for percent in (50, 99, 100)
    ]
    figures.append(figure(f"{much}, memory of its worker", "MB", [float(str(said["memory_bytes"])) / 1e6]))
    return figures


def measure(*, quick: bool) -> BenchmarkResult:
    """Word counts with and without checkpoints in turn; then once much state."""
    records, keys = (RECORDS_QUICK, KEYS_QUICK) if quick else (RECORDS, KEYS)
    interval_ms = INTERVAL_QUICK_MS if quick else INTERVAL_MS
    size = STATE_QUICK_BYTES if quick else STATE_BYTES
    module = ["-m", "benchmarks.checkpoint"]
    samples = run_rounds(
        {
            name: ([*module, "counts", str(records), str(keys), str(interval)], {})
            for name, interval in (("without checkpoints", -1), ("with checkpoints", interval_ms))
        },
        quick=quick,
    )
    figures = [
        figure(name, "records/s", [records / seconds for seconds in variant.numbers("steady_s")])
        for name, variant in samples.items()
    ]
    counted = samples["with checkpoints"]
    figures.append(figure("checkpoints in a run", "checkpoints", counted.numbers("checkpoints")))
    figures.append(
        figure("size of a checkpoint", "MB", [each / 1e6 for each in counted.numbers("state_bytes")])
    )
    said = run_process([*module, "pause", str(size), str(CHECKPOINTS_QUICK if quick else CHECKPOINTS)]).said
    much = f"{size / 1e6:,.0f} MB of state"
    pauses = said["sync_ms"]
    assert isinstance(pauses, list)
    figures += pause_figures(much, pauses, said)
    return BenchmarkResult(
        name=NAME,
        title="Checkpoints: throughput beside none, and pauses",
        parameters={
            "records": records,
            "keys": keys,
            "parallelism": PARALLELISM,
            "interval_ms": interval_ms,
            "state_bytes": size,
            "users": int(float(str(said["users"]))),
            "checkpoints": len(pauses),
        },
        figures=figures,
        bounds=[
            at_least(
                "throughput with checkpoints beside that without",
                samples["without checkpoints"].median("steady_s") / counted.median("steady_s"),
                0.92,
            ),
            at_most(f"{much}, pause, p99 in ms", percentile(pauses, 99), 50.0),
        ],
        verified="all counts are the closed formula's; each profile is its user's, with every visit",
    )


if __name__ == "__main__":
    what, *sizes = sys.argv[1:]
    numbers = [int(size) for size in sizes]
    print(json.dumps(counts(*numbers) if what == "counts" else pause(*numbers)))
