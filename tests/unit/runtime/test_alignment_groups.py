"""Reports of readers in, limits out: whom a keeper listens to, and to whom it answers."""

from __future__ import annotations

from typing import Any

import pytest

from zmflow.api.watermark_strategy import WatermarkAlignment
from zmflow.execution.stream_operator import MAX_WATERMARK
from zmflow.protocol.messages import OperatorEvent
from zmflow.runtime.sources.alignment_groups import AlignmentGroups
from zmflow.runtime.sources.source_coordinator import (
    ALLOW_WATERMARK,
    REPORT_WATERMARK,
    decode_event,
    encode_event,
)
from zmflow.runtime.sources.source_events import SourceEvents

WAIT_MS = 1000


class Keeper:
    """The groups beside the enumerator of v1, and what they answer."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.answers: list[OperatorEvent] = []
        self.groups = AlignmentGroups(self.answers.append, lambda: self.now_ms)

    def report(
        self, vertex: str, watermark_ms: int | None, *, group: str = "g", subtask: int = 0, attempt: int = 0
    ) -> int | None:
        """What is allowed to a reader that reports; None: it gets no answer."""
        alignment = WatermarkAlignment(group, max_drift_ms=10, update_interval_ms=WAIT_MS)
        payload = encode_event(REPORT_WATERMARK, (vertex, alignment, watermark_ms))
        event = OperatorEvent(1, "j", "v1", 2, subtask, -1, payload, attempt, 5)
        self.groups.receive(event, decode_event(payload)[1])
        if not self.answers:
            return None
        answer = self.answers.pop()
        assert (answer.vertex_id, answer.from_subtask, answer.to_subtask) == (vertex, -1, subtask)
        assert (answer.attempt_number, answer.coordinator_number) == (attempt, 5)
        verb, (node, source, allowed_ms), _ = decode_event(answer.payload)
        assert (verb, node, source) == (ALLOW_WATERMARK, 2, "v1")
        return int(allowed_ms)


@pytest.fixture
def keeper() -> Keeper:
    made = Keeper()
    for group in ("g", "h"):
        assert made.report("v1", None, group=group) is None
        made.report("v1", 0, group=group)
        made.report("v1", None, group=group)
    made.now_ms += WAIT_MS
    return made


def test_members_are_readers_of_any_vertex(keeper: Keeper) -> None:
    """Vertex and subtask tell them apart; groups do not know each other."""
    assert keeper.report("v1", 100) == MAX_WATERMARK
    assert keeper.report("v2", 50) == 110
    assert keeper.report("v2", 30, subtask=1) == 60
    assert keeper.report("v1", 100) == 40
    assert keeper.report("v1", 100, group="h") == MAX_WATERMARK


def test_a_reader_that_was_replaced_is_not_listened_to(keeper: Keeper) -> None:
    """Its last report, or that it has finished, may arrive after the first of the new attempt."""
    keeper.report("v2", 50, attempt=0)
    keeper.report("v2", 20, attempt=1)
    assert keeper.report("v2", 60, attempt=0) is None
    assert keeper.report("v1", 100) == 30
    keeper.report("v2", None, attempt=0)
    assert keeper.report("v1", 100) == 30
    keeper.report("v2", None, attempt=1)
    assert keeper.report("v1", 100) == MAX_WATERMARK


def test_reports_come_with_the_events_of_the_source() -> None:
    """What is for an enumerator and is a report reaches the groups, whether an enumerator is here or not."""
    posted: list[Any] = []
    events = SourceEvents("here", lambda vertex, subtask: None, posted.append)
    alignment = WatermarkAlignment("g", max_drift_ms=10, update_interval_ms=0)
    payload = encode_event(REPORT_WATERMARK, ("v2", alignment, 5))
    events.receive(OperatorEvent(1, "j", "v1", 1, 3, -1, payload))
    events.stop()
    assert [(answer.vertex_id, answer.to_subtask) for answer in posted] == [("v2", 3)]
