"""A BATCH job whose input is larger than the memory of its operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cluster_executor import ClusterExecutor

from zmflow import KeyedProcessFunction, RuntimeExecutionMode, StreamExecutionEnvironment
from zmflow.api.environment import environment_context
from zmflow.config import Settings
from zmflow.runtime.mini_cluster import MiniCluster

pytestmark = pytest.mark.integration

RECORDS = 150_000
"""Several times what two megabytes of managed memory hold, however the batches fall."""


class Numbered(KeyedProcessFunction[int, int, tuple[int, int, int]]):
    """The key, the record, and how many files without a name the worker has open."""

    def process_element(self, value: int, ctx: Any) -> Iterator[tuple[int, int, int]]:
        unnamed = -1
        if value < 100:
            unnamed = 0
            for link in Path("/proc/self/fd").iterdir():
                with suppress(OSError):  # it may have been closed meanwhile
                    target = str(link.readlink())
                    unnamed += "zmflow-run-" in target and target.endswith("(deleted)")
        yield ctx.get_current_key(), value, unnamed


def test_input_that_does_not_fit_is_sorted_on_disk() -> None:
    """Nothing is lost, a key's records stay in their order, and the files have no names."""
    settings = Settings().with_values({"taskmanager.memory.managed.size": "2 mb"}, "test")
    got: dict[int, list[int]] = {}
    files = []
    # A cluster of its own: the embedded one of this process has the settings of whoever ran on it first.
    with MiniCluster(1, 2, settings) as cluster:
        with environment_context(
            settings.with_values({"parallelism.default": "2"}, "test"), ClusterExecutor(cluster)
        ):
            env = StreamExecutionEnvironment.get_execution_environment()
        env.set_runtime_mode(RuntimeExecutionMode.BATCH)
        numbers = env.from_sequence(0, RECORDS - 1).set_parallelism(1)
        keyed = numbers.key_by(lambda value: value % 1000).process(Numbered()).managed_memory_weight(1)
        for key, value, open_files in keyed.execute_and_collect():
            got.setdefault(key, []).append(value)
            files.append(open_files)
    assert got == {key: list(range(key, RECORDS, 1000)) for key in range(1000)}
    assert max(files) > 1
