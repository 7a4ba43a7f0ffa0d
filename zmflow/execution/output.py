"""The output of a task: rows are spread over the channels of a result partition and leave in batches.

A ``ResultWriter`` decides, for one outgoing edge, which channel each row goes to and when a channel's rows
are enough for a frame. It never blocks and sends nothing itself: channels, given by the shell, do.

Rows of a channel gather in a list that is never replaced, so that the partitioner can keep each list's
``append`` bound: routing a row by key is then one dictionary look-up and one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Protocol

from zmflow.api.functions import plain_callable
from zmflow.api.operators import KeyedAggregateOperator
from zmflow.errors import ConnectorError
from zmflow.execution.aggregates import AdaptingCombine
from zmflow.execution.batches import Batch, Rows, TimedRows, encoded_size_of_one
from zmflow.execution.chain_code import Step, compile_segment
from zmflow.execution.time_events import TimeEvent
from zmflow.graph.partitioners import (
    BroadcastPartitioner,
    CustomPartitioner,
    ForwardPartitioner,
    GlobalPartitioner,
    HashPartitioner,
    Partitioner,
    ShufflePartitioner,
)
from zmflow.protocol.checkpoints import CheckpointBarrier
from zmflow.state.keys import key_group, owner_of_group

__all__ = ["OutputChannel", "ResultWriter", "writer_for"]

ROUTES_KEPT_MAX = 131_072
"""Keys whose channel is remembered: hashing a key costs about 1.5 µs, looking it up 0.05 µs. At about
200 bytes an entry this is 26 MB in the worst case; when full it is forgotten and learnt again."""

BATCH_ROWS_MAX = 8192
"""Rows per frame at the most: keeps the latency of a batch of tiny rows within milliseconds."""

COMBINED_KEYS_MAX = 65_536
"""Keys summed up before an exchange: at some 200 bytes each 13 MB per task, and enough for the words of a
language or the customers of a day."""

COMBINING_PAYS_FROM = 1.5
"""Records per key from which summing up (about 0.2 µs a record) is cheaper than sending (about 0.6 µs)."""

BATCH_ROWS_FIRST = 256
"""Rows of a channel's first frame, before its rows' size is known."""


class OutputChannel(Protocol):
    """One consumer. ``send`` may block until the consumer can take more."""

    def send(self, batch: Batch) -> int:
        """Hand over a batch; returns its encoded size in bytes, or 0 when it was not encoded."""
        ...

    def send_event(self, event: TimeEvent | CheckpointBarrier) -> None:
        """Hand over an event, behind every batch before it."""
        ...


class ResultWriter:
    """Spreads rows over channels; this class sends everything to the first: forward and global.

    Rows with timestamps gather as pairs of both, so that spreading them is one thing, not two.
    """

    def __init__(self, channels: Sequence[OutputChannel], frame_size_bytes: int) -> None:
        self._channels = list(channels)
        self._frame_size_bytes = frame_size_bytes
        self._gathered: list[list[Any]] = [[] for _ in channels]
        self._enough = [BATCH_ROWS_FIRST] * len(channels)
        self._timed = False  # whether what has gathered are pairs
        self.records_out = 0
        self.bytes_out = 0

    def emit(self, batch: Batch) -> None:
        """Take the rows that leave the chain; frames that are full leave at once."""
        self.records_out += len(batch)
        timed = batch.__class__ is TimedRows
        if timed is not self._timed:
            self.flush()
            self._timed = timed
        if timed:
            assert isinstance(batch, TimedRows)
            self._spread_pairs(list(zip(batch.rows, batch.timestamps, strict=True)))
        else:
            self._spread(batch)  # type: ignore[arg-type]
        enough = self._enough
        for channel, gathered in enumerate(self._gathered):
            if len(gathered) >= enough[channel]:
                self._send(channel)

    def emit_event(self, event: TimeEvent | CheckpointBarrier) -> None:
        """Tell every channel, behind the rows that came before."""
        self.flush()
        for channel in self._channels:
            channel.send_event(event)

    def flush(self) -> None:
        """Send everything that was gathered."""
        for channel, gathered in enumerate(self._gathered):
            if gathered:
                self._send(channel)

    def finish(self) -> None:
        """The input has ended: send everything."""
        self.flush()

    @property
    def pending(self) -> bool:
        """Whether anything waits for a flush."""
        return any(self._gathered)

    def _spread(self, rows: Rows) -> None:
        self._gathered[0] += rows

    def _spread_pairs(self, pairs: list[tuple[Any, int]]) -> None:
        self._spread(pairs)

    def _send(self, channel: int) -> None:
        gathered = self._gathered[channel]
        enough = self._enough[channel]
        if len(gathered) <= 2 * enough:
            pieces: list[Rows] = [gathered[:]]
        else:
            pieces = [gathered[i : i + enough] for i in range(0, len(gathered), enough)]
        gathered.clear()
        for piece in pieces:
            batch = TimedRows(*map(list, zip(*piece, strict=True))) if self._timed else piece
            size = self._channels[channel].send(batch)
            self.bytes_out += size
            of_one = size / len(piece) if size else encoded_size_of_one(batch)
        self._enough[channel] = int(min(max(self._frame_size_bytes / of_one, 1), BATCH_ROWS_MAX))


class _RoundRobinWriter(ResultWriter):
    """rebalance and rescale: each channel in turn, from ``first`` on."""

    def __init__(self, channels: Sequence[OutputChannel], frame_size_bytes: int, first: int) -> None:
        super().__init__(channels, frame_size_bytes)
        self._next = first % len(channels)

    def _spread(self, rows: Rows) -> None:
        count = len(self._channels)
        for offset in range(min(count, len(rows))):
            # Row 0 goes to `next`, row 1 to the one after it, ...: slices do it without a loop.
            self._gathered[(self._next + offset) % count] += rows[offset::count]
        self._next = (self._next + len(rows)) % count


class _ShuffleWriter(ResultWriter):
    def __init__(
        self,
        channels: Sequence[OutputChannel],
        frame_size_bytes: int,
        choose: Callable[[Sequence[Any], int], Sequence[Any]],
    ) -> None:
        super().__init__(channels, frame_size_bytes)
        self._appends = [gathered.append for gathered in self._gathered]
        self._choose = choose

    def _spread(self, rows: Rows) -> None:
        for append, row in zip(self._choose(self._appends, len(rows)), rows, strict=True):
            append(row)


class _BroadcastWriter(ResultWriter):
    def _spread(self, rows: Rows) -> None:
        for gathered in self._gathered:
            gathered += rows


class _Routes(dict[Any, Callable[[Any], None]]):
    """key → the ``append`` of its channel's rows; learns a key when it is first asked for."""

    __slots__ = ("_appends", "_max_parallelism")

    def __init__(self, appends: list[Callable[[Any], None]], max_parallelism: int) -> None:
        super().__init__()
        self._appends = appends
        self._max_parallelism = max_parallelism

    def __missing__(self, key: Any) -> Callable[[Any], None]:
        if len(self) >= ROUTES_KEPT_MAX:
            self.clear()
        group = key_group(key, self._max_parallelism)
        append = self._appends[owner_of_group(group, self._max_parallelism, len(self._appends))]
        self[key] = append
        return append


