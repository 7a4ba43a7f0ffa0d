"""What clients are shown of the metrics of a job's subtasks, on the brains alone."""

from __future__ import annotations

from zmflow.coordination.vertex_metrics import merged_metrics
from zmflow.protocol.messages import (
    GetJob,
    JobStatus,
    JobSummary,
    TaskCounters,
    TaskMetrics,
    TaskStateChanged,
    VertexStatus,
    WatchJob,
    decode_message,
    encode_message,
)
from zmflow.protocol.metric_samples import MetricSample, VertexMetric
from zmflow.testing.control_plane import Behaviour, ControlPlane

from .job_graphs import graph, submit, vertex


def test_counters_add_up() -> None:
    """Over those subtasks that report them."""
    assert merged_metrics(
        [
            (0, [MetricSample("Map", [], "bad", "counter", 1)]),
            (1, []),
            (2, [MetricSample("Map", [], "bad", "counter", 10)]),
        ]
    ) == [VertexMetric("Map", [], "bad", "counter", 2, count=11)]


def test_rates_of_meters_add_up() -> None:
    """Two subtasks with ten a second each are twenty a second."""
    samples = [MetricSample("Map", [("t", "u")], "calls", "meter", 5, 10.0)]
    (metric,) = merged_metrics([(0, samples), (1, samples)])
    assert metric == VertexMetric("Map", [("t", "u")], "calls", "meter", 2, count=10, rate=20.0)


def test_distributions_are_merged() -> None:
    """One that has seen nothing has no least and no greatest value either."""
    empty = MetricSample("Map", [], "sizes", "distribution")
    one = MetricSample("Map", [], "sizes", "distribution", 2, 0, 10, 4, 6)
    other = MetricSample("Map", [], "sizes", "distribution", 3, 0, 5, 1, 3)
    (metric,) = merged_metrics([(0, [empty]), (1, [one]), (2, [other])])
    assert metric == VertexMetric(
        "Map", [], "sizes", "distribution", 3, count=5, sum=15, min=1, max=6, mean=3.0
    )
    (metric,) = merged_metrics([(0, [empty])])
    assert (metric.count, metric.min, metric.max, metric.mean) == (0, None, None, None)


def test_gauges_keep_the_value_of_each_subtask() -> None:
    """Numbers have a least and a greatest one."""
    samples = [
        (index, [MetricSample("Map", [], "g", "gauge", value=value)])
        for index, value in enumerate([7, "off", 2.5])
    ]
    (metric,) = merged_metrics(samples)
    assert metric == VertexMetric(
        "Map", [], "g", "gauge", 3, min=2.5, max=7, values=[(0, 7), (1, "off"), (2, 2.5)]
    )
    (metric,) = merged_metrics(samples[1:2])
    assert (metric.min, metric.max, metric.values) == (None, None, [(1, "off")])


def test_a_name_with_two_kinds_is_two_metrics() -> None:
    """Subtasks may differ; nothing is added to what it does not belong to."""
    samples = [(0, [MetricSample("", [], "x", "counter", 1)]), (1, [MetricSample("", [], "x", "meter", 1)])]
    assert [metric.kind for metric in merged_metrics(samples)] == ["counter", "meter"]


def test_sums_that_no_message_can_hold_travel_as_floats() -> None:
    """Two numbers that fit come to one that does not: the leader must not fall over it."""
    most = 2**63 - 1
    samples = [
        MetricSample("", [], "n", "counter", most),
        MetricSample("", [], "d", "distribution", most, 0, most, most, most),
    ]
    for metric in merged_metrics((index, samples) for index in range(5)):
        assert metric.count == float(5 * most)
        status = _status_with(metric)
        assert decode_message(encode_message(status)) == status


def _status_with(metric: VertexMetric) -> JobStatus:
    vertices = [VertexStatus("v1", "v1", [], 1, "default", [], "", [metric])]
    return JobStatus(1, 1, JobSummary("j", "j", "RUNNING", 0, 0, 1, 1, 0), "", vertices, None, 0)


# -- on their way to a client --------------------------------------------------------------------


def _counted(attempt_id: str, count: int) -> TaskCounters:
    return TaskCounters(attempt_id, 0, 0, 0, 0, 0, 0, [MetricSample("Map", [], "bad", "counter", count)])


def _count(status: JobStatus) -> list[object]:
    return [metric.count for metric in status.vertices[0].metrics]


def test_metrics_are_in_answers_and_in_the_last_status() -> None:
    """Not in the updates between, which come five times a second; what a task says with its end stays."""
    cluster = ControlPlane([2], behaviour=lambda _: Behaviour(finishes=False))
    client = cluster.add_client("client")
    cluster.say(client, submit("j1", graph([vertex("v1", 2)])))
    cluster.say(client, WatchJob(1, 8, "j1"))
    cluster.settle()
    workers = [(worker, attempt) for worker in cluster.workers for attempt in worker.live]
    assert len(workers) == 2
    for worker, attempt in workers:
        cluster.from_worker(worker, TaskMetrics(0, worker.allocation_id, [_counted(attempt, 5)]))
    cluster.advance(1_000)
    assert client.last(JobStatus).request_id == 0
    assert _count(client.last(JobStatus)) == []
    cluster.say(client, GetJob(1, 9, "j1"))
    cluster.settle()
    assert _count(client.last(JobStatus)) == [10]
    for worker, attempt in workers:
        end = TaskStateChanged(0, worker.allocation_id, attempt, "FINISHED", None, _counted(attempt, 7))
        cluster.from_worker(worker, end)
    cluster.settle()
    last = client.last(JobStatus)
    assert (last.summary.state, last.request_id, _count(last)) == ("FINISHED", 0, [14])
