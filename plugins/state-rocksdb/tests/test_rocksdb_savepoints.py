"""Savepoints of jobs on real processes that change their backend and their parallelism on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_savepoints import await_lines, begin, expected, written

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120), pytest.mark.xdist_group("savepoints")]


@pytest.mark.parametrize(
    "backends",
    [("hashmap", "rocksdb", "hashmap"), ("rocksdb", "hashmap", "rocksdb"), ("rocksdb", "rocksdb", "rocksdb")],
)
def test_a_job_goes_on_with_another_backend_and_parallelism(tmp_path: Path, backends: list[str]) -> None:
    """2, then 4, then 3 tasks: keyed state, timers and windows go where their keys go, every line once."""
    path = ""
    for backend, parallelism, lines in ((backends[0], 2, 1_500), (backends[1], 4, 3_500)):
        job = begin(tmp_path, parallelism, path, **{"state.backend.type": backend})
        await_lines(job, tmp_path, lines)
        path = job.stop_with_savepoint(False)
        job.close()
    job = begin(tmp_path, 3, path, **{"state.backend.type": backends[2]})
    job.get_job_execution_result()
    job.close()
    assert written(tmp_path) == expected()
