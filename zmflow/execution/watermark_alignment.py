"""Watermark alignment: sources of a group that run ahead pause until the slowest has come nearer.

Each reader has a ``ReaderAlignment``: it says when to report, what, and whether to pause. Each group has one
``AlignmentGroup``, beside the enumerator of a source: reports in, the greatest allowed watermark out.

How they talk: every ``update_interval_ms`` a reader sends its report as an ``OperatorEvent`` to the worker of
the enumerator of the *first* source of its group (the one whose vertex id sorts first), and that worker
sends ``allowed_ms`` to each reader that has reported, as often. A lost event costs an interval, no more: each
one carries the whole truth of its sender. A reader that is restarted, or whose group was, begins without a
limit and reports anew.
"""

from __future__ import annotations

from collections.abc import Hashable

from zmflow.api.watermark_strategy import WatermarkAlignment
from zmflow.execution.stream_operator import MAX_WATERMARK, MIN_WATERMARK

__all__ = ["AlignmentGroup", "ReaderAlignment"]

SILENCE_INTERVALS = 10
"""A member that has not reported for so many intervals does not hold the others back any more: its task is
gone, and the next one will report. Reports are lost or late by a few intervals, hardly by ten."""


class AlignmentGroup:
    """How far the members of a group may go.

    Args:
        alignment: what the strategies of the group say; all of them should say the same.

    >>> group = AlignmentGroup(WatermarkAlignment("orders", max_drift_ms=100, update_interval_ms=1000))
    >>> group.report("fast/0", 5000, now_ms=0)
    >>> group.report("slow/0", 3000, now_ms=0)
    >>> group.allowed_ms(now_ms=0)
    3100
    """

    def __init__(self, alignment: WatermarkAlignment) -> None:
        self._alignment = alignment
        self._reports: dict[Hashable, tuple[int, int]] = {}  # member: (watermark, when)

    @property
    def members(self) -> list[Hashable]:
        """Who has reported: to them goes what is allowed."""
        return list(self._reports)

    def report(self, member: Hashable, watermark_ms: int, now_ms: int) -> None:
        """A member is so far; ``MAX_WATERMARK`` when it is idle or has finished."""
        self._reports[member] = (watermark_ms, now_ms)

    def gone(self, member: Hashable) -> None:
        """A member will not report any more."""
        self._reports.pop(member, None)

    def allowed_ms(self, now_ms: int) -> int:
        """The greatest watermark a member may go on from; there is no limit while nobody is waited for."""
        oldest_ms = now_ms - SILENCE_INTERVALS * self._alignment.update_interval_ms
        self._reports = {who: said for who, said in self._reports.items() if said[1] >= oldest_ms}
        slowest_ms = min((watermark_ms for watermark_ms, _ in self._reports.values()), default=MAX_WATERMARK)
        return min(slowest_ms + self._alignment.max_drift_ms, MAX_WATERMARK)


class ReaderAlignment:
    """Whether a reader is ahead of its group, and when it says how far it is.

    Args:
        alignment: what its strategy says.
        now_ms: the clock.

    >>> reader = ReaderAlignment(WatermarkAlignment("orders", 100, 1000), now_ms=0)
    >>> reader.allow(3100)
    >>> reader.pauses(3100), reader.pauses(3101)
    (False, True)
    """

    def __init__(self, alignment: WatermarkAlignment, now_ms: int) -> None:
        self.group = alignment.group
        self._interval_ms = alignment.update_interval_ms
        self._allowed_ms = MAX_WATERMARK
        self._next_ms = now_ms + self._interval_ms

    def allow(self, watermark_ms: int) -> None:
        """The group said how far its members may go."""
        self._allowed_ms = watermark_ms

    def pauses(self, watermark_ms: int) -> bool:
        """Whether the reader, whose watermark is this, reads nothing until the group has come nearer."""
        return watermark_ms > self._allowed_ms

    def next_report_ms(self) -> int:
        """When ``report`` has something to say; a paused reader must wake up for it."""
        return self._next_ms

    def report(self, watermark_ms: int, now_ms: int, *, idle: bool) -> int | None:
        """What to send to the group now; None: nothing yet.

        Before its first watermark a reader says nothing: the others would wait for the beginning of time.
        """
        if now_ms < self._next_ms:
            return None
        self._next_ms = now_ms + self._interval_ms
        if idle:
            return MAX_WATERMARK
        return watermark_ms if watermark_ms > MIN_WATERMARK else None
