"""The alignment groups of a job, as far as they are kept in this worker: reports in, limits out.

A group is kept in the worker of subtask 0 of each of its sources, and made by the first report that arrives
there. It does not belong to the enumerator: user code there may take its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from zmflow.api.watermark_strategy import WatermarkAlignment
from zmflow.execution.watermark_alignment import AlignmentGroup
from zmflow.protocol.messages import OperatorEvent
from zmflow.runtime.sources.source_coordinator import ALLOW_WATERMARK, encode_event

__all__ = ["AlignmentGroups"]

Member = tuple[str, int, int]  # vertex, subtask and node of the chain


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class AlignmentGroups:
    """Keeps the groups, and answers the readers that report. On the worker's main thread alone.

    Args:
        post: sends an event to a reader through the JobManager.
        now_ms: the clock.
    """

    def __init__(
        self, post: Callable[[OperatorEvent], None], now_ms: Callable[[], int] = _monotonic_ms
    ) -> None:
        self._post = post
        self._now_ms = now_ms
        self._groups: dict[str, AlignmentGroup] = {}
        self._attempts: dict[Member, int] = {}  # the newest that was heard of

    def receive(self, event: OperatorEvent, report: tuple[str, WatermarkAlignment, int | None]) -> None:
        """A reader says how far it is; None: it has finished. One that was replaced is not listened to."""
        vertex, alignment, watermark_ms = report
        member = (vertex, event.from_subtask, event.operator_index)
        if event.attempt_number < self._attempts.get(member, -1):
            return
        self._attempts[member] = event.attempt_number
        now_ms = self._now_ms()
        group = self._groups.setdefault(alignment.group, AlignmentGroup(now_ms))
        if watermark_ms is None:
            group.gone(member)
            return
        allowed_ms = group.report(member, watermark_ms, alignment, now_ms)
        if allowed_ms is not None:
            limit = (event.operator_index, event.vertex_id, allowed_ms)
            self._post(
                OperatorEvent(
                    0,
                    event.job_id,
                    vertex,
                    event.operator_index,
                    from_subtask=-1,
                    to_subtask=event.from_subtask,
                    payload=encode_event(ALLOW_WATERMARK, limit),
                    attempt_number=event.attempt_number,
                    coordinator_number=event.coordinator_number,
                )
            )
