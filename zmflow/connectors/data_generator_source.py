"""``DataGeneratorSource``: records that are computed from their index, at a rate if wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Generic, TypeVar

from zmflow.api.functions import RuntimeContext
from zmflow.api.sources import (
    BATCH_RECORDS_DEFAULT,
    EndOfInput,
    Source,
    SourceReader,
    SplitEnumerator,
    SplitEnumeratorContext,
)
from zmflow.connectors.fixed_splits import FixedSplitEnumerator
from zmflow.connectors.rate_limits import RateLimiter, RateLimiterStrategy
from zmflow.errors import ConnectorError

__all__ = ["DataGeneratorSource"]

T = TypeVar("T")

LANES_PER_SUBTASK = 8
"""A job that goes on with up to so many times the parallelism has something for every subtask to do."""

ENDLESS = 2**62
"""The count of a source that does not end: at a million records a second, for 146,000 years."""


class DataGeneratorSource(Source[T, range], Generic[T]):
    """The values of a function of 0, 1, 2, ..., each index exactly once.

    The indices go round over *lanes*, eight per subtask: with 16 of them, lane 3 has the indices 3, 19, 35.
    So indices, and what is computed from them, advance at all subtasks alike; and the rate is divided among
    the lanes, so that it stays what it is when a job goes on with another parallelism.

    Args:
        generator_function: from an index to a record. It should always compute the same, for after a failure
            it is called again for what came after the checkpoint.
        count: how many records; None for a source that does not end.
        rate_limiter_strategy: ``RateLimiterStrategy.per_second(n)``; without, as fast as the job takes them.

    >>> from zmflow.testing.source_run import SourceRun
    >>> SourceRun(DataGeneratorSource(lambda index: index * index, count=5), parallelism=1).read_all()
    [0, 1, 4, 9, 16]
    """

    name = "Data Generator Source"

    def __init__(
        self,
        generator_function: Callable[[int], T],
        count: int | None = None,
        rate_limiter_strategy: RateLimiterStrategy | None = None,
    ) -> None:
        if not callable(generator_function):
            raise ConnectorError(
                f"The generator function is not callable: {generator_function!r}.",
                hint="Give a function of one argument, the index of the record.",
            )
        if count is not None and count < 0:
            raise ConnectorError(
                f"A source cannot have {count} records.", hint="Give 0 or more, or None for no end."
            )
        self.bounded = count is not None
        self._function = generator_function
        self._count = ENDLESS if count is None else count
        self._rate = (rate_limiter_strategy or RateLimiterStrategy.no_op()).records_per_second

    def create_enumerator(self, context: SplitEnumeratorContext[range]) -> SplitEnumerator[range]:
        lanes = context.parallelism * LANES_PER_SUBTASK
        return self._enumerator(context, [range(lane, self._count, lanes) for lane in range(lanes)])

    def restore_enumerator(
        self, context: SplitEnumeratorContext[range], state: Sequence[range]
    ) -> SplitEnumerator[range]:
        return self._enumerator(context, state)

    @staticmethod
    def _enumerator(context: SplitEnumeratorContext[range], lanes: Sequence[range]) -> SplitEnumerator[range]:
        return FixedSplitEnumerator(context, lanes, lambda lane: lane.start % lane.step)

    def create_reader(self, context: RuntimeContext) -> SourceReader[T, range]:  # noqa: ARG002 - of the interface
        return _LaneReader(self._function, self._rate)


class _LaneReader(SourceReader[T, range]):
    """Generates the records of its lanes, in the order of their indices where they are side by side."""

    def __init__(
        self,
        function: Callable[[int], T],
        records_per_second: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._function = function
        self._limiter = None if records_per_second is None else RateLimiter(records_per_second, clock)
        self._lanes: list[range] = []
        self._complete = False

    def add_splits(self, splits: Sequence[range]) -> None:
        self._lanes.extend(lane for lane in splits if lane)
        self._lanes.sort(key=lambda lane: lane.start)

    def notify_no_more_splits(self) -> None:
        self._complete = True

    def poll_next(self) -> Sequence[T] | EndOfInput | None:
        if not self._lanes:
            return EndOfInput.END if self._complete else None
        count = BATCH_RECORDS_DEFAULT
        if self._limiter is not None:
            count = min(count, self._limiter.due(self._share))
            if not count:
                return None
        indices = self._next_indices(count)
        if self._limiter is not None:
            self._limiter.take(len(indices))
        return [self._function(index) for index in indices]

    def poll_again_after_s(self) -> float | None:
        if self._limiter is None or not self._lanes:
            return None
        return self._limiter.wait_s(self._share)

    def snapshot_state(self, checkpoint_id: int) -> list[range]:  # noqa: ARG002 - of the interface
        return list(self._lanes)

    @property
    def _share(self) -> float:
        return sum(1 / lane.step for lane in self._lanes)

    def _next_indices(self, count: int) -> list[int]:
        """The next indices, at most so many: as many of each lane, or one each of those that are behind."""
        each = max(1, count // len(self._lanes))
        taken = [lane[:each] for lane in self._lanes[:count]]
        lanes = [lane[each:] for lane in self._lanes[:count]] + self._lanes[count:]
        self._lanes = sorted((lane for lane in lanes if lane), key=lambda lane: lane.start)
        return sorted(chain.from_iterable(taken))
