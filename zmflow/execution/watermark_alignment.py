"""Watermark alignment: sources of a group that run ahead pause until the slowest has come nearer.

Each reader has a ``ReaderAlignment``: it says when to report, what, and whether to pause. A group is kept, as
an ``AlignmentGroup``, beside the enumerator of each of its sources: a report in, the greatest allowed
watermark out.

How they talk: with its first watermark, and every ``update_interval_ms`` from then on, a reader reports to
all keepers of its group, and each answers at once. A lost event costs an interval, no more: each one carries
the whole truth of its sender. There are several keepers because any may go, with a worker that is killed or
with a source that has ended. One that begins anew knows too few members and allows too much, so the least
that is allowed counts. The keeper beside a reader's own enumerator is there as long as the reader is.

How they begin: until it is answered, a reader goes no farther than its own first watermark and the drift. A
group lets everybody report before it answers anybody.

How far they are apart in the end: ``max_drift_ms``, and what a reader reads in one batch, because it looks
between batches. Who joins later, or again, with earlier event times, is behind by what the others are ahead;
who comes back where it was may pass the limit until it is answered.
"""

from __future__ import annotations

from collections.abc import Hashable

from zmflow.api.watermark_strategy import WatermarkAlignment
from zmflow.execution.stream_operator import MAX_WATERMARK, MIN_WATERMARK

__all__ = ["AlignmentGroup", "ReaderAlignment"]

SILENCE_INTERVALS = 10
"""A member that has not reported for so many intervals does not hold the others back any more: its task is
gone, and the next one will report. Reports are lost or late by a few intervals, hardly by ten."""

SILENCE_LEAST_MS = 10_000
"""And for so long: a task that restarts takes seconds, however short the interval."""

UNANSWERED_REPORTS = 3
"""A keeper that has answered none of so many reports is gone: what it allowed last holds nobody back."""


class AlignmentGroup:
    """How far the members of a group may go.

    Args:
        now_ms: the clock.

    >>> orders = WatermarkAlignment("orders", max_drift_ms=100, update_interval_ms=1000)
    >>> group = AlignmentGroup(now_ms=0)
    >>> group.report("fast/0", 5000, orders, now_ms=1), group.report("slow/0", 3000, orders, now_ms=2)
    (None, None)
    >>> group.report("fast/0", 5000, orders, now_ms=1001), group.report("slow/0", 3500, orders, now_ms=1002)
    (3100, 5100)
    """

    def __init__(self, now_ms: int) -> None:
        self._begun_ms = now_ms
        self._reports: dict[Hashable, tuple[int, int]] = {}  # member: (watermark, how long that counts)

    def report(
        self, member: Hashable, watermark_ms: int, alignment: WatermarkAlignment, now_ms: int
    ) -> int | None:
        """A member is so far; ``MAX_WATERMARK`` when it is idle.

        Returns:
            the greatest watermark it may go on from, by the others: nobody waits for himself. None: others
            may not have had the time to report, the member keeps to what it has.
        """
        interval_ms = alignment.update_interval_ms
        silence_ms = max(SILENCE_INTERVALS * interval_ms, SILENCE_LEAST_MS)
        self._reports[member] = (watermark_ms, now_ms + silence_ms)
        if now_ms < self._begun_ms + interval_ms:
            return None
        slowest_ms = MAX_WATERMARK
        for other, (reached_ms, until_ms) in list(self._reports.items()):
            if until_ms < now_ms:
                del self._reports[other]
            elif reached_ms < slowest_ms and other != member:
                slowest_ms = reached_ms
        return min(slowest_ms + alignment.max_drift_ms, MAX_WATERMARK)

    def gone(self, member: Hashable) -> None:
        """A member has finished: it will not report any more."""
        self._reports.pop(member, None)


class ReaderAlignment:
    """Whether a reader is ahead of its group, and when it says how far it is.

    Args:
        alignment: what its strategy says.

    >>> reader = ReaderAlignment(WatermarkAlignment("orders", 100, 1000))
    >>> reader.report(3000, now_ms=0, idle=False), reader.pauses(3101)
    (3000, True)
    >>> reader.allow("v1", 3500)
    >>> reader.pauses(3500), reader.pauses(3501)
    (False, True)
    """

    def __init__(self, alignment: WatermarkAlignment) -> None:
        self._alignment = alignment
        self._answers: dict[Hashable, tuple[int, int]] = {}  # keeper: (allowed, reports sent before)
        self._sent = 0
        self._allowed_ms: int | None = None  # before the first report
        self._next_ms = MIN_WATERMARK

    def allow(self, keeper: Hashable, watermark_ms: int) -> None:
        """A keeper of the group answered: the reader may go on from here.

        This alone makes a reader that pauses go on; nothing has to be asked again before it is called.
        """
        self._answers[keeper] = (watermark_ms, self._sent)
        oldest = self._sent - UNANSWERED_REPORTS
        self._allowed_ms = min(allowed_ms for allowed_ms, sent in self._answers.values() if sent > oldest)

    def pauses(self, watermark_ms: int) -> bool:
        """Whether the reader, whose watermark is this, reads nothing until the group has come nearer."""
        return self._allowed_ms is not None and watermark_ms > self._allowed_ms

    def next_report_ms(self, watermark_ms: int, *, idle: bool) -> int | None:
        """When ``report`` has something to say; a paused reader must wake up for it.

        Before its first watermark a reader says nothing: the others would wait for the beginning of time.
        """
        return self._next_ms if idle or watermark_ms > MIN_WATERMARK else None

    def report(self, watermark_ms: int, now_ms: int, *, idle: bool) -> int | None:
        """What to send to the keepers now; None: nothing yet."""
        due_ms = self.next_report_ms(watermark_ms, idle=idle)
        if due_ms is None or now_ms < due_ms:
            return None
        self._next_ms = now_ms + self._alignment.update_interval_ms
        self._sent += 1
        if idle:
            return MAX_WATERMARK
        if self._allowed_ms is None:
            self._allowed_ms = watermark_ms + self._alignment.max_drift_ms
        return watermark_ms
