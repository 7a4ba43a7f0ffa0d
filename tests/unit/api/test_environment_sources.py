"""The sources an environment has a call for, listeners of its jobs, streams taken for keyed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from submissions import new_environment

from zmflow import DataStreamUtils, JobClient, JobExecutionResult, JobListener, KeyedStream, Types
from zmflow.api.collections import CollectionSource
from zmflow.connectors import SocketTextSource, TextFileSource
from zmflow.connectors.file_formats import TextLineFormat
from zmflow.connectors.line_blocks import TextDecoder
from zmflow.errors import JobGraphError


def test_files_are_read_by_the_sources_of_connectors(tmp_path: Path) -> None:
    """The API names them only; a file that is missing is told of at submission."""
    env, _ = new_environment()
    (tmp_path / "a.txt").write_text("x\n")
    lines = env.read_text_file(tmp_path / "a.txt")
    assert isinstance(lines._operator("").operator.source, TextFileSource)  # type: ignore[attr-defined]
    text_format = TextLineFormat(TextDecoder("utf-8", "strict"))
    stream = env.read_file(text_format, tmp_path / "a.txt", Types.STRING())
    assert stream.get_type() == Types.STRING()


def test_a_socket_is_read_by_one_subtask() -> None:
    """And has no end, as far as anybody knows."""
    env, _ = new_environment()
    operator = env.socket_text_stream("localhost", 9, max_retry=-1)._operator("")
    assert (operator.parallelism, operator.non_parallel) == (1, True)
    assert isinstance(operator.operator.source, SocketTextSource)  # type: ignore[attr-defined]


def test_a_collection_may_be_read_in_parallel() -> None:
    """Each subtask is given parts of it; a range is not written out."""
    assigned: list[range] = []

    class Context:
        parallelism = 2

        def assign_splits(self, splits: Any, subtask: int) -> None:
            assigned.extend(splits)

        def signal_no_more_splits(self, subtask: int) -> None:
            assigned.append(range(0))

    env, _ = new_environment()
    stream = env.from_parallel_collection(range(10**9))
    source: CollectionSource[int] = stream._operator("").operator.source  # type: ignore[attr-defined]
    assert source.elements == range(10**9)
    enumerator = source.create_enumerator(Context())
    while not assigned or assigned[-1]:
        enumerator.handle_split_request(0)
    assert len(assigned) == 17
    assert sum(map(len, assigned)) == 10**9
    with pytest.raises(JobGraphError, match=r"from_parallel_collection\(\) takes an iterable"):
        env.from_parallel_collection(5)  # type: ignore[arg-type]


class Heard(JobListener):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool, str]] = []

    def on_job_submitted(self, job_client: JobClient | None, error: Exception | None) -> None:
        self.told.append(("submitted", job_client is not None, str(error or "")))

    def on_job_executed(self, result: JobExecutionResult | None, error: Exception | None) -> None:
        self.told.append(("executed", result is not None, str(error or "")))


def test_listeners_are_told_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each submission, and of the end where execute() waits for it; errors are told and raised."""
    env, executor = new_environment()
    heard = Heard()
    env.register_job_listener(heard)
    env.from_collection([1]).print()
    env.execute()
    env.from_collection([1]).print()
    env.execute_async()
    assert heard.told == [("submitted", True, ""), ("executed", True, ""), ("submitted", True, "")]

    def refuse(*_: object, collect: bool) -> JobClient:
        raise JobGraphError("no")

    heard.told.clear()
    monkeypatch.setattr(executor, "submit", refuse)
    env.from_collection([1]).print()
    with pytest.raises(JobGraphError, match="no"):
        env.execute()
    assert heard.told == [("submitted", False, "no")]
    with pytest.raises(JobGraphError, match="takes a JobListener"):
        env.register_job_listener(Heard)  # type: ignore[arg-type]


def test_a_stream_taken_for_keyed_has_no_exchange() -> None:
    """It is chained where chaining allows; its keys must mean the same on both sides."""
    env, executor = new_environment()
    env.set_parallelism(2)
    kept = env.from_sequence(1, 9).key_by(lambda value: value % 3).map(str).map(int)
    keyed = DataStreamUtils.reinterpret_as_keyed_stream(kept, lambda value: value % 3)
    assert isinstance(keyed, KeyedStream)
    keyed.sum().print()
    env.execute()
    assert [edge.partitioner for edge in executor.graphs[0].edges] == ["HASH"]
    kept = env.from_sequence(1, 9).key_by(lambda value: value % 3).map(str).map(int)
    total = DataStreamUtils.reinterpret_as_keyed_stream(kept, lambda value: value % 3).sum()
    total.set_max_parallelism(7).print()
    with pytest.raises(JobGraphError, match="cannot be kept"):
        env.execute()
    with pytest.raises(JobGraphError, match="not a KeyedStream"):
        DataStreamUtils.reinterpret_as_keyed_stream(keyed, lambda value: value)