class _HashWriter(ResultWriter):
    def __init__(
        self,
        channels: Sequence[OutputChannel],
        frame_size_bytes: int,
        key_selector: Callable[[Any], Any],
        max_parallelism: int,
    ) -> None:
        super().__init__(channels, frame_size_bytes)
        self._key_selector = key_selector
        self._routes = _Routes([gathered.append for gathered in self._gathered], max_parallelism)

    def _spread(self, rows: Rows) -> None:
        key_of = self._key_selector
        routes = self._routes
        row = None
        try:
            for row in rows:
                routes[key_of(row)](row)
        except TypeError as error:
            if _frames(error) == 1:  # raised by the look-up, not inside the user's function
                _refuse_unhashable(key_of(row))
            raise

    def _spread_pairs(self, pairs: list[tuple[Any, int]]) -> None:
        key_of = self._key_selector
        routes = self._routes
        pair = None
        try:
            for pair in pairs:
                routes[key_of(pair[0])](pair)
        except TypeError as error:
            if _frames(error) == 1 and pair is not None:
                _refuse_unhashable(key_of(pair[0]))
            raise


def _frames(error: BaseException) -> int:
    """How many frames an exception has passed through, the one that asks included."""
    count, traceback = 0, error.__traceback__
    while traceback is not None:
        count, traceback = count + 1, traceback.tb_next
    return count


def _refuse_unhashable(key: object) -> None:
    try:
        hash(key)
    except TypeError:
        raise ConnectorError(
            f"A key selector returned a key of type {type(key).__name__}, which is not hashable.",
            detail=f"{key!r:.200}",
            hint="Return something that cannot change: a tuple instead of a list.",
        ) from None


