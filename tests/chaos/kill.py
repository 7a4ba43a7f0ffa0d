"""``python -m tests.chaos kill``: kill -9 of workers and TaskManagers while jobs run, all results right."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.cluster import ChaosCluster, wall_ms
from tests.chaos.jobs import write_input
from tests.chaos.killer import Kill, Killer
from tests.chaos.lanes import JobLane, JobRun
from tests.chaos.measurements import Bounds, KillReport, report_of
from tests.chaos.plan import job_orders, kill_decisions
from tests.chaos.stalls import StallWatch

__all__ = ["STRICT", "line_of_job", "line_of_kill", "run"]

TASKMANAGERS = 4
SLOTS = 2
LANES = 2

STRICT = Bounds(detection_ms=1000, recovery_ms=1000, kills_least=0)
"""What the issue asks for, on a machine that does nothing else."""

LAST_JOBS_TIMEOUT_S = 60.0
"""Undisturbed jobs take some 3 s; the last ones may have lost everything just before the killing ended."""

CLUSTER = {
    "slot.request.timeout": "60 s",  # a job that never gets its slots must fail while somebody looks
    "client.timeout": "20 s",
}


def line_of_kill(kill: Kill) -> str:
    """A kill, for people."""
    names = ", ".join(name for _, name in kill.victim.jobs) or "no job"
    where = " In a checkpoint." if kill.in_checkpoint_of else ""
    return (
        f"kill {kill.number:<4} {kill.victim.title} (pid {kill.victim.pid}, {names}): noticed after "
        f"{kill.detection_ms:.0f} ms.{where} {kill.said}"
    ).rstrip()


def line_of_job(job: JobRun) -> str:
    """A job that has ended, for people."""
    times = f"restarted {job.restarts} times" if job.restarts != 1 else "restarted once"
    outcome = f"WRONG, {job.fault}" if job.fault else "right result"
    seconds = (job.ended_ms - job.submitted_ms) / 1000
    what = ", ".join(filter(None, (job.job_id[:8], job.order.variant)))
    return f"job {job.order.name} ({what}) {job.state} after {seconds:.1f} s, {times}: {outcome}"


def run(
    *,
    seed: int,
    seconds: float,
    kills_max: int,
    bounds: Bounds,
    say: Callable[[str], None],
    log_dir: Path | None = None,
) -> KillReport:
    """Kill at random for so long, or so often, and judge what became of it.

    Args:
        say: takes a line for each kill and each job that has ended.
        log_dir: where the daemons' logs stay; by default they go with the cluster.
    """
    began, began_ms = time.monotonic(), wall_ms()

    def killed(kill: Kill) -> None:
        say(f"{(kill.killed_ms - began_ms) / 1000:7.2f} s  {line_of_kill(kill)}")

    def ended(job: JobRun) -> None:
        say(f"{(job.ended_ms - began_ms) / 1000:7.2f} s  {line_of_job(job)}")

    values = {**CLUSTER, "env.log.dir": str(log_dir.absolute())} if log_dir is not None else CLUSTER
    with StallWatch() as watch, ChaosCluster(TASKMANAGERS, SLOTS, values) as cluster:
        texts = cluster.root / "texts"
        write_input(texts)
        lanes = [JobLane(cluster, n, job_orders(seed, n), texts, ended) for n in range(LANES)]
        killer = Killer(cluster, kill_decisions(seed, TASKMANAGERS, SLOTS))
        for lane in lanes:
            lane.start()
        try:
            killer.run(seconds, kills_max, killed)
        finally:
            killer.close()
            for lane in lanes:
                lane.finish()
        deadline = time.monotonic() + LAST_JOBS_TIMEOUT_S
        for lane in lanes:
            lane.join(deadline - time.monotonic())
        orphans = cluster.wait_for_orphans_to_end()
        cluster.close()
        return report_of(
            seed=seed,
            seconds=time.monotonic() - began,
            kills=killer.kills,
            runs=[job for lane in lanes for job in lane.runs],
            registrations=cluster.registrations,
            stalls=watch.stalls,
            left=[*orphans, *cluster.left],
            bounds=bounds,
        )
