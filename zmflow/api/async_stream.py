"""``AsyncDataStream``: enriches a stream by calls of other services, many of them at once."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from zmflow.api.async_functions import AsyncFunction, AsyncOperator, AsyncRetryStrategy, NoRetryStrategy
from zmflow.api.datastream import DataStream
from zmflow.api.keyed_stream import KeyedStream
from zmflow.api.time import TimeAmount, whole_millis
from zmflow.api.types import TypeInformation
from zmflow.errors import JobGraphError

__all__ = ["AsyncDataStream"]

IN = TypeVar("IN")
OUT = TypeVar("OUT")

AsyncCallable = AsyncFunction[IN, OUT] | Callable[[IN], Awaitable[Iterable[OUT]]]

_NO_RETRY = NoRetryStrategy()


class AsyncDataStream:
    """Applies an ``AsyncFunction``, or an ``async def`` function that returns a list, to a stream.

    ``ordered_wait`` hands results on in the order of the records, ``unordered_wait`` as they come, but never
    across a watermark: event time means the same before and behind it.
    """

    @staticmethod
    def unordered_wait(
        data_stream: DataStream[IN],
        async_function: AsyncCallable[IN, OUT],
        timeout: TimeAmount,
        capacity: int = 100,
        output_type: TypeInformation | None = None,
    ) -> DataStream[OUT]:
        """Results leave as they come.

        Args:
            data_stream: the records.
            async_function: what to call for each.
            timeout: the longest time a call may take before ``AsyncFunction.timeout``; 0: no limit.
            capacity: how many records may be under way; further ones wait.
            output_type: what results are; optional.
        """
        return AsyncDataStream.unordered_wait_with_retry(
            data_stream, async_function, timeout, _NO_RETRY, capacity, output_type
        )

    @staticmethod
    def unordered_wait_with_retry(
        data_stream: DataStream[IN],
        async_function: AsyncCallable[IN, OUT],
        timeout: TimeAmount,
        async_retry_strategy: AsyncRetryStrategy,
        capacity: int = 100,
        output_type: TypeInformation | None = None,
    ) -> DataStream[OUT]:
        """Results leave as they come; calls are made again as the strategy says, within the timeout."""
        return _wait(
            data_stream, async_function, timeout, async_retry_strategy, capacity, output_type, ordered=False
        )

    @staticmethod
    def ordered_wait(
        data_stream: DataStream[IN],
        async_function: AsyncCallable[IN, OUT],
        timeout: TimeAmount,
        capacity: int = 100,
        output_type: TypeInformation | None = None,
    ) -> DataStream[OUT]:
        """Results leave in the order of their records.

        Args:
            data_stream: the records.
            async_function: what to call for each.
            timeout: the longest time a call may take before ``AsyncFunction.timeout``; 0: no limit.
            capacity: how many records may be under way; further ones wait.
            output_type: what results are; optional.
        """
        return AsyncDataStream.ordered_wait_with_retry(
            data_stream, async_function, timeout, _NO_RETRY, capacity, output_type
        )

    @staticmethod
    def ordered_wait_with_retry(
        data_stream: DataStream[IN],
        async_function: AsyncCallable[IN, OUT],
        timeout: TimeAmount,
        async_retry_strategy: AsyncRetryStrategy,
        capacity: int = 100,
        output_type: TypeInformation | None = None,
    ) -> DataStream[OUT]:
        """Results leave in the order of their records; calls are made again as the strategy says."""
        return _wait(
            data_stream, async_function, timeout, async_retry_strategy, capacity, output_type, ordered=True
        )


def _wait(
    stream: DataStream[Any],
    function: Any,
    timeout: TimeAmount,
    strategy: AsyncRetryStrategy,
    capacity: int,
    output_type: TypeInformation | None,
    *,
    ordered: bool,
) -> DataStream[Any]:
    call = "ordered_wait()" if ordered else "unordered_wait()"
    if not isinstance(stream, DataStream):
        raise JobGraphError(f"{call} takes a DataStream, not a {type(stream).__name__}.")
    _check_function(function, call)
    _check_strategy(strategy, call)
    timeout_ms = whole_millis(timeout, call)
    if timeout_ms < 0 or (timeout_ms == 0 and not isinstance(strategy, NoRetryStrategy)):
        raise JobGraphError(
            f"{call} was given the timeout {timeout!r}.",
            hint="With retries it is more than zero; without, zero means no limit.",
        )
    if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
        raise JobGraphError(f"{call} takes a capacity of at least 1, not {capacity!r}.")
    key_selector = stream._key_selector if isinstance(stream, KeyedStream) else None
    operator: Any = AsyncOperator(function, timeout_ms, capacity, ordered, strategy, key_selector)
    return stream._then("async wait operator", operator, output_type)


def _check_function(function: Any, call: str) -> None:
    invoke = function.async_invoke if isinstance(function, AsyncFunction) else function
    if isinstance(function, type):
        raise JobGraphError(
            f"{call} takes an AsyncFunction, not the class {function.__name__} itself.",
            hint=f"Make an object of it: {function.__name__}().",
        )
    if not inspect.iscoroutinefunction(invoke):
        what = "async_invoke() of " + type(function).__name__ if isinstance(function, AsyncFunction) else ""
        raise JobGraphError(
            f"{call} takes an AsyncFunction or an 'async def' function, not {what or repr(function)}.",
            hint="Declare it with 'async def'.",
        )


def _check_strategy(strategy: AsyncRetryStrategy, call: str) -> None:
    if not isinstance(strategy, AsyncRetryStrategy):
        raise JobGraphError(
            f"{call} takes an AsyncRetryStrategy, not {strategy!r}.",
            hint="For example AsyncRetryStrategy.fixed_delay(3, 1000, exception_predicate=...).",
        )
    if not isinstance(strategy, NoRetryStrategy) and strategy.get_retry_predicate() is None:
        raise JobGraphError(f"The retry strategy {type(strategy).__name__} has no retry predicate.")
