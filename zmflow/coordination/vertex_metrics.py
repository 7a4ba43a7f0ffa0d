"""What the metrics of a vertex's subtasks come to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zmflow.protocol.metric_samples import MetricSample, VertexMetric, sized

__all__ = ["merged_metrics"]


def merged_metrics(samples: Iterable[tuple[int, Sequence[MetricSample]]]) -> list[VertexMetric]:
    """One metric for each name, from (subtask index, its samples); in the order they first come.

    A subtask that has ended still counts, with what it said last: the rate of its meters is that of its end.

    >>> counts = [(i, [MetricSample("Map", [], "bad", "counter", i + 1)]) for i in range(3)]
    >>> [(metric.name, metric.subtasks, metric.count) for metric in merged_metrics(counts)]
    [('bad', 3, 6)]
    """
    by_name: dict[tuple[object, ...], list[tuple[int, MetricSample]]] = {}
    for subtask_index, of_subtask in samples:
        for sample in of_subtask:
            key = (sample.operator, tuple(sample.groups), sample.name, sample.kind)
            by_name.setdefault(key, []).append((subtask_index, sample))
    return [_merged(found) for found in by_name.values()]


def _merged(found: Sequence[tuple[int, MetricSample]]) -> VertexMetric:
    first = found[0][1]
    samples = [sample for _, sample in found]
    count, rate, total = (
        sized(sum(sample.count for sample in samples)),
        sized(sum(sample.rate for sample in samples)),
        sized(sum(sample.sum for sample in samples)),
    )
    place = (first.operator, first.groups, first.name, first.kind, len(found))
    match first.kind:
        case "counter":
            return VertexMetric(*place, count=count)
        case "meter":
            return VertexMetric(*place, count=count, rate=rate)
        case "distribution":
            filled = [sample for sample in samples if sample.count]
            return VertexMetric(
                *place,
                count=count,
                sum=total,
                min=min((sample.min for sample in filled), default=None),
                max=max((sample.max for sample in filled), default=None),
                mean=total / count if count else None,
            )
        case "gauge":
            numbers = [s.value for s in samples if not isinstance(s.value, str)]
            return VertexMetric(
                *place,
                min=min(numbers, default=None),
                max=max(numbers, default=None),
                values=[(subtask_index, sample.value) for subtask_index, sample in found],
            )
