"""The jobs a leader knows: those that run, and the newest of those that have ended."""

from __future__ import annotations

from collections.abc import Iterator

from zmflow.coordination.job_master import JobMaster
from zmflow.errors import ClusterError

__all__ = ["JobTable"]

ENDED_JOBS_MAX = 200
"""Ended jobs that are kept for 'zmflow list' and 'zmflow info', without their code: a few MB."""

ENDED_TASKS_MAX = 500_000
"""Tasks of all ended jobs that are kept, at some 300 bytes each: 150 MB. Large jobs leave earlier."""

PREFIX_SIZE_MIN = 4
"""Shortest beginning of a job id that may stand for it."""


class JobTable:
    """Jobs by id, in the order of their submission."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobMaster] = {}
        self._active: dict[str, JobMaster] = {}
        self._ended: dict[str, JobMaster] = {}  # the job that ended first, first

    def add(self, job: JobMaster) -> None:
        """Keep a job; it is active until ``retire``."""
        self._jobs[job.job_id] = self._active[job.job_id] = job

    def get(self, job_id: str) -> JobMaster | None:
        """The job with exactly this id."""
        return self._jobs.get(job_id)

    def find(self, text: str) -> JobMaster:
        """The job with this id, or the only one whose id begins with it.

        Raises:
            ClusterError: there is none, or there are several.
        """
        exact = self._jobs.get(text)
        if exact is not None:
            return exact
        matches = [job for key, job in self._jobs.items() if key.startswith(text)]
        if len(text) < PREFIX_SIZE_MIN or not matches:
            raise ClusterError(f"This cluster knows no job {text!r}.", hint="'zmflow list' shows the jobs.")
        if len(matches) > 1:
            raise ClusterError(
                f"{len(matches)} jobs begin with {text!r}.", hint="Give more of the id; see 'zmflow list'."
            )
        return matches[0]

    def active(self) -> list[JobMaster]:
        """Jobs that have not ended, first submitted first."""
        return list(self._active.values())

    def retire_ended(self) -> None:
        """Move what has ended out of the active jobs, and forget those that ended first beyond the limits."""
        fresh = [job for job in self._active.values() if job.ended]
        if not fresh:
            return
        for job in fresh:
            del self._active[job.job_id]
            self._ended[job.job_id] = job
        tasks = sum(job.tasks_total for job in self._ended.values())
        while len(self._ended) > ENDED_JOBS_MAX or (tasks > ENDED_TASKS_MAX and len(self._ended) > 1):
            oldest = self._ended.pop(next(iter(self._ended)))
            tasks -= oldest.tasks_total
            del self._jobs[oldest.job_id]

    def __iter__(self) -> Iterator[JobMaster]:
        return iter(self._jobs.values())
