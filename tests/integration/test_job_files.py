"""Files that travel with jobs, on two TaskManagers with two workers each."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_executor import ClusterExecutor

from zmflow import MapFunction, RuntimeContext, StreamExecutionEnvironment
from zmflow.api.environment import environment_context
from zmflow.config import Settings
from zmflow.errors import JobFailedError, JobGraphError
from zmflow.runtime.mini_cluster import MiniCluster

pytestmark = pytest.mark.integration

DEADLINE_S = 30


@pytest.fixture(scope="module")
def executor() -> Iterator[ClusterExecutor]:
    """Two TaskManagers of two slots."""
    with MiniCluster(2, 2) as cluster:
        yield ClusterExecutor(cluster)


@pytest.fixture
def env(executor: ClusterExecutor) -> StreamExecutionEnvironment:
    """Whose jobs take all four slots."""
    with environment_context(Settings().with_values({"parallelism.default": "4"}, "test"), executor):
        return StreamExecutionEnvironment.get_execution_environment()


class ReadsFile(MapFunction[int, Any]):
    """Where the file is in each subtask, and what is in it."""

    def __init__(self, name: str, inside: str = "") -> None:
        self.name, self.inside = name, inside

    def open(self, runtime_context: RuntimeContext) -> None:
        self.subtask = runtime_context.get_index_of_this_subtask()
        self.path = runtime_context.get_distributed_cache().get_file(self.name)

    def map(self, value: int) -> Any:
        path = Path(self.path, self.inside)
        return self.subtask, self.path, path.stat().st_ino, path.read_text()


def test_a_file_is_written_once_for_each_taskmanager(
    env: StreamExecutionEnvironment, executor: ClusterExecutor, tmp_path: Path
) -> None:
    """Four workers read two copies, under the name the file had, which are gone after the job."""
    words = tmp_path / "words.txt"
    words.write_text("a b c")
    env.register_cached_file(str(words), "words")
    found = set(env.from_sequence(1, 400).rebalance().map(ReadsFile("words")).execute_and_collect())
    assert {subtask for subtask, *_ in found} == {0, 1, 2, 3}
    assert {text for *_, text in found} == {"a b c"}
    copies = {(path, inode) for _, path, inode, _ in found}
    assert len(copies) == 2
    assert {Path(path).name for path, _ in copies} == {"words.txt"}
    assert not any(Path(path).is_relative_to(tmp_path) for path, _ in copies)
    wait_until_gone(executor)


def wait_until_gone(executor: ClusterExecutor) -> None:
    """A TaskManager hears of the end of a job a moment after its client; then it answers in order."""
    client = executor.cluster.client()
    deadline = time.monotonic() + DEADLINE_S
    while executor.files() and time.monotonic() < deadline:
        client.cluster_status()
    client.close()
    assert executor.files() == []


def test_directories_keep_what_is_in_them(env: StreamExecutionEnvironment, tmp_path: Path) -> None:
    """A function is given the directory and finds its files."""
    (tmp_path / "model" / "deep").mkdir(parents=True)
    (tmp_path / "model" / "deep" / "weights").write_text("1 2 3")
    env.register_cached_file(tmp_path / "model", "model")
    read = ReadsFile("model", "deep/weights")
    found = set(env.from_sequence(1, 400).rebalance().map(read).execute_and_collect())
    assert {text for *_, text in found} == {"1 2 3"}
    assert len({inode for _, _, inode, _ in found}) == 2


def test_python_files_are_imported_from_there(
    env: StreamExecutionEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module, a package and an archive; records of their classes are themselves everywhere."""
    (tmp_path / "shipped_point.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Point:\n    x: int\n"
    )
    (tmp_path / "shipped_pack").mkdir()
    (tmp_path / "shipped_pack" / "__init__.py").write_text("import os\nWHERE = os.path.dirname(__file__)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    env.add_python_file(tmp_path / "shipped_point.py")
    env.add_python_file(tmp_path / "shipped_pack")
    from shipped_point import Point  # type: ignore[import-not-found]

    def imported(number: int) -> Any:
        import shipped_pack  # type: ignore[import-not-found]

        return Point(number % 2), shipped_pack.WHERE

    try:
        made = env.from_sequence(1, 400).rebalance().map(imported)
        found = set(made.key_by(lambda pair: pair[0]).map(lambda pair: pair).execute_and_collect())
    finally:
        for name in ("shipped_point", "shipped_pack"):
            sys.modules.pop(name, None)
    assert {point for point, _ in found} == {Point(0), Point(1)}
    assert len({where for _, where in found}) == 2
    assert not any(Path(where).is_relative_to(tmp_path) for _, where in found)


def test_an_unknown_name_lists_those_there_are(env: StreamExecutionEnvironment, tmp_path: Path) -> None:
    """The job fails with the names that were registered."""
    (tmp_path / "a").write_text("")
    env.register_cached_file(tmp_path / "a", "first")
    env.register_cached_file(tmp_path / "a", "second")
    env.from_sequence(1, 2).map(ReadsFile("third")).print()
    with pytest.raises(JobFailedError) as failed:
        env.execute()
    told = f"{failed.value.message} {failed.value.detail} {failed.value.hint}"
    assert "no cached file 'third'" in told
    assert "Registered: first, second." in told
    assert "register_cached_file" in told


def test_a_file_that_went_away_is_named(env: StreamExecutionEnvironment, tmp_path: Path) -> None:
    """What was there at registration may be gone at submission."""
    (tmp_path / "a").write_text("")
    env.register_cached_file(tmp_path / "a", "first")
    (tmp_path / "a").unlink()
    env.from_sequence(1, 2).print()
    with pytest.raises(JobGraphError, match="The file 'first' cannot be read"):
        env.execute()
