"""``OperatorHarness``: one operator in virtual time, for the tests of those who write functions.

No cluster, no threads, no waiting: push records, watermarks and processing time in, read outputs, state and
timers. What happens is what happens in a job, because the operator is the one that a job runs.

>>> from zmflow.api.process_functions import ProcessFunction
>>> class Doubled(ProcessFunction[int, int]):
...     def process_element(self, value, ctx):
...         yield value * 2
>>> with OperatorHarness(Doubled()) as harness:
...     harness.push(4, timestamp=1000)
...     harness.output()
[Record(value=8, timestamp=1000)]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from zmflow.api.functions import KeySelector, RuntimeContext
from zmflow.api.metric_group import MetricGroup
from zmflow.api.metric_registry import MetricRegistry
from zmflow.api.metrics import Counter, Distribution, Gauge, Meter
from zmflow.api.output_tag import OutputTag
from zmflow.errors import ZmflowError
from zmflow.execution.batches import Rows
from zmflow.execution.operator_snapshots import RestoredOperator, SnapshotContext
from zmflow.execution.stream_operator import MAX_WATERMARK, MIN_WATERMARK, OperatorContext, Timestamps
from zmflow.execution.time_events import StreamStatus, Watermark
from zmflow.execution.timers import Timer, TimerService
from zmflow.graph.transformations import ErrorPolicy
from zmflow.protocol.metric_samples import identifier
from zmflow.state.backend import KeyedStateBackend
from zmflow.state.chunks import OperatorSnapshot
from zmflow.state.descriptors import MapStateDescriptor
from zmflow.state.function_states import FunctionStates
from zmflow.state.keys import key_group_range
from zmflow.state.state_file import StateFileReader, pickle_state
from zmflow.testing.function_operators import operator_for

__all__ = ["OperatorHarness", "Record"]


class Record(NamedTuple):
    """A record that left the operator; equal to the plain pair.

    >>> Record("a", 5) == ("a", 5)
    True
    """

    value: Any
    timestamp: int | None


OPERATOR_ID = "operator"
"""The id of the only operator in a snapshot of a harness."""


def _read_snapshot(data: bytes, groups: range, max_parallelism: int) -> RestoredOperator:
    reader = StateFileReader(lambda offset, size: data[offset : offset + size], len(data), "the snapshot")
    keyed = reader.keyed(OPERATOR_ID, groups, max_parallelism)
    return RestoredOperator(1, keyed, reader.operator(OPERATOR_ID))


class _Recorder:
    """The ``Output`` of the operator: keeps everything, in order."""

    def __init__(self) -> None:
        self.main: list[Record | Watermark | StreamStatus] = []
        self.sides: dict[str, list[Record]] = {}

    def emit(self, rows: Rows, timestamps: Timestamps) -> None:
        self.main.extend(_records(rows, timestamps))

    def emit_side(self, tag_id: str, rows: Rows, timestamps: Timestamps) -> None:
        self.sides.setdefault(tag_id, []).extend(_records(rows, timestamps))

    def emit_watermark(self, watermark_ms: int) -> None:
        self.main.append(Watermark(watermark_ms))

    def emit_status(self, *, idle: bool) -> None:
        self.main.append(StreamStatus(idle))


def _records(rows: Rows, timestamps: Timestamps) -> list[Record]:
    if timestamps is None:
        return [Record(row, None) for row in rows]
    return [Record(row, timestamp) for row, timestamp in zip(rows, timestamps, strict=True)]


class OperatorHarness:
    """Drives one operator.

    Args:
        operator: a function object (``KeyedProcessFunction``, ``CoMapFunction``, ``FlatMapFunction``...), the
            specification of an operator, or a ``StreamOperator``.
        key_selector: the key of a record; needed by functions of keyed streams.
        second_key_selector: the key of a record of the second input; by default the same function.
        broadcast_state: the descriptors of broadcast state, of functions that have any.
        on_error: what happens to records a function raises for: ``fail``, ``skip`` or ``dead_letter``.
        batch_mode: run as a BATCH job does: one key at a time at the end of the input.
        processing_time_ms: what the clock shows first.
        subtask_index: which subtask the operator believes to be, of ``parallelism``.
        parallelism: how many subtasks there are.
        max_parallelism: how many key groups there are.
        job_parameters: what ``RuntimeContext.get_job_parameter`` finds.
        restore: what ``snapshot()`` of another harness returned: the operator goes on from there.

    >>> from zmflow.api.process_functions import KeyedProcessFunction
    >>> from zmflow.state.descriptors import ValueStateDescriptor
    >>> class CountOfKey(KeyedProcessFunction[str, str, tuple[str, int]]):
    ...     def open(self, runtime_context):
    ...         self.count = runtime_context.get_state(ValueStateDescriptor("count"))
    ...     def process_element(self, value, ctx):
    ...         self.count.update((self.count.value() or 0) + 1)
    ...         ctx.timer_service().register_event_time_timer(ctx.timestamp() + 10)
    ...     def on_timer(self, timestamp, ctx):
    ...         yield ctx.get_current_key(), self.count.value()
    >>> harness = OperatorHarness(CountOfKey(), key_selector=str.lower)
    >>> harness.push("A", timestamp=5)
    >>> harness.push("a", timestamp=5)
    >>> harness.state(ValueStateDescriptor("count"), key="a").value()
    2
    >>> harness.watermark(15)
    >>> harness.output()
    [Record(value=('a', 2), timestamp=15)]
    """

    def __init__(
        self,
        operator: object,
        key_selector: Callable[[Any], object] | KeySelector[Any, Any] | None = None,
        *,
        second_key_selector: Callable[[Any], object] | KeySelector[Any, Any] | None = None,
        broadcast_state: Sequence[MapStateDescriptor[Any, Any]] = (),
        on_error: ErrorPolicy = "fail",
        batch_mode: bool = False,
        processing_time_ms: int = 0,
        subtask_index: int = 0,
        parallelism: int = 1,
        max_parallelism: int = 128,
        job_parameters: Mapping[str, str] | None = None,
        restore: bytes | None = None,
    ) -> None:
        self._operator = operator_for(operator, key_selector, second_key_selector, broadcast_state)
        self._recorder = _Recorder()
        self._now_ms = processing_time_ms
        self._watermarks_ms = {1: MIN_WATERMARK, 2: MIN_WATERMARK}
        self._watermark_ms = MIN_WATERMARK
        self._closed = False
        groups = key_group_range(subtask_index, max_parallelism, parallelism)
        restored = None if restore is None else _read_snapshot(restore, groups, max_parallelism)
        self._functions = FunctionStates() if restored is None else FunctionStates(restored.operator, 1)
        self._metrics = MetricRegistry(lambda: self._now_ms / 1000)
        self.runtime_context = RuntimeContext(
            job_id="0" * 32,
            job_name="harness",
            task_name=type(operator).__name__,
            operator_name=type(operator).__name__,
            subtask_index=subtask_index,
            parallelism=parallelism,
            max_parallelism=max_parallelism,
            attempt_number=0,
            host="localhost",
            job_parameters=dict(job_parameters or {}),
            function_states=self._functions,
            metric_group=MetricGroup(self._metrics, type(operator).__name__),
        )
        context = OperatorContext(
            self.runtime_context,
            self._recorder,
            lambda: self._now_ms,
            batch_mode,
            on_error,
            restored=restored,
        )
        try:
            self._operator.open(context)
            self._operator.begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- in -----------------------------------------------------------------------------------------

    def push(self, value: Any, timestamp: int | None = None) -> None:
        """A record of the first input."""
        self.push_batch([value], None if timestamp is None else [timestamp])

    def push_second(self, value: Any, timestamp: int | None = None) -> None:
        """A record of the second input, or of the broadcast side."""
        self.push_second_batch([value], None if timestamp is None else [timestamp])

    def push_batch(self, values: Sequence[Any], timestamps: Sequence[int] | None = None) -> None:
        """Records of the first input that arrive together."""
        self._operator.process(values, timestamps)
        self._fire_due()

    def push_second_batch(self, values: Sequence[Any], timestamps: Sequence[int] | None = None) -> None:
        """Records of the second input that arrive together."""
        self._operator.process_second(values, timestamps)
        self._fire_due()

    def watermark(self, watermark_ms: int, of_input: int | None = None) -> None:
        """Event time has reached this, on both inputs or on one: 1 or 2.

        As in a job, the operator's event time is the least of its inputs and never goes back.
        """
        for number in (1, 2) if of_input is None else (of_input,):
            self._watermarks_ms[number] = max(watermark_ms, self._watermarks_ms[number])
        reached = min(self._watermarks_ms.values())
        if reached > self._watermark_ms:
            self._watermark_ms = reached
            self._operator.advance_watermark(reached)
            if not self._operator.makes_watermarks or reached == MAX_WATERMARK:
                self._recorder.emit_watermark(reached)
            self._fire_due()

    def processing_time(self, now_ms: int) -> None:
        """Let the clock go on to this. Each timer on the way fires when the clock shows its time.

        Raises:
            ValueError: that would be going back.
        """
        if now_ms < self._now_ms:
            raise ValueError(f"The clock shows {self._now_ms} and does not go back to {now_ms}.")
        while (due_ms := self._operator.next_processing_time_ms()) is not None and due_ms <= now_ms:
            self._now_ms = max(due_ms, self._now_ms)
            self._fire_due()
        self._now_ms = now_ms

    def end_input(self) -> None:
        """The input ends: event time goes to its end, and what was kept is handed out."""
        self.watermark(MAX_WATERMARK)
        self._operator.finish()

    def snapshot(self, checkpoint_id: int = 1) -> bytes:
        """What the operator puts into a checkpoint, as the file of a subtask holds it; see ``restore``."""
        context = SnapshotContext(checkpoint_id, self._now_ms)
        self._operator.snapshot_state(context)
        backend = getattr(self._operator, "keyed_state", None)
        if isinstance(backend, KeyedStateBackend):
            for group in backend.key_groups:
                context.keyed.extend(backend.chunks(group))
        context.operator.extend(self._functions.snapshot(checkpoint_id, self._now_ms))
        state = pickle_state([OperatorSnapshot(OPERATOR_ID, context.keyed, context.operator)])
        return b"".join(state.parts())

    def complete_checkpoint(self, checkpoint_id: int = 1) -> None:
        """Tell the functions that want to know that a checkpoint is complete."""
        self._functions.completed(checkpoint_id)

    def close(self) -> None:
        """Close the operator and its functions, once."""
        if not self._closed:
            self._closed = True
            self._operator.close()

    def _fire_due(self) -> None:
        while (due_ms := self._operator.next_processing_time_ms()) is not None and due_ms <= self._now_ms:
            self._operator.advance_processing_time(self._now_ms)

    # -- out ----------------------------------------------------------------------------------------

    def output(self) -> list[Record]:
        """The records that have left by the main output, in order."""
        return [item for item in self._recorder.main if isinstance(item, Record)]

    def values(self) -> list[Any]:
        """The values of ``output()``."""
        return [record.value for record in self.output()]

    def side_output(self, tag: OutputTag[Any]) -> list[Record]:
        """The records that have left by a side output, in order."""
        return list(self._recorder.sides.get(tag.tag_id, ()))

    def watermarks(self) -> list[int]:
        """The watermarks that have left."""
        return [item.timestamp_ms for item in self._recorder.main if isinstance(item, Watermark)]

    def everything(self) -> list[Record | Watermark | StreamStatus]:
        """What has left by the main output: records and, between them, watermarks and statuses."""
        return list(self._recorder.main)

    def clear_output(self) -> None:
        """Forget what has left so far."""
        self._recorder.main.clear()
        self._recorder.sides.clear()

    # -- inside -------------------------------------------------------------------------------------

    def state(self, descriptor: Any, key: Any, namespace: Any = None) -> Any:
        """The state of a key: a ``ValueState``, ``ListState``... as the descriptor says. It can be changed.

        Windows keep the state of their contents under the window as ``namespace``.
        """
        backend = self.keyed_state
        backend.set_current_key(key)
        return backend.get_state(descriptor, namespace)

    @property
    def keyed_state(self) -> KeyedStateBackend:
        """The keyed state of the operator.

        Raises:
            ZmflowError: it has none.
        """
        backend = getattr(self._operator, "keyed_state", None)
        if not isinstance(backend, KeyedStateBackend):
            raise ZmflowError(
                f"The operator {type(self._operator).__name__} has no keyed state.",
                hint="Give the harness a key_selector.",
            )
        return backend

    def accumulator(self, name: str) -> Any:
        """What an accumulator of the function has come to; None where there is none of this name."""
        found = self.runtime_context.get_accumulator(name)
        return None if found is None else found.get_local_value()

    def metrics(self) -> dict[str, Any]:
        """What every metric shows, by its name after those of its groups: ``"cache.hits"``.

        A counter shows its count, a gauge its answer, which is asked for here, a meter ``count`` and ``rate``
        in virtual time, a distribution ``count``, ``sum``, ``min``, ``max`` and ``mean``. The engine's own
        metrics of the operator are among them.

        >>> from zmflow.api.functions import MapFunction
        >>> class Checked(MapFunction[str, int]):
        ...     def open(self, runtime_context):
        ...         self.lengths = runtime_context.get_metrics_group().distribution("lengths")
        ...     def map(self, value):
        ...         self.lengths.update(len(value))
        ...         return int(value)
        >>> harness = OperatorHarness(Checked(), on_error="skip")
        >>> harness.push_batch(["12", "none"])
        >>> harness.metrics()["lengths"].mean, harness.metrics()["numRecordsRejected"]
        (3.0, 1)
        """
        shown: dict[str, Any] = {}
        for key, metric in self._metrics.metrics():
            if isinstance(metric, Gauge):
                metric.refresh()
            name = identifier(key.groups, key.name)
            if isinstance(metric, Counter):
                shown[name] = metric.get_count()
            elif isinstance(metric, (Meter, Distribution, Gauge)):
                shown[name] = metric.value
        return shown

    def event_time_timers(self) -> list[Timer]:
        """The event-time timers that are set: time, key and namespace, in the order they will fire."""
        return self._timers().event_time_timers()

    def processing_time_timers(self) -> list[Timer]:
        """The timers of the clock that are set, likewise."""
        return self._timers().processing_time_timers()

    def _timers(self) -> TimerService:
        timers = getattr(self._operator, "timers", None)
        if not isinstance(timers, TimerService):
            raise ZmflowError(
                f"The operator {type(self._operator).__name__} has no timers that can be listed.",
                hint="Functions of keyed streams have them, in STREAMING mode.",
            )
        return timers

    def next_processing_time_ms(self) -> int | None:
        """When the operator next has something to do by the clock."""
        return self._operator.next_processing_time_ms()
