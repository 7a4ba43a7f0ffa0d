"""What ``cache()`` makes of a program, and which rows of a job count."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from submissions import FinishedJob, KeepingExecutor, new_environment, operators_of

from zmflow import CachedDataStream, RuntimeExecutionMode, StreamExecutionEnvironment
from zmflow.api import stream_cache
from zmflow.api.cached_rows import CachedRowsSource, PackRowsOperator, UnpackRowsOperator
from zmflow.api.execution import JobClient, RowsKeeper
from zmflow.api.operators import SourceOperator
from zmflow.api.stream_cache import CacheFill, StreamCache
from zmflow.config import Settings
from zmflow.errors import JobGraphError
from zmflow.graph.job_graph import JobGraph
from zmflow.graph.transformations import Cached, Transformation
from zmflow.protocol.messages import CollectedRows, JobStatus, JobSummary, VertexStatus


class KeepingJob(FinishedJob):
    """Finishes at once; its one subtask produced these batches."""

    def keep(self, keepers: Mapping[str, RowsKeeper], *, background: bool) -> None:
        self.calls.append(f"keep {len(keepers)} {background}")
        for keeper in keepers.values():
            keeper.take(rows(0, [([1, 2], None)], last=True))
            keeper.end(status("FINISHED", 1))


class KeepingRowsExecutor(KeepingExecutor):
    """Takes every job and hands out rows to keep."""

    def submit(self, graph: JobGraph, settings: Settings, *, collect: bool) -> JobClient:
        self.graphs.append(graph)
        self.jobs.append(KeepingJob([]))
        return self.jobs[-1]  # type: ignore[return-value]


def rows(
    sequence: int, packed: list[Any], *, subtask: int = 0, attempt: int = 0, last: bool = False
) -> CollectedRows:
    """A batch on its way to the client."""
    return CollectedRows(1, "j", "v1", "c", subtask, sequence, pickle.dumps(packed), last, attempt)


def status(state: str, parallelism: int) -> JobStatus:
    """The last status of a job."""
    summary = JobSummary("j", "job", state, 1, 2, 1, 0, 1, 0)  # type: ignore[arg-type]
    vertices = [VertexStatus("v1", "map", ["map"], parallelism, "default", [])]
    return JobStatus(1, 0, summary, "", vertices, None, 1)


def batch_environment() -> tuple[StreamExecutionEnvironment, KeepingRowsExecutor]:
    """In BATCH mode, with an executor that has rows."""
    executor = KeepingRowsExecutor()
    env, _ = new_environment(executor)
    env.set_runtime_mode(RuntimeExecutionMode.BATCH)
    return env, executor


def test_the_second_job_reads_what_the_first_one_computed() -> None:
    """The first has a sink more, the second a source instead of everything before, and a file."""
    env, executor = batch_environment()
    kept = env.from_sequence(1, 2).map(lambda n: n).name("Numbers").cache()
    assert isinstance(kept, CachedDataStream)
    for _ in range(2):
        kept.filter(bool).print()
        env.execute()
    first, second = executor.graphs
    assert PackRowsOperator() in operators_of(first)
    assert first.files == []
    assert [vertex.name for vertex in first.vertices] == [
        "Source: Sequence Source -> Numbers -> (Filter -> Sink: Print to Std. Out, Pack -> Sink: Cache)"
    ]
    source, unpack, *_ = operators_of(second)
    assert isinstance(source, SourceOperator)
    assert isinstance(source.source, CachedRowsSource)
    assert unpack == UnpackRowsOperator()
    assert [vertex.name for vertex in second.vertices] == [
        "Source: Cached Numbers -> Unpack",
        "Filter -> Sink: Print to Std. Out",
    ]
    (file,) = second.files
    assert file.name == source.source.file_name
    assert source.source.ranges == [(0, file.size_bytes)]
    assert [job.calls for job in executor.jobs] == [["keep 1 True", "close"], ["close"]]


def test_a_plan_takes_nothing_away() -> None:
    """It shows the next job, and the job is the same afterwards."""
    env, executor = batch_environment()
    kept = env.from_sequence(1, 2).map(lambda n: n).cache()
    kept.print()
    assert "Sink: Cache" in env.get_execution_plan()
    env.execute()
    assert PackRowsOperator() in operators_of(executor.graphs[0])


def test_what_cannot_be_cached_is_refused() -> None:
    """Streams that are no operators, at the call; STREAMING mode, when the job is made."""
    env, executor = new_environment()
    numbers = env.from_sequence(1, 2)
    for stream in (numbers.rebalance(), numbers.union(numbers), numbers.key_by(lambda n: n)):
        with pytest.raises(JobGraphError, match=r"cache\(\) is called on"):
            stream.cache()
    unused = numbers.map(lambda n: n).cache()
    numbers.print()
    env.execute()
    assert PackRowsOperator() not in operators_of(executor.graphs[0])
    unused.print()
    with pytest.raises(JobGraphError, match="BATCH mode only"):
        env.execute()


def test_properties_are_those_of_the_operator_that_is_kept() -> None:
    """The calls PyFlink refuses here are of use."""
    env, executor = batch_environment()
    kept = env.from_sequence(1, 2).map(lambda n: n).cache()
    assert kept.cache() is kept
    kept.name("Doubled").uid("d").set_parallelism(1).set_max_parallelism(64).disable_chaining()
    assert kept.get_name() == "Doubled"
    kept.print()
    env.execute()
    vertex = next(v for v in executor.graphs[0].vertices if v.name == "Doubled")
    assert (vertex.parallelism, vertex.max_parallelism, vertex.chain[0].uid) == (1, 64, "d")


def cache() -> StreamCache:
    """That of an operator."""
    operator = Transformation(1, "operator", "Map", None, (), 2)
    return StreamCache(Cached(operator), (2, 3))


def content(kept: StreamCache) -> list[Any]:
    """The packed rows of each subtask, as a reader finds them."""
    kept.settle()
    assert kept.node.kept is not None
    (reading,) = kept.node.kept.inputs
    source = reading.operator.source  # type: ignore[union-attr]
    data = kept.file().path.read_bytes()
    found = []
    for begin, end in source.ranges:
        pieces: list[Any] = []
        while begin < end:
            length = int.from_bytes(data[begin : begin + 8], "big")
            pieces += pickle.loads(data[begin + 8 : begin + 8 + length])
            begin += 8 + length
        found.append(pieces)
    return found


def test_rows_of_all_subtasks_count_when_the_job_has_finished() -> None:
    """In the order of the subtasks, whatever the order they came in."""
    kept = cache()
    fill = kept.new_fill({})
    fill.take(rows(0, ["b1"], subtask=1))
    fill.take(rows(0, ["a1"], last=True))
    fill.take(rows(1, ["b2"], subtask=1, last=True))
    assert kept.node.kept is None
    fill.end(status("FINISHED", 2))
    assert content(kept) == [["a1"], ["b1", "b2"]]


def _missing_last(fill: CacheFill) -> None:
    fill.take(rows(0, ["a"]))
    fill.end(status("FINISHED", 1))


def _missing_subtask(fill: CacheFill) -> None:
    fill.take(rows(0, ["a"], last=True))
    fill.end(status("FINISHED", 2))


def _a_gap(fill: CacheFill) -> None:
    fill.take(rows(0, ["a"]))
    fill.take(rows(2, ["c"], last=True))
    fill.end(status("FINISHED", 1))


def _failed(fill: CacheFill) -> None:
    fill.take(rows(0, ["a"], last=True))
    fill.end(status("FAILED", 1))


def _unknown(fill: CacheFill) -> None:
    fill.take(rows(0, ["a"], last=True))
    fill.end(None)


def _nothing(fill: CacheFill) -> None:
    fill.end(status("FINISHED", 1))


def _a_later_attempt_that_did_not_end(fill: CacheFill) -> None:
    fill.take(rows(0, ["a"], last=True))
    fill.take(rows(0, ["a"], attempt=1))
    fill.end(status("FINISHED", 1))


@pytest.mark.parametrize(
    "happens",
    [_missing_last, _missing_subtask, _a_gap, _failed, _unknown, _nothing, _a_later_attempt_that_did_not_end],
)
def test_what_is_not_whole_does_not_count(
    happens: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves nothing on the disk."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = cache()
    happens(kept.new_fill({}))
    kept.settle()
    assert kept.node.kept is None
    assert list(tmp_path.iterdir()) == []


def test_a_later_attempt_replaces_what_came_before() -> None:
    """Late rows of an older one are passed over; so are subtasks of a time when there were more."""
    kept = cache()
    fill = kept.new_fill({})
    for subtask in (0, 1):
        fill.take(rows(0, ["old"], subtask=subtask, last=True))
    fill.take(rows(0, ["new"], attempt=1))
    fill.take(rows(1, ["late"], attempt=0))
    fill.take(rows(1, ["newer"], attempt=1, last=True))
    fill.end(status("FINISHED", 1))
    assert content(kept) == [["new", "newer"]]


def test_what_was_dropped_meanwhile_stays_dropped() -> None:
    """A job that was submitted before invalidate() fills nothing; of two jobs the first one counts."""
    kept = cache()
    early, first, second = kept.new_fill({}), None, None
    kept.drop()
    first, second = kept.new_fill({}), kept.new_fill({})
    for fill, text in ((early, "early"), (first, "first"), (second, "second")):
        fill.take(rows(0, [text], last=True))
        fill.end(status("FINISHED", 1))
    assert content(kept) == [["first"]]
    kept.drop()
    kept.settle()
    assert kept.node.kept is None


def test_a_full_disk_does_not_fail_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The rows are not kept, and the next job says why."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    kept = cache()
    fill = kept.new_fill({})
    fill.take(rows(0, ["a"], last=True))
    fill.end(status("FINISHED", 1))
    with pytest.warns(UserWarning, match="'Map' was not kept: its rows could not be written"):
        kept.settle()
    assert kept.node.kept is None


def test_the_limit_is_on_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of attempts that failed take no room."""
    size = 8 + len(pickle.dumps(["a" * 100]))
    monkeypatch.setattr(stream_cache, "CACHE_SIZE_MAX_BYTES", 2 * size)
    kept = cache()
    fill = kept.new_fill({})
    for attempt in range(5):
        fill.take(rows(0, ["a" * 100], attempt=attempt))
    fill.take(rows(1, ["a" * 100], attempt=4, last=True))
    fill.end(status("FINISHED", 1))
    assert content(kept) == [["a" * 100] * 2]
