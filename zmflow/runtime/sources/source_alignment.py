"""A source's reader as a member of its alignment groups: it reports, is told how far to go, and pauses.

The reports are timers of the chain, so they go out while the reader reads, pauses or waits for a split, and
a chain without alignment has nothing to do with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from zmflow.api.watermark_strategy import WatermarkAlignment
from zmflow.execution.chain import Chain
from zmflow.execution.stream_operator import StreamOperator
from zmflow.execution.timestamps_operator import TimestampsAndWatermarksOperator
from zmflow.execution.watermark_alignment import ReaderAlignment
from zmflow.protocol.messages import OperatorEvent, TaskDeployment
from zmflow.runtime.sources.source_coordinator import REPORT_WATERMARK, encode_event

__all__ = ["SourceAlignment"]


class SourceAlignment:
    """When a task does not poll its reader because others of a group are behind.

    Args:
        chain: the open chain of the source.
        groups: for each node whose strategy is aligned, the sources of its group (``ChainSpec.aligned``).
        deployment: of the task.
        post: sends an event through the JobManager, this worker's own included: it knows who lives where.
    """

    def __init__(
        self,
        chain: Chain,
        groups: Mapping[int, Sequence[str]],
        deployment: TaskDeployment,
        post: Callable[[OperatorEvent], None],
    ) -> None:
        operators = chain.operators
        self._makers = [
            operator
            for operator in operators.values()
            if isinstance(operator, TimestampsAndWatermarksOperator)
        ]
        self._members: dict[int, _Member] = {}
        self._paused = False
        for node, sources in groups.items():
            maker = operators[node]
            assert isinstance(maker, TimestampsAndWatermarksOperator)
            self._members[node] = member = _Member(node, maker, sources, deployment, post)
            chain.attend(node, member)

    def pauses(self) -> bool:
        """Whether the reader is not to be polled now; asked before each poll, and while it pauses when an
        event has arrived: nothing else lets it go on."""
        paused = any(member.pauses() for member in self._members.values())
        if paused is not self._paused:
            self._paused = paused
            for maker in self._makers:
                maker.held = paused
        return paused

    def allow(self, node: int, source: str, watermark_ms: int) -> None:
        """The group of a node's strategy, as it is kept beside a source, said how far the reader may go."""
        self._members[node].reader.allow(source, watermark_ms)

    def finished(self) -> None:
        """The reader has read all: nobody has to wait for it."""
        for member in self._members.values():
            member.leave()


class _Member(StreamOperator):
    """The reader in the group of one strategy. In the chain it is no stage, it only has timers there."""

    def __init__(
        self,
        node: int,
        maker: TimestampsAndWatermarksOperator,
        sources: Sequence[str],
        deployment: TaskDeployment,
        post: Callable[[OperatorEvent], None],
    ) -> None:
        alignment = maker.alignment
        assert alignment is not None
        self.reader = ReaderAlignment(alignment)
        self._alignment: WatermarkAlignment = alignment
        self._node = node
        self._sources = sources
        self._maker = maker
        self._deployment = deployment
        self._post = post
        self._left = False

    def pauses(self) -> bool:
        return self.reader.pauses(self._maker.reached_ms)

    def leave(self) -> None:
        self._left = True
        self._send(None)

    def next_processing_time_ms(self) -> int | None:
        if self._left:
            return None
        return self.reader.next_report_ms(self._maker.reached_ms, idle=self._maker.idle)

    def advance_processing_time(self, now_ms: int) -> None:
        watermark_ms = self.reader.report(self._maker.reached_ms, now_ms, idle=self._maker.idle)
        if watermark_ms is not None:
            self._send(watermark_ms)

    def _send(self, watermark_ms: int | None) -> None:
        deployment = self._deployment
        report = encode_event(REPORT_WATERMARK, (deployment.vertex_id, self._alignment, watermark_ms))
        for source in self._sources:
            self._post(
                OperatorEvent(
                    0,
                    deployment.job_id,
                    source,
                    self._node,
                    from_subtask=deployment.subtask_index,
                    to_subtask=-1,
                    payload=report,
                    attempt_number=deployment.attempt_number,
                    coordinator_number=deployment.coordinator_number,
                )
            )
