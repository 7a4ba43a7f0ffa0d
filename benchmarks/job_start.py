"""What it takes to start: from submission to the first record and to the end, embedded and on a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.results import BenchmarkResult, at_most, figure
from benchmarks.rounds import environment_for, run_rounds

__all__ = ["NAME", "measure"]

NAME = "job_start"

PROGRAM = str(Path(__file__).with_name("trivial_job.py"))
ZMFLOW = str(Path(sys.executable).with_name("zmflow"))
CLUSTER_TIMEOUT_S = 60

EMBEDDED = {"execution.target": "embedded"}
BARE = "print([number + 1 for number in [1, 2, 3]])"


@contextmanager
def running_cluster() -> Iterator[dict[str, str]]:
    """A cluster of daemons, and the settings with which its JobManager is found."""
    with tempfile.TemporaryDirectory(prefix="zmflow-benchmark-") as temporary:
        place = Path(temporary)
        where = ["--dir", str(place / "cluster")]

        def cluster(*arguments: str) -> None:
            command = [ZMFLOW, "cluster", *arguments, *where]
            subprocess.run(
                command,
                cwd=place,
                env=environment_for(place, {}),
                stdout=subprocess.DEVNULL,
                timeout=CLUSTER_TIMEOUT_S,
                check=True,
            )

        cluster("start", "--taskmanagers", "1", "--slots", "2")
        try:
            about = json.loads((place / "cluster" / "cluster.json").read_text(encoding="utf-8"))
            yield {"jobmanager.rpc.address": about["host"], "jobmanager.rpc.port": str(about["port"])}
        finally:
            cluster("stop")


def measure(*, quick: bool) -> BenchmarkResult:
    """Python alone, the job as a program and through ``zmflow run``, embedded and on a cluster, in turn."""
    with running_cluster() as cluster:
        samples = run_rounds(
            {
                "bare Python": (["-c", BARE], {}),
                "python JOB, embedded": ([PROGRAM], EMBEDDED),
                "zmflow run, embedded": ([ZMFLOW, "run", PROGRAM], EMBEDDED),
                "python JOB, cluster": ([PROGRAM], cluster),
                "zmflow run, cluster": ([ZMFLOW, "run", PROGRAM], cluster),
            },
            quick=quick,
        )
    figures = [
        figure(f"{name}: process", "s", each.whole_s(), "whole process") for name, each in samples.items()
    ]
    for name, each in samples.items():
        if name != "bare Python":
            figures.append(figure(f"{name}: submit to first record", "s", each.numbers("first_record_s")))
            figures.append(figure(f"{name}: submit to FINISHED", "s", each.numbers("finished_s")))
    whole = next(each for each in figures if each.name == "zmflow run, embedded: process")
    return BenchmarkResult(
        name=NAME,
        title="Starting a job of three records",
        parameters={"taskmanagers": 1, "slots": 2},
        figures=figures,
        bounds=[
            at_most("zmflow run, embedded, whole process in s", whole.median, 1.0),
            at_most(
                "running cluster, submit to FINISHED in s",
                samples["zmflow run, cluster"].median("finished_s"),
                0.3,
            ),
        ],
        verified="every record was checked by the job itself",
    )
