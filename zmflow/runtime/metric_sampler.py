"""The metrics of a task as they travel: read on whichever thread wants to send them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from zmflow.api.metric_group import MetricGroup
from zmflow.api.metric_registry import MetricKey, MetricRegistry
from zmflow.api.metrics import Counter, Distribution, Gauge, Meter, Metric, as_number
from zmflow.protocol.metric_samples import MetricSample

__all__ = ["MetricSampler"]


class MetricSampler(MetricRegistry):
    """The metrics of one task.

    Args:
        warn: takes a sentence for the log.

    >>> sampler = MetricSampler(print)
    >>> sampler.group.of_operator("Map").counter("bad").inc(2)
    >>> [(sample.operator, sample.name, sample.count) for sample in sampler.samples()]
    [('Map', 'bad', 2)]
    """

    def __init__(self, warn: Callable[[str], object]) -> None:
        super().__init__(time.perf_counter, warn)

    @property
    def group(self) -> MetricGroup:
        """Where the task's own metrics are registered; those of its operators are in groups of theirs."""
        return MetricGroup(self)

    def samples(self) -> list[MetricSample]:
        """What every metric shows now. Of gauges it is what they last answered: nobody is asked here."""
        samples: list[MetricSample | None] = []
        for key, metric in self.metrics():
            # A function may have counted with something that is no number in the end. It loses that metric;
            # it must not end the worker.
            with contextlib.suppress(Exception):
                samples.append(_sample(key, metric))
        return [sample for sample in samples if sample is not None]


def _sample(key: MetricKey, metric: Metric) -> MetricSample | None:
    operator, groups, name = key.operator, list(key.groups), key.name
    match metric:
        case Counter():
            return MetricSample(operator, groups, name, "counter", as_number(metric.get_count()))
        case Meter():
            count, rate = as_number(metric.get_count()), as_number(metric.get_rate())
            return MetricSample(operator, groups, name, "meter", count, rate)
        case Distribution():
            seen = metric.value
            numbers = map(as_number, (seen.sum, seen.min, seen.max))
            return MetricSample(operator, groups, name, "distribution", seen.count, 0, *numbers)
        case Gauge():
            value = metric.value
            return None if value is None else MetricSample(operator, groups, name, "gauge", value=value)
    return None
