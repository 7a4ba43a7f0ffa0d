"""``RowBuffer``: collected rows at the client, from their arrival until they count."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from zmflow.protocol.messages import CollectedRows

__all__ = ["RowBuffer"]

Source = tuple[str, str, int]
"""Vertex, sink, subtask."""


class RowBuffer:
    """Which rows the program may see. Rows without a transaction are seen at once.

    Those of a transaction wait until their checkpoint is complete. A task that is restarted goes on from one:
    it commits first what belongs to that, and sends the rest again; so what its last attempt had sent beyond
    is dropped with the first rows of the new one.

    >>> buffer = RowBuffer()
    >>> def sent(sequence, attempt=0, commit=None):
    ...     return CollectedRows(0, "j", "v", "c", 0, sequence, b"rows", False, attempt, True, commit)
    >>> list(buffer.take(sent(0))), list(buffer.take(sent(1)))
    ([], [])
    >>> [rows.sequence for rows in buffer.take(sent(-1, attempt=1, commit=(0, 0, 0)))]
    [0]
    >>> list(buffer.take(sent(0, attempt=1))), list(buffer.take(sent(-1, attempt=1, commit=(0, 0, 1))))
    ([], [])
    >>> [rows.attempt_number for rows in buffer.take(sent(-1, attempt=1, commit=(0, 1, 0)))]
    [1]
    """

    def __init__(self) -> None:
        self._waiting: dict[Source, deque[CollectedRows]] = {}

    def take(self, rows: CollectedRows) -> Iterator[CollectedRows]:
        """Something came from a sink: the rows that count now."""
        if not rows.transactional:
            yield rows
            return
        if rows.commit is not None:
            subtask, attempt, sequence = rows.commit
            waiting = self._waiting.get((rows.vertex_id, rows.collect_id, subtask), deque())
            while waiting and (waiting[0].attempt_number, waiting[0].sequence) <= (attempt, sequence):
                first = waiting.popleft()
                if first.attempt_number == attempt:
                    yield first
            return
        waiting = self._waiting.setdefault((rows.vertex_id, rows.collect_id, rows.subtask_index), deque())
        while waiting and waiting[0].attempt_number < rows.attempt_number:
            waiting.popleft()
        waiting.append(rows)
