"""Which state backend the operators of a chain get, and when it is given back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from zmflow.api.functions import RuntimeContext
from zmflow.api.process_functions import KeyedProcessFunction
from zmflow.api.process_operators import ProcessOperator
from zmflow.errors import ConfigurationError
from zmflow.execution.batches import Batch, TimedRows
from zmflow.execution.chain import Chain
from zmflow.graph.job_graph import ChainNode, ChainOutput, ChainSpec
from zmflow.graph.partitioners import ForwardPartitioner
from zmflow.state.backend import API_VERSION
from zmflow.state.descriptors import ValueStateDescriptor
from zmflow.state.heap import HeapKeyedStateBackend

CONTEXT = RuntimeContext(
    job_id="j",
    job_name="job",
    task_name="task",
    operator_name="",
    subtask_index=0,
    parallelism=1,
    max_parallelism=128,
    attempt_number=0,
    host="here",
)


class Recorded(HeapKeyedStateBackend):
    """A backend that says when it is opened and closed."""

    api_version = API_VERSION
    events: ClassVar[list[str]] = []

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.events.append("backend opened")

    def close(self) -> None:
        self.events.append("backend closed")


class Counting(KeyedProcessFunction):
    """Numbers the records of a key."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.seen = runtime_context.get_state(ValueStateDescriptor("seen"))

    def process_element(self, value: Any, ctx: Any) -> Iterator[tuple[Any, int]]:
        count = (self.seen.value() or 0) + 1
        self.seen.update(count)
        yield value, count

    def close(self) -> None:
        Recorded.events.append("function closed")


def chain(state_backend: str, rows: list[Any]) -> Chain:
    operator = ProcessOperator(Counting(), lambda value: value)
    output = ChainOutput("e", 0, ForwardPartitioner(), 100)
    spec = ChainSpec([ChainNode("o", "count", operator, -1)], [output])

    def take(batch: Batch) -> None:
        rows.extend(batch.rows if isinstance(batch, TimedRows) else batch)

    return Chain(spec, CONTEXT, [take], lambda *_: None, state_backend=state_backend)


def test_the_backend_of_the_setting_is_used_and_closed_after_the_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin holds the state; functions can still reach it while they close."""
    info = tmp_path / "recorded-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recorded\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[zmflow.state_backends]\nrecorded = {__name__}:Recorded\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    Recorded.events.clear()
    rows: list[Any] = []
    running = chain("recorded", rows)
    running.open()
    running.process(["a", "b", "a"])
    running.finish()
    running.close(completed=True)
    assert (rows, Recorded.events) == (
        [("a", 1), ("b", 1), ("a", 2)],
        ["backend opened", "function closed", "backend closed"],
    )


def test_a_backend_that_is_not_there_fails_the_task() -> None:
    """The error names it, and those there are."""
    with pytest.raises(ConfigurationError, match=r"no plugin 'rockdb' in zmflow\.state_backends"):
        chain("rockdb", []).open()