class _CombiningWriter(_HashWriter):
    """Sums up per key before the exchange, as a combiner does: for aggregates that emit final values only.

    What leaves are pairs of key and record, because a sum need not have the key its parts had.

    Keys gather until ``COMBINED_KEYS_MAX``, then they leave. When they were hardly any fewer than their
    records, combining does not pay and stops.
    """

    def __init__(
        self,
        channels: Sequence[OutputChannel],
        frame_size_bytes: int,
        key_selector: Callable[[Any], Any],
        max_parallelism: int,
        aggregate: KeyedAggregateOperator,
    ) -> None:
        super().__init__(channels, frame_size_bytes, itemgetter(0), max_parallelism)
        self._key_of = key_selector
        self._combined: dict[Any, Any] = {}
        combine = AdaptingCombine(aggregate.kind, aggregate.field)
        step = Step(0, "reduce", combine, key_selector, self._combined, adapts=True)
        self._combine = compile_segment("combine", [step], ends_in_state=True).run
        self._rows_combined = 0
        self._pays = True

    def emit(self, batch: Batch) -> None:
        """Take the rows that leave the chain; what they are summed up to leaves later.

        Final values have no time of their own, so timestamps end here.
        """
        rows: Rows = batch.rows if isinstance(batch, TimedRows) else batch
        if not self._pays:
            key_of = self._key_of
            super().emit([(key_of(row), row) for row in rows])
            return
        try:
            self._combine(rows, None)
        except TypeError as error:
            if _frames(error) == 2:  # raised by the look-up in the compiled loop
                for row in rows:
                    _refuse_unhashable(self._key_of(row))
            raise
        self._rows_combined += len(rows)
        if len(self._combined) >= COMBINED_KEYS_MAX:
            self._pays = self._rows_combined >= COMBINING_PAYS_FROM * len(self._combined)
            self._hand_out()

    def finish(self) -> None:
        """Send everything: sums, then frames."""
        self._hand_out()
        super().finish()

    def _hand_out(self) -> None:
        pairs = list(self._combined.items())
        self._combined.clear()
        self._rows_combined = 0
        for begin in range(0, len(pairs), BATCH_ROWS_MAX):
            super().emit(pairs[begin : begin + BATCH_ROWS_MAX])


class _CustomWriter(ResultWriter):
    def __init__(
        self,
        channels: Sequence[OutputChannel],
        frame_size_bytes: int,
        partitioner: Callable[[Any, int], int],
        key_selector: Callable[[Any], Any],
    ) -> None:
        super().__init__(channels, frame_size_bytes)
        self._partitioner = partitioner
        self._key_selector = key_selector

    def _spread(self, rows: Rows) -> None:
        for row in rows:
            self._gathered[self._channel_of(row)].append(row)

    def _spread_pairs(self, pairs: list[tuple[Any, int]]) -> None:
        for pair in pairs:
            self._gathered[self._channel_of(pair[0])].append(pair)

    def _channel_of(self, row: Any) -> int:
        count = len(self._channels)
        channel = self._partitioner(self._key_selector(row), count)
        if not 0 <= channel < count:
            raise ConnectorError(
                f"A partitioner returned {channel} where {count} partitions exist.",
                detail=f"For the record {row!r:.200}",
                hint=f"Return a number from 0 to {count - 1}.",
            )
        return channel


def writer_for(
    partitioner: Partitioner,
    channels: Sequence[OutputChannel],
    *,
    frame_size_bytes: int,
    max_parallelism: int,
    choose: Callable[[Sequence[Any], int], Sequence[Any]],
    first: int,
) -> ResultWriter:
    """The writer of a result partition.

    Args:
        partitioner: how records are spread.
        channels: its consumers, in the order of their subtasks.
        frame_size_bytes: when a frame is full.
        max_parallelism: key groups of the consuming operator.
        choose: k random picks from a sequence (``random.choices``-like); chance belongs to the shell.
        first: where round robin begins; Flink begins at random for rebalance, at 0 for rescale.
    """
    match partitioner:
        case HashPartitioner(key_selector, combine):
            key_of = plain_callable(key_selector)
            if isinstance(combine, KeyedAggregateOperator):
                return _CombiningWriter(channels, frame_size_bytes, key_of, max_parallelism, combine)
            return _HashWriter(channels, frame_size_bytes, key_of, max_parallelism)
        case CustomPartitioner(custom, key_selector):
            return _CustomWriter(
                channels, frame_size_bytes, plain_callable(custom), plain_callable(key_selector)
            )
        case BroadcastPartitioner():
            return _BroadcastWriter(channels, frame_size_bytes)
        case ForwardPartitioner() | GlobalPartitioner():
            return ResultWriter(channels, frame_size_bytes)
        case ShufflePartitioner():
            return _ShuffleWriter(channels, frame_size_bytes, choose)
    return _RoundRobinWriter(channels, frame_size_bytes, first)
