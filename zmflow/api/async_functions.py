"""``AsyncFunction``: calls of other services that overlap, and when to call again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from zmflow.api.functions import Function
from zmflow.api.operators import UserFunction
from zmflow.errors import JobGraphError

__all__ = [
    "AsyncFunction",
    "AsyncOperator",
    "AsyncRetryPredicate",
    "AsyncRetryStrategy",
    "ExponentialBackoffDelayRetryStrategy",
    "FixedDelayRetryStrategy",
    "NoRetryStrategy",
    "RetryPredicate",
    "empty_result_predicate",
    "exception_type_predicate",
    "has_exception_predicate",
]

IN = TypeVar("IN", contravariant=True)
OUT = TypeVar("OUT")

ResultPredicate = Callable[[Sequence[Any]], object]
ExceptionPredicate = Callable[[Exception], object]


class AsyncFunction(Function, ABC, Generic[IN, OUT]):
    """A function that waits for something outside while others of its calls go on.

    ``async_invoke`` runs on the operator's own event loop, beside the task; clients that need a running loop
    are made there, on first use. The other methods run on the task's thread.

    >>> class Looked(AsyncFunction[str, tuple[str, int]]):
    ...     async def async_invoke(self, value):
    ...         return [(value, await self.client.get(value))]
    ...     def timeout(self, value):
    ...         return []
    """

    @abstractmethod
    async def async_invoke(self, value: IN) -> Iterable[OUT]:
        """The results for a record: a list, which may be empty."""

    def timeout(self, value: IN) -> Iterable[OUT]:
        """The results for a record whose calls took longer than the timeout; by default an error."""
        raise TimeoutError(f"Async function call has timed out for input: {value!r}")

    def on_completion(self, value: IN, results: Sequence[OUT]) -> Iterable[OUT]:  # noqa: ARG002 - for overrides
        """What leaves the operator for a record; by default the results.

        Called when it is the record's turn to leave, on the task's thread. On a keyed stream the state of the
        record's key may be read and changed here.
        """
        return results


class AsyncRetryPredicate(ABC):
    """Which outcomes of a call are worth another one."""

    @abstractmethod
    def result_predicate(self) -> ResultPredicate | None:
        """Says whether to call again after these results; None: never."""

    @abstractmethod
    def exception_predicate(self) -> ExceptionPredicate | None:
        """Says whether to call again after this exception; None: never."""


class AsyncRetryStrategy(ABC):
    """Whether, and when, a call is made again. Has no state: one object serves all records."""

    @abstractmethod
    def can_retry(self, current_attempts: int) -> bool:
        """Whether to call again after so many calls."""

    @abstractmethod
    def get_backoff_time_millis(self, current_attempts: int) -> int:
        """How long to wait after so many calls."""

    @abstractmethod
    def get_retry_predicate(self) -> AsyncRetryPredicate:
        """Which outcomes are worth another call."""

    @staticmethod
    def no_restart() -> AsyncRetryStrategy:
        """Never."""
        return NoRetryStrategy()

    @staticmethod
    def fixed_delay(
        max_attempts: int,
        backoff_time_millis: int,
        result_predicate: ResultPredicate | None = None,
        exception_predicate: ExceptionPredicate | None = None,
    ) -> AsyncRetryStrategy:
        """Up to ``max_attempts`` times, each after the same wait.

        >>> strategy = AsyncRetryStrategy.fixed_delay(2, 100, exception_predicate=has_exception_predicate)
        >>> [strategy.can_retry(calls) for calls in (1, 2, 3)]
        [True, True, False]
        """
        predicate = RetryPredicate(result_predicate, exception_predicate)
        return FixedDelayRetryStrategy(max_attempts, backoff_time_millis, predicate)

    @staticmethod
    def exponential_backoff(
        max_attempts: int,
        initial_delay: int,
        max_retry_delay: int,
        multiplier: float,
        result_predicate: ResultPredicate | None = None,
        exception_predicate: ExceptionPredicate | None = None,
    ) -> AsyncRetryStrategy:
        """Up to ``max_attempts`` times, each wait ``multiplier`` times as long as the one before.

        >>> strategy = AsyncRetryStrategy.exponential_backoff(9, 100, 500, 2)
        >>> [strategy.get_backoff_time_millis(calls) for calls in (1, 2, 3, 4)]
        [100, 200, 400, 500]
        """
        return ExponentialBackoffDelayRetryStrategy(
            max_attempts,
            initial_delay,
            max_retry_delay,
            multiplier,
            RetryPredicate(result_predicate, exception_predicate),
        )


@dataclass(frozen=True, slots=True)
class RetryPredicate(AsyncRetryPredicate):
    """A predicate of two functions, both optional."""

    of_results: ResultPredicate | None = None
    of_exceptions: ExceptionPredicate | None = None

    def result_predicate(self) -> ResultPredicate | None:
        return self.of_results

    def exception_predicate(self) -> ExceptionPredicate | None:
        return self.of_exceptions


@dataclass(frozen=True, slots=True)
class NoRetryStrategy(AsyncRetryStrategy):
    """One call, and that is it."""

    def can_retry(self, current_attempts: int) -> bool:  # noqa: ARG002 - of the interface
        return False

    def get_backoff_time_millis(self, current_attempts: int) -> int:  # noqa: ARG002 - likewise
        return -1

    def get_retry_predicate(self) -> AsyncRetryPredicate:
        return RetryPredicate()


@dataclass(frozen=True, slots=True)
class FixedDelayRetryStrategy(AsyncRetryStrategy):
    """The same wait before each further call."""

    max_attempts: int
    backoff_time_millis: int
    predicate: AsyncRetryPredicate

    def __post_init__(self) -> None:
        _check_positive(max_attempts=self.max_attempts, backoff_time_millis=self.backoff_time_millis)

    def can_retry(self, current_attempts: int) -> bool:
        return current_attempts <= self.max_attempts

    def get_backoff_time_millis(self, current_attempts: int) -> int:  # noqa: ARG002 - of the interface
        return self.backoff_time_millis

    def get_retry_predicate(self) -> AsyncRetryPredicate:
        return self.predicate


@dataclass(frozen=True, slots=True)
class ExponentialBackoffDelayRetryStrategy(AsyncRetryStrategy):
    """A longer wait before each further call, up to a greatest one."""

    max_attempts: int
    initial_delay: int
    max_retry_delay: int
    multiplier: float
    predicate: AsyncRetryPredicate

    def __post_init__(self) -> None:
        _check_positive(
            max_attempts=self.max_attempts,
            initial_delay=self.initial_delay,
            max_retry_delay=self.max_retry_delay,
            multiplier=self.multiplier,
        )

    def can_retry(self, current_attempts: int) -> bool:
        return current_attempts <= self.max_attempts

    def get_backoff_time_millis(self, current_attempts: int) -> int:
        if current_attempts <= 1:
            return self.initial_delay
        try:
            delay = self.initial_delay * self.multiplier ** (current_attempts - 1)
        except OverflowError:
            return self.max_retry_delay
        return int(min(delay, self.max_retry_delay))

    def get_retry_predicate(self) -> AsyncRetryPredicate:
        return self.predicate


@dataclass(frozen=True, slots=True)
class AsyncOperator:
    """Calls an ``AsyncFunction`` for each record, many at once.

    Args:
        function: an ``AsyncFunction``, or an ``async def`` function that returns a list.
        timeout_ms: the longest time for all calls of a record; 0: no limit.
        capacity: how many records may be under way.
        ordered: whether results leave in the order of their records, or as they come.
        retry_strategy: when to call again.
        key_selector: of a keyed stream.
    """

    function: AsyncFunction[Any, Any] | Callable[[Any], Awaitable[Iterable[Any]]]
    timeout_ms: int
    capacity: int
    ordered: bool
    retry_strategy: AsyncRetryStrategy
    key_selector: UserFunction | None = None


def empty_result_predicate(results: Sequence[Any] | None) -> bool:
    """Whether a call found nothing.

    >>> empty_result_predicate([]), empty_result_predicate([0])
    (True, False)
    """
    return results is None or len(results) == 0


def has_exception_predicate(error: Exception | None) -> bool:
    """Whether a call failed."""
    return error is not None


def exception_type_predicate(error: Exception, expected_error_type: type[Exception]) -> bool:
    """Whether a call failed in this way; bind the type with ``functools.partial``.

    >>> from functools import partial
    >>> partial(exception_type_predicate, expected_error_type=OSError)(TimeoutError())
    True
    """
    return isinstance(error, expected_error_type)


def _check_positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not number > 0:
            raise JobGraphError(f"A retry strategy takes a {name} greater than zero, not {number!r}.")
