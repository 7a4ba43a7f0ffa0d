"""A job as PyFlink's client sees it: ids, states, and futures where zmflow answers at once."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Generic, TypeVar

from zmflow import api

__all__ = [
    "CompletableFuture",
    "InputDependencyConstraint",
    "JobClient",
    "JobID",
    "JobStatus",
    "RestartStrategies",
    "RestartStrategyConfiguration",
]

T = TypeVar("T")


class CompletableFuture(Generic[T]):
    """An answer that is asked for when ``result`` or ``exception`` is called, and remembered."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._answer: tuple[T] | None = None
        self._error: Exception | None = None

    def result(self) -> T:
        """Wait for the answer; raise what asking raised."""
        if self._answer is None:
            try:
                self._answer = (self._ask(),)
            except Exception as error:
                self._error = error
                raise
        return self._answer[0]

    def exception(self) -> Exception | None:
        """Wait; what asking raised, or None."""
        try:
            self.result()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            return error
        return None

    def done(self) -> bool:
        """Whether the answer is there."""
        return self._answer is not None or self._error is not None

    def cancel(self) -> bool:
        """False: an answer cannot be cancelled. To cancel the job, use ``JobClient.cancel``."""
        return False

    def cancelled(self) -> bool:
        """False."""
        return False


class JobID(str):
    """The id of a job: 32 hexadecimal digits."""

    __slots__ = ()


class JobStatus(Enum):
    """The states of a job, with PyFlink's numbers."""

    CREATED = 0
    RUNNING = 1
    FAILING = 2
    FAILED = 3
    CANCELLING = 4
    CANCELED = 5
    FINISHED = 6
    RESTARTING = 7
    SUSPENDED = 8
    RECONCILING = 9
    INITIALIZING = 10

    def is_globally_terminal_state(self) -> bool:
        """Whether nobody will run the job again."""
        return self in (JobStatus.FAILED, JobStatus.CANCELED, JobStatus.FINISHED)

    def is_terminal_state(self) -> bool:
        """Whether nobody runs the job now and here."""
        return self is JobStatus.SUSPENDED or self.is_globally_terminal_state()


class JobClient:
    """A submitted job. Answers are futures, as in PyFlink."""

    def __init__(self, client: api.JobClient) -> None:
        self._client = client

    def get_job_id(self) -> JobID:
        """The job's id."""
        return JobID(self._client.get_job_id())

    def get_job_status(self) -> CompletableFuture[JobStatus]:
        """The job's state at the time ``result`` is called."""
        return CompletableFuture(lambda: JobStatus[self._client.get_job_status()])

    def cancel(self) -> CompletableFuture[None]:
        """Ask for cancellation now."""
        self._client.cancel()
        return CompletableFuture(lambda: None)

    def trigger_savepoint(
        self,
        savepoint_directory: str | None = None,
        format: object = None,  # noqa: ARG002
    ) -> CompletableFuture[str]:
        """A savepoint, taken when ``result`` is called: where it is. There is one format."""
        return CompletableFuture(lambda: self._client.trigger_savepoint(savepoint_directory))

    def stop_with_savepoint(
        self,
        advance_to_end_of_event_time: bool,
        savepoint_directory: str | None = None,
        format: object = None,  # noqa: ARG002
    ) -> CompletableFuture[str]:
        """The job is stopped with a savepoint when ``result`` is called: where it is."""
        stop = self._client.stop_with_savepoint
        return CompletableFuture(lambda: stop(advance_to_end_of_event_time, savepoint_directory))

    def get_accumulators(self) -> CompletableFuture[dict[str, Any]]:
        """The job's accumulators by name, at the time ``result`` is called."""
        return CompletableFuture(self._client.get_accumulators)

    def get_job_execution_result(self) -> CompletableFuture[api.JobExecutionResult]:
        """The job's end, waited for when ``result`` is called. It raises when the job failed."""
        return CompletableFuture(self._wait)

    def close(self) -> None:
        """Let go of the connection, and of the embedded cluster, which ends the job."""
        self._client.close()

    def _wait(self) -> api.JobExecutionResult:
        try:
            return self._client.get_job_execution_result()
        finally:
            self._client.close()


class InputDependencyConstraint(Enum):
    """When a consumer is scheduled in BATCH mode. It has no effect: exchanges are pipelined."""

    ANY = 0
    ALL = 1


class RestartStrategyConfiguration:
    """A restart strategy, as the settings that choose it."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings

    def get_description(self) -> str:
        """The settings that choose it."""
        return ", ".join(f"{key}: {value}" for key, value in self.settings.items())


class _NoRestart(RestartStrategyConfiguration):
    """A failure ends the job."""

    def __init__(self) -> None:
        super().__init__({"restart-strategy.type": "none"})


class _FallbackRestart(RestartStrategyConfiguration):
    """What the cluster's settings say."""

    def __init__(self) -> None:
        super().__init__({})


class _FixedDelayRestart(RestartStrategyConfiguration):
    """So many restarts, with a delay in milliseconds before each."""

    def __init__(self, restart_attempts: int, delay_between_attempts: int) -> None:
        prefix = "restart-strategy.fixed-delay"
        super().__init__(
            {
                "restart-strategy.type": "fixed-delay",
                f"{prefix}.attempts": str(restart_attempts),
                f"{prefix}.delay": f"{delay_between_attempts} ms",
            }
        )


class _FailureRateRestart(RestartStrategyConfiguration):
    """As long as there are no more failures than so many in an interval; milliseconds."""

    def __init__(
        self, max_failure_rate: int, failure_interval: int, delay_between_attempts_interval: int
    ) -> None:
        prefix = "restart-strategy.failure-rate"
        super().__init__(
            {
                "restart-strategy.type": "failure-rate",
                f"{prefix}.max-failures-per-interval": str(max_failure_rate),
                f"{prefix}.failure-rate-interval": f"{failure_interval} ms",
                f"{prefix}.delay": f"{delay_between_attempts_interval} ms",
            }
        )


class RestartStrategies:
    """Factories of restart strategies. Since Flink 2.0 they are chosen by settings; these make them.

    >>> RestartStrategies.fixed_delay_restart(3, 100).settings["restart-strategy.fixed-delay.delay"]
    '100 ms'
    """

    NoRestartStrategyConfiguration = _NoRestart
    FixedDelayRestartStrategyConfiguration = _FixedDelayRestart
    FailureRateRestartStrategyConfiguration = _FailureRateRestart
    FallbackRestartStrategyConfiguration = _FallbackRestart

    @staticmethod
    def no_restart() -> RestartStrategyConfiguration:
        """A failure ends the job."""
        return _NoRestart()

    @staticmethod
    def fall_back_restart() -> RestartStrategyConfiguration:
        """What the cluster's settings say."""
        return _FallbackRestart()

    @staticmethod
    def fixed_delay_restart(
        restart_attempts: int, delay_between_attempts: int
    ) -> RestartStrategyConfiguration:
        """So many restarts, with a delay in milliseconds before each."""
        return _FixedDelayRestart(restart_attempts, delay_between_attempts)

    @staticmethod
    def failure_rate_restart(
        failure_rate: int, failure_interval: int, delay_interval: int
    ) -> RestartStrategyConfiguration:
        """As long as there are no more failures than so many in an interval; milliseconds."""
        return _FailureRateRestart(failure_rate, failure_interval, delay_interval)
