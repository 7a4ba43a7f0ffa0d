"""What a run showed, and the bounds it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tests.chaos.killer import Kill
from tests.chaos.lanes import JobRun, Recovery
from tests.chaos.processes import Process
from tests.chaos.stalls import Stall, standstill_ms

__all__ = [
    "Bounds",
    "KillReport",
    "Quantiles",
    "VariantCounts",
    "counts_by_variant",
    "recovery_ms",
    "report_of",
]


class Quantiles(msgspec.Struct, frozen=True):
    """Some durations in milliseconds."""

    count: int = 0
    p50: float = 0.0
    p100: float = 0.0

    @staticmethod
    def of(values: Sequence[float]) -> Quantiles:
        """The quantiles of these.

        >>> Quantiles.of([3.0, 1.0, 2.0])
        Quantiles(count=3, p50=2.0, p100=3.0)
        """
        if not values:
            return Quantiles()
        ordered = sorted(values)
        return Quantiles(len(values), round(ordered[len(ordered) // 2], 1), round(ordered[-1], 1))

    def __str__(self) -> str:
        return f"p50 {self.p50:.0f} ms, p100 {self.p100:.0f} ms of {self.count}" if self.count else "none"


@dataclass(frozen=True)
class Bounds:
    """What must hold, besides right results and no process left."""

    detection_ms: float
    recovery_ms: float
    kills_least: int


class VariantCounts(msgspec.Struct):
    """What was done to the jobs of one variant, and by them."""

    jobs: int = 0
    restarts: int = 0
    checkpoints: int = 0  # complete ones
    checkpoints_in_flight: int = 0  # those with records that barriers had overtaken
    restored_in_flight: int = 0  # those of them that the job went back to
    in_flight_bytes_max: int = 0  # of one checkpoint
    kills: int = 0  # of processes that ran something of such a job
    kills_in_checkpoint: int = 0  # which was lost by that


class KillReport(msgspec.Struct, frozen=True):
    """The summary of a run, which is what ``--json`` prints."""

    seed: int
    seconds: float
    kills: int
    kills_of_workers: int
    kills_of_taskmanagers: int
    restarts: int
    jobs: int
    jobs_finished: int
    jobs_restarted: int
    wrong: list[str]  # what is wrong, by job
    odd_failures: list[str]  # failures of tasks that were not killed themselves, by job
    worker_detection_ms: Quantiles
    taskmanager_detection_ms: Quantiles
    recovery_ms: Quantiles
    longest_stall_ms: float  # of the machine itself; stalls are taken off the durations above
    left_behind: list[str]
    broken: list[str]  # the bounds that do not hold, in sentences
    variants: dict[str, VariantCounts] = {}  # of jobs that have any
    files_left: list[str] = []  # of checkpoints of jobs that have ended

    @property
    def holds(self) -> bool:
        """Whether everything is as it must be."""
        return not self.broken


def recovery_ms(
    run: JobRun,
    recovery: Recovery,
    kills: Sequence[Kill],
    registrations: Sequence[float],
    stalls: Sequence[Stall],
) -> float:
    """From the last thing the restart had to wait for to the instant at which all tasks ran.

    It waits for the strategy's delay after the last failure, and for slots, which come with TaskManagers.
    """
    waited = [recovery.failed_ms + recovery.backoff_ms]
    for kill in kills:
        if recovery.failed_ms <= kill.noticed_ms <= recovery.running_ms and any(
            job_id == run.job_id for job_id, _ in kill.victim.jobs
        ):
            waited.append(kill.noticed_ms + recovery.backoff_ms)
    waited += registrations
    before = [instant for instant in waited if instant <= recovery.running_ms]
    began_ms = max(before, default=recovery.running_ms)
    return recovery.running_ms - began_ms - standstill_ms(stalls, began_ms, recovery.running_ms)


def counts_by_variant(kills: Sequence[Kill], runs: Sequence[JobRun]) -> dict[str, VariantCounts]:
    """What there was of each variant. A TaskManager that worked for two jobs counts for both."""
    counts: dict[str, VariantCounts] = {}
    for run in runs:
        of_variant = counts.setdefault(run.order.variant, VariantCounts())
        of_variant.jobs += 1
        of_variant.restarts += run.restarts
        of_variant.checkpoints += run.checkpoints
        of_variant.checkpoints_in_flight += len(run.in_flight.size_bytes)
        of_variant.restored_in_flight += run.in_flight.proofs
        of_variant.in_flight_bytes_max = max(
            of_variant.in_flight_bytes_max, *run.in_flight.size_bytes.values(), 0
        )
        of_variant.kills += sum(run.job_id in dict(kill.victim.jobs) for kill in kills)
        of_variant.kills_in_checkpoint += sum(run.job_id == kill.in_checkpoint_of for kill in kills)
    return dict(sorted(counts.items()))


def report_of(
    *,
    seed: int,
    seconds: float,
    kills: Sequence[Kill],
    runs: Sequence[JobRun],
    registrations: Sequence[float],
    stalls: Sequence[Stall],
    left: Sequence[Process],
    bounds: Bounds,
) -> KillReport:
    """Judge a run."""
    noticed = [
        (kill, kill.detection_ms - standstill_ms(stalls, kill.killed_ms, kill.noticed_ms)) for kill in kills
    ]
    workers = Quantiles.of([duration_ms for kill, duration_ms in noticed if kill.victim.allocation])
    hosts = Quantiles.of([duration_ms for kill, duration_ms in noticed if not kill.victim.allocation])
    recoveries = sorted(
        (recovery_ms(run, each, kills, registrations, stalls), f"restart {each.restart} of {run.order.name}")
        for run in runs
        for each in run.recoveries
    )
    recovered = Quantiles.of([duration_ms for duration_ms, _ in recoveries])
    wrong = [f"{run.order.name}: {run.fault}" for run in runs if run.fault]
    left_behind = [f"{process.pid} {process.command}" for process in left]
    broken = []
    if wrong:
        broken.append(f"{len(wrong)} of {len(runs)} jobs went wrong")
    if left_behind:
        broken.append(f"{len(left_behind)} processes were left behind")
    if len(kills) < bounds.kills_least:
        broken.append(f"{len(kills)} kills are fewer than {bounds.kills_least}")
    for what, measured, bound in (
        ("a killed worker was noticed", workers, bounds.detection_ms),
        ("a killed TaskManager was noticed", hosts, bounds.detection_ms),
        ("a restarted job ran again", recovered, bounds.recovery_ms),
    ):
        if measured.p100 >= bound:
            broken.append(f"{what} after {measured.p100:.0f} ms, which is not below {bound:.0f} ms")
    broken += [f"{name} took {ms:.0f} ms" for ms, name in recoveries if ms >= bounds.recovery_ms]
    return KillReport(
        seed=seed,
        seconds=round(seconds, 1),
        kills=len(kills),
        kills_of_workers=workers.count,
        kills_of_taskmanagers=hosts.count,
        restarts=sum(run.restarts for run in runs),
        jobs=len(runs),
        jobs_finished=sum(run.state == "FINISHED" and not run.fault for run in runs),
        jobs_restarted=sum(run.restarts > 0 for run in runs),
        wrong=wrong,
        odd_failures=[f"{run.order.name}: {run.odd_failure}" for run in runs if run.odd_failure],
        worker_detection_ms=workers,
        taskmanager_detection_ms=hosts,
        recovery_ms=recovered,
        longest_stall_ms=round(max((stall.duration_ms for stall in stalls), default=0.0), 1),
        left_behind=left_behind,
        broken=broken,
    )
