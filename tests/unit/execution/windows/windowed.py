"""Windows in the harness, and functions for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zmflow.api.functions import AggregateFunction
from zmflow.api.windows import Evictor, Trigger, WindowAssigner, WindowOperator
from zmflow.api.windows.operators import Contents, FiredFunction, ListContents
from zmflow.execution.stream_operator import StreamOperator
from zmflow.execution.windows.operators import window_operator
from zmflow.testing.harness import OperatorHarness

Record = tuple[str, int]


def first(record: Record) -> str:
    """The key."""
    return record[0]


def numbers(key: Any, window: Any, records: Iterable[Record]) -> list[Any]:
    """What is in a window: its key, and the numbers in order of arrival."""
    return [(key, [number for _, number in records])]


def specification(
    assigner: WindowAssigner[Any, Any],
    *,
    trigger: Trigger[Any, Any] | None = None,
    contents: Contents | None = None,
    function: FiredFunction | None = FiredFunction("apply", numbers),
    evictor: Evictor[Any, Any] | None = None,
    lateness_ms: int = 0,
    late_tag: str | None = None,
    key_selector: Any = first,
    panes: bool = True,
) -> WindowOperator:
    """Windows of pairs of a key and a number."""
    return WindowOperator(
        key_selector,
        assigner,
        trigger or assigner.get_default_trigger(None),
        contents or ListContents(),
        function,
        evictor,
        lateness_ms,
        late_tag,
        panes,
    )


def harness_of(assigner: WindowAssigner[Any, Any], **settings: Any) -> OperatorHarness:
    """The operator that a job would run."""
    harness_settings = {name: settings.pop(name) for name in ("batch_mode", "on_error") if name in settings}
    operator: StreamOperator = window_operator(specification(assigner, **settings))
    return OperatorHarness(operator, **harness_settings)


class Average(AggregateFunction[Record, tuple[int, int], float]):
    """The average of the numbers."""

    def create_accumulator(self) -> tuple[int, int]:
        return 0, 0

    def add(self, value: Record, accumulator: tuple[int, int]) -> tuple[int, int]:
        return accumulator[0] + value[1], accumulator[1] + 1

    def get_result(self, accumulator: tuple[int, int]) -> float:
        return accumulator[0] / accumulator[1]

    def merge(self, acc_a: tuple[int, int], acc_b: tuple[int, int]) -> tuple[int, int]:
        return acc_a[0] + acc_b[0], acc_a[1] + acc_b[1]
