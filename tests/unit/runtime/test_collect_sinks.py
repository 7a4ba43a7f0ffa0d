"""Collected rows and their acknowledgements, which may be faster than the task that sends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from zmflow.protocol.messages import CollectAck, CollectedRows
from zmflow.runtime.collect_sinks import COLLECT_UNACKED_MAX, CollectSinks


def test_an_acknowledgement_may_come_before_the_task_goes_on() -> None:
    """Each lets one more batch leave, also when it is here before the sending call has returned."""
    deployment = SimpleNamespace(job_id="j", vertex_id="v1", subtask_index=0, attempt_number=0)
    task = cast("Any", SimpleNamespace(deployment=deployment, canceled=False))
    sent: list[int] = []

    def post(rows: CollectedRows) -> None:
        sent.append(rows.sequence)
        sinks.acknowledged(CollectAck(1, "j", "v1", "c", 0, rows.sequence))

    sinks = CollectSinks(post)
    batches = 3 * COLLECT_UNACKED_MAX
    for _ in range(batches):
        sinks.emit(task, "c", [1], False)
    assert sent == list(range(batches))
