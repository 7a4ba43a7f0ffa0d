"""``JobListener``: a program is told of the jobs that its environment submits and waits for."""

from __future__ import annotations

from zmflow.api.execution import JobClient, JobExecutionResult

__all__ = ["JobListener"]


class JobListener:
    """Derive from it what ``register_job_listener`` takes. Its methods are called in the program's thread.

    An exception that one of them raises reaches the caller of ``execute``.

    >>> class Names(JobListener):
    ...     def on_job_submitted(self, job_client, error):
    ...         print("submitted" if error is None else f"refused: {error}")
    """

    def on_job_submitted(self, job_client: JobClient | None, error: Exception | None) -> None:
        """A job was submitted, or the cluster did not take it: then there is an error and no client."""

    def on_job_executed(self, result: JobExecutionResult | None, error: Exception | None) -> None:
        """A job that ``execute`` waited for has ended: with its result, or with what ``execute`` raises."""
