"""``python -m tests.chaos exactly-once``: kill -9 in and between checkpoints; every record counts once."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from tests.chaos import kill
from tests.chaos.cluster import ChaosCluster, wall_ms
from tests.chaos.database import running_server
from tests.chaos.exactly_once_jobs import kinds
from tests.chaos.jobs import write_input
from tests.chaos.killer import Kill, Killer
from tests.chaos.lanes import JobLane, JobRun
from tests.chaos.measurements import Bounds, KillReport, counts_by_variant, report_of
from tests.chaos.plan import IN_CHECKPOINT_SHARE, exactly_once_orders, kill_decisions
from tests.chaos.processes import wait_until
from tests.chaos.stalls import StallWatch
from tests.chaos.variants import ALIGNMENTS, BACKENDS, UNALIGNED, variants

__all__ = ["Choices", "run"]

SECONDS_MAX = 3600.0
"""A run ends with its last kill; this is for one that cannot kill any more."""

PROVING_KILLS = 40
"""So many kills meet jobs of all kinds. One at least must go back to a checkpoint with records in flight, or
the run says nothing about these."""

DELETED_TIMEOUT_S = 20.0
"""The JobManager deletes beside everything else what jobs leave that have finished."""


@dataclass(frozen=True)
class Choices:
    """What jobs draw from. ``postgres``: some of them write to a server of the run's own."""

    backends: Sequence[str] = BACKENDS
    alignments: Sequence[str] = ALIGNMENTS
    postgres: bool = True


def run(
    *,
    seed: int,
    kills_max: int,
    bounds: Bounds,
    say: Callable[[str], None],
    choices: Choices,
    log_dir: Path | None = None,
) -> KillReport:
    """Kill so often, and judge every line that the jobs wrote.

    Args:
        say: takes a line for each kill and each job that has ended.
        log_dir: where the daemons' logs stay; by default they go with the cluster.

    Raises:
        FileNotFoundError: a server is wanted, and none is installed.
    """
    began, began_ms = time.monotonic(), wall_ms()

    def killed(one: Kill) -> None:
        say(f"{(one.killed_ms - began_ms) / 1000:7.2f} s  {kill.line_of_kill(one)}")

    def ended(job: JobRun) -> None:
        say(f"{(job.ended_ms - began_ms) / 1000:7.2f} s  {kill.line_of_job(job)}")

    values = {**kill.CLUSTER, "env.log.dir": str(log_dir.absolute())} if log_dir is not None else kill.CLUSTER
    with ExitStack() as stack:
        server = stack.enter_context(running_server()) if choices.postgres else None
        watch = stack.enter_context(StallWatch())
        cluster = stack.enter_context(ChaosCluster(kill.TASKMANAGERS, kill.SLOTS, values))
        texts, checkpoints = cluster.root / "texts", cluster.root / "checkpoints"
        write_input(texts)
        ways = variants(choices.backends, choices.alignments)
        orders = [
            exactly_once_orders(seed, lane, checkpoints, kinds(server), ways) for lane in range(kill.LANES)
        ]
        lanes = [JobLane(cluster, n, each, texts, ended) for n, each in enumerate(orders)]
        kills = _kill_beside(cluster, lanes, seed, kills_max, killed)
        orphans = cluster.wait_for_orphans_to_end()
        forgotten = _files_left(checkpoints)
        cluster.close()
        runs = [job for lane in lanes for job in lane.runs]
        report = report_of(
            seed=seed,
            seconds=time.monotonic() - began,
            kills=kills,
            runs=runs,
            registrations=cluster.registrations,
            stalls=watch.stalls,
            left=[*orphans, *cluster.left],
            bounds=replace(bounds, kills_least=kills_max if kills_max < sys.maxsize else 0),
        )
        counts = counts_by_variant(kills, runs)
        broken = [f"{len(forgotten)} files of checkpoints were left behind"] if forgotten else []
        if _must_prove(choices, kills_max) and not any(each.restored_in_flight for each in counts.values()):
            broken.append("no checkpoint with records in flight was restored from")
        return msgspec.structs.replace(
            report, variants=counts, files_left=forgotten, broken=[*report.broken, *broken]
        )


def _kill_beside(
    cluster: ChaosCluster, lanes: list[JobLane], seed: int, kills_max: int, killed: Callable[[Kill], None]
) -> list[Kill]:
    """Kill while the lanes run their jobs, and wait for the last of them."""
    decisions = kill_decisions(seed, kill.TASKMANAGERS, kill.SLOTS, in_checkpoint_share=IN_CHECKPOINT_SHARE)
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
    return killer.kills


def _must_prove(choices: Choices, kills_max: int) -> bool:
    """Whether so many kills of such jobs meet records in flight."""
    return kills_max >= PROVING_KILLS and UNALIGNED in choices.alignments


def _files_left(checkpoints: Path) -> list[str]:
    """What nobody has deleted of the checkpoints of jobs that have all ended."""

    def files() -> list[str]:
        # Not by rglob, which fails when a directory is deleted that it is about to look into.
        found = [Path(folder, name) for folder, _, names in os.walk(checkpoints) for name in names]
        return sorted(str(path.relative_to(checkpoints)) for path in found)

    wait_until(lambda: not files(), DELETED_TIMEOUT_S)
    return files()
