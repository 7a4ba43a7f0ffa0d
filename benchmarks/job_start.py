"""What it takes to start: from submission to the first record and to the end, embedded and on a cluster."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cluster import ZMFLOW, running_cluster
from benchmarks.results import BenchmarkResult, at_most, figure
from benchmarks.rounds import run_rounds

__all__ = ["NAME", "measure"]

NAME = "job_start"

PROGRAM = str(Path(__file__).with_name("trivial_job.py"))

EMBEDDED = {"execution.target": "embedded"}
BARE = "print([number + 1 for number in [1, 2, 3]])"


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
