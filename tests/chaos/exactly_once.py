"""``python -m tests.chaos exactly-once``: kill -9 in and between checkpoints; every record counts once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.chaos import kill
from tests.chaos.cluster import ChaosCluster, wall_ms
from tests.chaos.exactly_once_jobs import kinds
from tests.chaos.jobs import write_input
from tests.chaos.killer import Kill, Killer
from tests.chaos.lanes import JobLane, JobRun
from tests.chaos.measurements import Bounds, KillReport, report_of
from tests.chaos.plan import IN_CHECKPOINT_SHARE, exactly_once_orders, kill_decisions
from tests.chaos.stalls import StallWatch

__all__ = ["run"]

SECONDS_MAX = 3600.0
"""A run ends with its last kill; this is for one that cannot kill any more."""


def run(
    *,
    seed: int,
    kills_max: int,
    bounds: Bounds,
    say: Callable[[str], None],
    log_dir: Path | None = None,
) -> KillReport:
    """Kill so often, and judge every line that the jobs wrote.

    Args:
        say: takes a line for each kill and each job that has ended.
        log_dir: where the daemons' logs stay; by default they go with the cluster.
    """
    began, began_ms = time.monotonic(), wall_ms()

    def killed(one: Kill) -> None:
        say(f"{(one.killed_ms - began_ms) / 1000:7.2f} s  {kill.line_of_kill(one)}")

    def ended(job: JobRun) -> None:
        say(f"{(job.ended_ms - began_ms) / 1000:7.2f} s  {kill.line_of_job(job)}")

    values = {**kill.CLUSTER, "env.log.dir": str(log_dir.absolute())} if log_dir is not None else kill.CLUSTER
    with StallWatch() as watch, ChaosCluster(kill.TASKMANAGERS, kill.SLOTS, values) as cluster:
        texts, checkpoints = cluster.root / "texts", cluster.root / "checkpoints"
        write_input(texts)
        lanes = [
            JobLane(cluster, n, exactly_once_orders(seed, n, checkpoints, kinds()), texts, ended)
            for n in range(kill.LANES)
        ]
        decisions = kill_decisions(
            seed, kill.TASKMANAGERS, kill.SLOTS, in_checkpoint_share=IN_CHECKPOINT_SHARE
        )
        killer = Killer(cluster, decisions)
        for lane in lanes:
            lane.start()
        try:
            killer.run(SECONDS_MAX, kills_max, killed)
        finally:
            killer.close()
            for lane in lanes:
                lane.finish()
        deadline = time.monotonic() + kill.LAST_JOBS_TIMEOUT_S
        for lane in lanes:
            lane.join(deadline - time.monotonic())
        orphans = cluster.wait_for_orphans_to_end()
        say(f"{killer.in_checkpoint} of {len(killer.kills)} kills came while a checkpoint was under way")
        cluster.close()
        return report_of(
            seed=seed,
            seconds=time.monotonic() - began,
            kills=killer.kills,
            runs=[job for lane in lanes for job in lane.runs],
            registrations=cluster.registrations,
            stalls=watch.stalls,
            left=[*orphans, *cluster.left],
            bounds=replace(bounds, kills_least=kills_max if kills_max < sys.maxsize else 0),
        )
