"""Metrics of functions and operators on their way from worker processes to who asks for a job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from zmflow import (
    Duration,
    KeyedProcessFunction,
    MapFunction,
    RuntimeContext,
    StreamExecutionEnvironment,
    TumblingEventTimeWindows,
    ValueStateDescriptor,
    WatermarkGenerator,
    WatermarkOutput,
    WatermarkStrategy,
)
from zmflow.api.environment import environment_context
from zmflow.config import Settings
from zmflow.errors import JobFailedError
from zmflow.protocol.messages import JobStatus
from zmflow.protocol.metric_samples import VertexMetric, identifier
from zmflow.runtime.job_client import RemoteJobClient

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ROWS = 1000


@pytest.fixture
def env() -> Iterator[StreamExecutionEnvironment]:
    """An environment of parallelism 2 that runs its jobs on embedded clusters."""
    texts = {"parallelism.default": "2", "execution.target": "embedded"}
    with environment_context(Settings().with_values(texts, "test")):
        yield StreamExecutionEnvironment.get_execution_environment()


def ended(env: StreamExecutionEnvironment) -> JobStatus:
    """Run what was built; the job's last status, whether it succeeded or failed."""
    job = env.execute_async("measured")
    assert isinstance(job, RemoteJobClient)
    with contextlib.suppress(JobFailedError):
        job.get_job_execution_result()
    status = job.status()
    job.close()
    return status


def metrics_of(status: JobStatus) -> dict[tuple[str, str], VertexMetric]:
    """By operator, and by the name with its groups."""
    found = {
        (metric.operator, identifier(metric.groups, metric.name)): metric
        for vertex in status.vertices
        for metric in vertex.metrics
    }
    assert len(found) == sum(len(vertex.metrics) for vertex in status.vertices)
    return found


class Measured(MapFunction[int, int]):
    """Measures what it maps; has open resources that its gauges read."""

    def open(self, runtime_context: RuntimeContext) -> None:
        group = runtime_context.get_metrics_group()
        self.even = group.counter("even")
        self.values = group.add_group("input").distribution("values")
        self.calls = group.add_group("table", "users").meter("calls")
        self.cache: dict[int, int] | None = {}
        group.gauge("cache_size", lambda: len(self.cache))  # type: ignore[arg-type]
        group.gauge("subtask", lambda: f"number {runtime_context.get_index_of_this_subtask()}")

    def map(self, value: int) -> int:
        assert self.cache is not None
        self.cache[value % 10] = value
        self.even.inc(1 - value % 2)
        self.values.update(value)
        self.calls.mark_event()
        return value

    def close(self) -> None:
        self.cache = None


def test_what_functions_measure_is_shown_when_the_job_has_ended(env: StreamExecutionEnvironment) -> None:
    """All subtasks together, to the last record; gauges as they were before the function was closed."""
    env.from_sequence(1, ROWS).map(Measured()).name("measured").add_sink(lambda _: None)
    found = metrics_of(ended(env))
    even = found["measured", "even"]
    assert (even.kind, even.subtasks, even.count) == ("counter", 2, ROWS // 2)
    values = found["measured", "input.values"]
    assert (values.count, values.sum) == (ROWS, ROWS * (ROWS + 1) // 2)
    assert (values.min, values.max, values.mean) == (1, ROWS, (ROWS + 1) / 2)
    calls = found["measured", "table.users.calls"]
    assert calls.groups == [("table", "users")] and calls.count == ROWS
    assert calls.rate is not None and calls.rate > 0
    size = found["measured", "cache_size"]
    assert size.max == 10 and len(size.values) == 2
    assert found["measured", "subtask"].values == [(0, "number 0"), (1, "number 1")]


class Said(WatermarkGenerator[Any]):
    """Each record is followed by a watermark of its own."""

    def on_event(self, event: Any, event_timestamp: int, output: WatermarkOutput) -> None:
        output.emit_watermark(event_timestamp)

    def on_periodic_emit(self, output: WatermarkOutput) -> None:
        pass


class Parsed(KeyedProcessFunction[Any, Any, Any]):
    """Raises for what is no number."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.sum = runtime_context.get_state(ValueStateDescriptor("sum"))

    def process_element(self, value: tuple[str, str], ctx: Any) -> Iterator[int]:
        self.sum.update((self.sum.value() or 0) + int(value[1]))
        yield self.sum.value()


def test_the_engine_counts_what_its_operators_leave_out(env: StreamExecutionEnvironment) -> None:
    """Late records of a window, records a compiled function raised for, and those of an operator."""
    strategy: WatermarkStrategy[Any] = WatermarkStrategy.for_generator(Said).with_timestamp_assigner(
        lambda record, _: record[1]
    )
    stream = env.from_collection([("a", 0), ("a", 9_000), ("a", 1), ("a", 2), ("a", 10_000)])
    timed = stream.assign_timestamps_and_watermarks(strategy).set_parallelism(1)
    windows = timed.key_by(lambda r: r[0]).window(TumblingEventTimeWindows.of(Duration.of_seconds(1)))
    windows.reduce(lambda one, _: one).name("windows").add_sink(lambda _: None)
    words = env.from_collection([("k", "1"), ("k", "x"), ("k", "2"), None])
    keyed = words.map(lambda pair: (pair[0], pair[1])).name("split").on_error("skip")
    parsed = keyed.key_by(lambda pair: pair[0]).process(Parsed()).name("parse").on_error("skip")
    parsed.add_sink(lambda _: None)
    found = metrics_of(ended(env))
    assert found["windows", "numLateRecordsDropped"].count == 2
    assert found["split", "numRecordsRejected"].count == 1
    assert found["parse", "numRecordsRejected"].count == 1


class Unsound(MapFunction[int, int]):
    """Everything that can be wrong with metrics, at once."""

    def open(self, runtime_context: RuntimeContext) -> None:
        group = runtime_context.get_metrics_group()
        self.keys = [group.counter(f"key {i}") for i in range(300)]
        group.gauge("key 1", lambda: 5)
        group.meter("x" * 1000)

    def map(self, value: int) -> int:
        for counter in self.keys:
            counter.inc(2**70)
        return value


def test_no_metric_fails_a_job(env: StreamExecutionEnvironment) -> None:
    """Too many, too long, of two kinds, too large: the job ends well and shows what can be shown."""
    env.from_sequence(1, 10).map(Unsound()).name("unsound").add_sink(lambda _: None)
    status = ended(env)
    assert status.summary.state == "FINISHED", status.failure
    counts = {metric.count for metric in metrics_of(status).values()}
    assert counts == {float(10 * 2**70)}


class Failing(MapFunction[int, int]):
    """Counts until it fails."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.calls = runtime_context.get_metrics_group().counter("calls")

    def map(self, value: int) -> int:
        self.calls.inc()
        if value == 7:
            raise ValueError("seven")
        return value


def test_a_failed_task_says_what_it_had_counted(env: StreamExecutionEnvironment) -> None:
    """The last report of the attempt that failed is kept."""
    env.set_parallelism(1)
    env.from_sequence(1, 10).map(Failing()).name("failing").add_sink(lambda _: None)
    status = ended(env)
    assert status.summary.state == "FAILED"
    assert metrics_of(status)["failing", "calls"].count == 7
