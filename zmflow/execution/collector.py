"""``Collector``: gathers what user functions answer, and hands it on as batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from zmflow.api.output_tag import OutputTag
from zmflow.execution.batches import Rows
from zmflow.execution.chain_code import ROWS_HELD_MAX
from zmflow.execution.stream_operator import Output, Timestamps

__all__ = ["Collector"]


class _Gathered:
    """Records of one output that have not moved on."""

    __slots__ = ("_emit", "rows", "timestamps")

    def __init__(self, emit: Callable[[Rows, Timestamps], None]) -> None:
        self._emit = emit
        self.rows: list[Any] = []
        self.timestamps: list[int] | None = None  # one for each row; None for rows without

    def become(self, *, timed: bool) -> None:
        """Gather timed records from now on, or untimed ones."""
        self.flush()
        self.timestamps = [] if timed else None

    def flush(self) -> None:
        """Hand on what there is."""
        rows, timestamps = self.rows, self.timestamps
        if rows:
            self.rows = []
            self.timestamps = None if timestamps is None else []
            self._emit(rows, timestamps)


class Collector:
    """Sorts records into the main output and side outputs. A batch is all timed or all untimed.

    Records move on when ``ROWS_HELD_MAX`` have gathered, so that a generator without end holds a bounded
    number of them, and with ``flush``, which an operator calls whenever it returns to its chain.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._main = _Gathered(output.emit)
        self._sides: dict[str, _Gathered] = {}

    def collect(self, results: Iterable[Any], timestamp: int | None) -> None:
        """Take what a call answered; each record gets this timestamp."""
        main = self._main
        if (timestamp is None) is not (main.timestamps is None):
            main.become(timed=timestamp is not None)
        rows = main.rows
        append = rows.append
        for item in results:
            if type(item) is tuple and len(item) == 2 and type(item[0]) is OutputTag:
                self.collect_side(item[0].tag_id, item[1], timestamp)
                continue
            append(item)
            if timestamp is not None:
                main.timestamps.append(timestamp)  # type: ignore[union-attr]  # timed, as above
            if len(rows) >= ROWS_HELD_MAX:
                main.flush()
                rows = main.rows
                append = rows.append

    def collect_side(self, tag_id: str, value: Any, timestamp: int | None) -> None:
        """Take one record of a side output."""
        side = self._sides.get(tag_id)
        if side is None:
            side = self._sides[tag_id] = _Gathered(partial(self._output.emit_side, tag_id))
        if (timestamp is None) is not (side.timestamps is None):
            side.become(timed=timestamp is not None)
        side.rows.append(value)
        if timestamp is not None:
            side.timestamps.append(timestamp)  # type: ignore[union-attr]  # timed, as above
        if len(side.rows) >= ROWS_HELD_MAX:
            side.flush()

    def flush(self) -> None:
        """Hand on everything."""
        self._main.flush()
        if self._sides:
            for side in self._sides.values():
                side.flush()
