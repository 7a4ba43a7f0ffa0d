"""What a task says of its metrics: it always fits a message, whatever functions counted with."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

from zmflow.protocol.messages import TaskCounters, TaskMetrics, decode_message, encode_message
from zmflow.protocol.metric_samples import MetricSample
from zmflow.runtime.metric_sampler import MetricSampler


def sampler() -> MetricSampler:
    """One whose problems fail the test."""

    def fail(sentence: str) -> None:
        raise AssertionError(sentence)

    return MetricSampler(fail)


def sent(samples: list[MetricSample]) -> list[MetricSample]:
    """What arrives of them."""
    message = TaskMetrics(1, "a1", [TaskCounters("9f", 0, 0, 0, 0, 0, 0, samples)])
    received = decode_message(encode_message(message))
    assert received == message and isinstance(received, TaskMetrics)
    return received.tasks[0].metrics


def test_each_kind_travels_with_its_fields() -> None:
    """Counts, rates, sums, extremes, values; in the order of registration."""
    metrics = sampler()
    group = metrics.group.of_operator("Map")
    group.counter("bad").inc(2)
    sizes = group.add_group("in").distribution("sizes")
    sizes.update(3)
    sizes.update(1.5)
    group.add_group("table", "users").meter("calls").mark_event(7)
    group.gauge("state", lambda: "warm")
    group.gauge("level", lambda: 0.5)
    group.gauge("nothing", lambda: None)
    metrics.ask_gauges()
    assert sent(metrics.samples()) == [
        MetricSample("Map", [], "bad", "counter", 2),
        MetricSample("Map", [("in", "")], "sizes", "distribution", 2, 0, 4.5, 1.5, 3),
        MetricSample("Map", [("table", "users")], "calls", "meter", 7, 7.0),
        MetricSample("Map", [], "state", "gauge", value="warm"),
        MetricSample("Map", [], "level", "gauge", value=0.5),
    ]


def test_what_functions_count_with_never_breaks_a_message() -> None:
    """Huge numbers and numbers of libraries travel as floats; what is no number is left out."""

    class Absorbing:
        def __radd__(self, _: Any) -> Any:
            return self

    metrics = sampler()
    steps: list[Any] = [2**70, -(2**5000), Fraction(1, 2), True, float("inf"), Absorbing()]
    for index, step in enumerate(steps):
        metrics.group.counter(f"counter {index}").inc(step)
        metrics.group.meter(f"meter {index}").mark_event(step)
    metrics.group.distribution("huge").update(2**70)
    counts = [sample.count for sample in sent(metrics.samples()) if sample.kind == "counter"]
    assert counts == [float(2**70), float("-inf"), 0.5, 1, float("inf")]
    (huge,) = (sample for sample in metrics.samples() if sample.kind == "distribution")
    assert (huge.count, huge.sum, huge.max) == (1, float(2**70), float(2**70))


def test_samples_may_be_taken_while_a_function_registers_and_counts() -> None:
    """Another thread reads; a distribution it sees is always one that was there."""
    metrics = sampler()
    group = metrics.group.of_operator("Map")
    values = group.distribution("values")
    done = threading.Event()

    def work() -> None:
        for number in range(150):
            group.counter(f"c{number}").inc()
            for _ in range(200):
                values.update(2)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    last = 0
    while not done.is_set():
        (seen,) = (sample for sample in metrics.samples() if sample.kind == "distribution")
        assert seen.sum == 2 * seen.count
        assert seen.count >= last
        last = int(seen.count)
    thread.join()
    assert len(metrics.samples()) == 151
