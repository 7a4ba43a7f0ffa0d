"""A chain ready to run: its operators opened, its code compiled, its outputs attached.

A chain is a tree of segments. Rows enter at the head; each segment's rows go to what follows it: further
segments, sink writers and result writers, one batch after the other. The task calls ``open``, then
``process`` for each batch, ``finish`` at the end of the input and ``close`` in any case.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from zmflow.api.functions import Function, RuntimeContext, plain_callable
from zmflow.api.metric_group import operator_scopes
from zmflow.api.operators import (
    FilterOperator,
    FlatMapOperator,
    KeyedAggregateOperator,
    KeyedReduceOperator,
    MapOperator,
    ProjectOperator,
    SinkFunctionOperator,
    SinkOperator,
    SourceOperator,
)
from zmflow.api.output_tag import DEAD_LETTERS
from zmflow.api.sinks import Sink, WriterContext
from zmflow.errors import ProtocolError
from zmflow.execution.aggregates import AdaptingCombine
from zmflow.execution.async_calls import AsyncHost
from zmflow.execution.batches import Batch, TimedRows
from zmflow.execution.chain_code import SegmentCode, Step, compile_segment
from zmflow.execution.chain_state import ChainState
from zmflow.execution.declared_types import coercer_of, fit_of, projection
from zmflow.execution.fitting import Fitting, Reject, fitted
from zmflow.execution.function_sink import FunctionSink
from zmflow.execution.metric_names import RECORDS_REJECTED
from zmflow.execution.operator_factory import is_stream_operator, stream_operator
from zmflow.execution.operator_snapshots import RestoredOperator
from zmflow.execution.sink_commits import SinkCommits
from zmflow.execution.spilling import Spill
from zmflow.execution.stages import BatchConsumer, EventConsumer, OperatorStage, Segment, Stage
from zmflow.execution.stream_operator import ChainPart, OperatorContext, StreamOperator
from zmflow.execution.time_events import TimeEvent
from zmflow.graph.job_graph import ChainNode, ChainSpec

if TYPE_CHECKING:
    from zmflow.state.backend import KeyedStateBackend

__all__ = ["Chain"]


class Chain:
    """The operators of one vertex, for one subtask.

    Args:
        spec: the chain, as unpickled from the job graph.
        context: where it runs; each function gets it with its operator's name.
        outputs: for each ``spec.outputs``, what takes the batches.
        emit_to_client, commit_at_client: see ``zmflow.api.sinks.WriterContext``.
        output_events: for each ``spec.outputs``, what takes the time events.
        processing_time: the clock, milliseconds since 1970.
        host_for: makes what an operator that waits for others has beside the chain; given what to call when
            it is woken.
        batch_mode: whether the job runs in BATCH mode.
        state_backend: the kind of the operators' keyed state backends; in BATCH mode it is on the heap, as
            there is one key at a time.
        state_dir: where they may keep files; need not exist.
        checkpoints: whether checkpoints are taken, so that sinks commit with them.
        restored: what an operator goes on from, by its id; None where it begins anew.
        make_spill: makes what an operator writes to that holds more than memory.
    """

    def __init__(
        self,
        spec: ChainSpec,
        context: RuntimeContext,
        outputs: Sequence[BatchConsumer],
        emit_to_client: Callable[[str, Sequence[Any], bool, bool], int],
        *,
        output_events: Sequence[EventConsumer] = (),
        processing_time: Callable[[], int] = lambda: 0,
        host_for: Callable[[Callable[[], None]], AsyncHost] | None = None,
        batch_mode: bool = False,
        state_backend: str = "hashmap",
        state_dir: str = "",
        checkpoints: bool = False,
        commit_at_client: Callable[[str, int, int, int], None] = lambda *_: None,
        restored: Callable[[str], RestoredOperator | None] = lambda _operator_id: None,
        make_spill: Callable[[], Spill] | None = None,
    ) -> None:
        self._spec = spec
        self._context = context
        self._outputs = outputs
        self._emit_to_client = emit_to_client
        self._commit_at_client = commit_at_client
        self._output_events = output_events
        self._processing_time = processing_time
        self._host_for = host_for
        self._batch_mode = batch_mode
        self._state_backend = state_backend
        self._state_dir = state_dir
        self._checkpoints = checkpoints
        self._state = ChainState(spec, context, restored)
        self._make_spill = make_spill
        self._opened: list[tuple[int, Function | StreamOperator | KeyedStateBackend]] = []
        self._operators: list[tuple[int, StreamOperator]] = []
        self._sinks: list[tuple[int, SinkCommits]] = []
        self._codes: dict[str, SegmentCode] = {}
        self._metric_scopes = operator_scopes([node.name for node in spec.nodes])
        self._current: int | None = None  # the node whose hook runs, when no generated code does
        self._head: Stage | None = None

    @property
    def source(self) -> SourceOperator | None:
        """The source at the head, if the chain has one."""
        head = self._spec.nodes[0].operator
        return head if isinstance(head, SourceOperator) else None

    @property
    def process(self) -> BatchConsumer:
        """Takes a batch of the chain's input, or of its source; valid after ``open``."""
        assert self._head is not None
        return self._head.take

    @property
    def process_second(self) -> BatchConsumer:
        """Takes a batch of the second input of the chain's head; valid after ``open``."""
        assert self._head is not None
        return self._head.take_second

    def event(self, event: TimeEvent) -> None:
        """Event time has moved on, or the status of the input has changed."""
        assert self._head is not None
        self._head.event(event)

    def _parts(self) -> Iterator[tuple[int, ChainPart]]:
        yield from self._operators
        yield from self._sinks

    @property
    def operators(self) -> dict[int, StreamOperator]:
        """The operators that are not compiled, by node; valid after ``open``."""
        return dict(self._operators)

    def attend(self, node: int, operator: StreamOperator) -> None:
        """Let something that belongs to a node, and is no stage of the chain, have timers as the node has."""
        self._operators.append((node, operator))

    def next_processing_time_ms(self) -> int | None:
        """When ``advance_processing_time`` has something to do."""
        instants = [part.next_processing_time_ms() for _, part in self._parts()]
        return min((instant for instant in instants if instant is not None), default=None)

    def advance_processing_time(self, now_ms: int) -> None:
        """The clock shows this: let timers fire, and whoever makes watermarks make one."""
        for index, part in self._parts():
            due_ms = part.next_processing_time_ms()
            if due_ms is not None and due_ms <= now_ms:
                self._current = index
                part.advance_processing_time(now_ms)
                self._current = None

    def open(self) -> None:
        """Open every function in chain order, create the sink writers, compile."""
        children: list[list[int]] = [[] for _ in self._spec.nodes]
        for index, node in enumerate(self._spec.nodes):
            if node.input >= 0:
                children[node.input].append(index)
        self._head = self._stage(0, children)
        for index, part in self._parts():
            self._current = index
            part.begin()
        self._current = None

    @property
    def state(self) -> ChainState:
        """What the chain puts into checkpoints."""
        return self._state

    def finish(self) -> None:
        """The input has ended: hand out what was kept and flush the sinks."""
        assert self._head is not None
        self._head.finish()
        for node, sink in self._sinks:
            self._current = node
            sink.finish()
        self._current = None

    # -- checkpoints --------------------------------------------------------------------------------

    def prepare_checkpoint(self, checkpoint_id: int) -> None:
        """A barrier is here: the sinks let go of what was written before it."""
        for node, sink in self._sinks:
            self._current = node
            sink.prepare(checkpoint_id)
        self._current = None

    def checkpoint_completed(self, checkpoint_id: int) -> None:
        """Commit, and tell the functions that want to know."""
        for node, sink in self._sinks:
            self._current = node
            sink.completed(checkpoint_id)
        self._current = None
        self._state.completed(checkpoint_id)

    @property
    def awaits_checkpoint(self) -> bool:
        """Whether the end of the input must be part of a checkpoint before the chain can be closed."""
        return self.uncommitted or self._state.has_listeners

    @property
    def uncommitted(self) -> bool:
        """Whether sinks have prepared what is not committed."""
        return any(sink.awaits_checkpoint for _, sink in self._sinks)

    def close(self, completed: bool) -> None:
        """Close the sink writers, then the functions. Every one is closed; the first error is raised."""
        first: BaseException | None = None
        failed_in = self._current  # the operator an error that led here is put down to
        while self._sinks or self._opened:
            try:
                if self._sinks:
                    self._current, sink = self._sinks.pop(0)
                    sink.close(completed)
                else:
                    self._current, function = self._opened.pop()
                    function.close()
            except Exception as error:  # noqa: BLE001 - the others must be closed too
                if first is None:
                    first = error
                    failed_in = failed_in if failed_in is not None else self._current
                completed = False
        self._current = failed_in
        if first is not None:
            raise first

    def operator_of(self, traceback: TracebackType | None) -> str:
        """The name of the operator that was running when an exception left the chain."""
        found = self._current
        while traceback is not None:
            code = self._codes.get(traceback.tb_frame.f_code.co_filename)
            if code is not None:
                found = code.node_of_line.get(traceback.tb_lineno, found)
            traceback = traceback.tb_next
        return self._spec.nodes[found].name if found is not None else ""

    @contextmanager
    def running(self, node: int) -> Iterator[None]:
        """Put errors in this block down to an operator whose code the task runs itself: a source."""
        before, self._current = self._current, node
        yield
        self._current = before

    # -- building ----------------------------------------------------------------------------------

    def _stage(self, begin: int, children: list[list[int]]) -> Stage:
        """The stage that begins with a node, and everything after it."""
        nodes = self._spec.nodes
        if is_stream_operator(nodes[begin].operator):
            return self._operator_stage(begin, stream_operator(nodes[begin].operator), children)
        steps: list[Step] = []
        final: dict[Any, Any] | None = None
        last = begin
        while True:
            if not isinstance(nodes[last].operator, (SourceOperator, SinkOperator, SinkFunctionOperator)):
                step, keeps = self._step(last, nodes[last])
                if step.kind == "reduce" and not keeps:
                    self._state.keep_values(last, step.state)
                step = replace(step, reject=self._policy(last))
                fit = fit_of(nodes[last])
                inside = step.kind == "reduce" or (step.reject is not None and step.kind != "filter")
                if fit is not None and inside:
                    step = replace(step, call=fitted(step.kind, step.call, fit), adapts=False)
                steps.append(step)
                if keeps:
                    final = step.state
                    break
                if fit is not None and not inside:
                    steps.append(Step(last, "map", fit, reject=step.reject))
            elif (fit := fit_of(nodes[last])) is not None:
                steps.append(Step(last, "map", fit, reject=self._policy(last)))
            follower = children[last]
            if len(follower) != 1 or self._fed_by(last) or not self._is_compiled(follower[0]):
                break
            last = follower[0]
        ends_in_state = final is not None
        segment = Segment(
            self._compile(begin, steps, ends_in_state, timed=False) if steps else None,
            lambda: self._compile(begin, steps, ends_in_state, timed=True),
            final,
        )
        self._attach(segment, last, children)
        return segment

    def _policy(self, index: int) -> Reject | None:
        """What becomes of a row for which the function of a node raised; None: the job fails."""
        node = self._spec.nodes[index]
        if node.on_error == "fail":
            return None
        rejected = self.context_of(index).metric_group.counter(RECORDS_REJECTED)
        letters = [
            self._attributed(index, self._outputs[output])
            for output in self._fed_by(index)
            if self._spec.outputs[output].tag == DEAD_LETTERS.tag_id
        ]

        def reject(row: Any, error: Exception, timestamp_ms: int | None) -> None:
            rejected.inc()
            if node.on_error == "dead_letter":
                letter = [(row, f"{type(error).__name__}: {error}")]
                for consumer in letters:
                    consumer(letter if timestamp_ms is None else TimedRows(letter, [timestamp_ms]))

        return reject

    def _operator_stage(self, index: int, operator: StreamOperator, children: list[list[int]]) -> Stage:
        fit, reject = fit_of(self._spec.nodes[index]), self._policy(index)
        stage = OperatorStage(operator, None if fit is None else Fitting(fit, reject))
        stage.take = self._attributed(index, stage.take)  # type: ignore[method-assign, assignment]
        stage.take_second = self._attributed(index, stage.take_second)  # type: ignore[method-assign, assignment]
        self._attach(stage, index, children)
        for output in self._fed_by(index):
            tag = self._spec.outputs[output].tag
            if tag:
                consumer = self._attributed(index, self._outputs[output])
                fit = coercer_of(self._spec.outputs[output].output_type)
                if fit is not None and tag != DEAD_LETTERS.tag_id:  # a letter that does not fit has no letter
                    consumer = Fitting(fit, reject).before(consumer)
                stage.side_consumers.setdefault(tag, []).append(consumer)
        self._current = index
        position = len(self._opened)

        def make_keyed_state(runtime: RuntimeContext) -> KeyedStateBackend:
            from zmflow.execution.keyed_runtime import BUILT_IN, backend_for  # only for those who keep state

            name = BUILT_IN if self._batch_mode else self._state_backend
            backend = backend_for(name, runtime, self._processing_time, self._state_dir)
            self._opened.insert(position, (index, backend))  # closed after the operator
            self._state.keep_backend(index, backend)
            return backend

        self._opened.append((index, operator))
        self._operators.append((index, operator))
        self._state.keep_operator(index, operator)
        if operator.needs_host and self._host_for is not None:
            operator.attach(self._host_for(self._woken(index, operator)))
        operator.open(
            OperatorContext(
                self.context_of(index),
                stage,
                self._processing_time,
                self._batch_mode,
                self._spec.nodes[index].on_error,
                make_keyed_state,
                self._state.restored(index),
                self._make_spill,
            )
        )
        self._current = None
        return stage

    def _woken(self, index: int, operator: StreamOperator) -> Callable[[], None]:
        """Lets an operator act on what it was woken for, with its errors put down to it."""

        def woken() -> None:
            before, self._current = self._current, index
            operator.woken()
            self._current = before

        return woken

    def _attach(self, stage: Stage, node: int, children: list[list[int]]) -> None:
        if self._is_sink(node):
            stage.consumers.append(self._sink(node))
        for output in self._fed_by(node):
            if not self._spec.outputs[output].tag:
                stage.consumers.append(self._attributed(node, self._outputs[output]))
            if self._output_events:
                stage.events.append(self._output_events[output])
        for child in children[node]:
            if self._is_sink(child):
                stage.consumers.append(self._sink(child))
            else:
                following = self._stage(child, children)
                stage.consumers.append(following.take)
                stage.following.append(following)

    def _is_compiled(self, node: int) -> bool:
        return not self._is_sink(node) and not is_stream_operator(self._spec.nodes[node].operator)

    def _is_sink(self, node: int) -> bool:
        return isinstance(self._spec.nodes[node].operator, (SinkOperator, SinkFunctionOperator))

    def _fed_by(self, node: int) -> list[int]:
        return [i for i, output in enumerate(self._spec.outputs) if output.node == node]

    def _compile(self, begin: int, steps: list[Step], ends_in_state: bool, *, timed: bool) -> SegmentCode:
        names = " -> ".join(self._spec.nodes[step.node].name for step in steps)
        code = compile_segment(f"{names} #{begin}", steps, ends_in_state=ends_in_state, timed=timed)
        self._codes[code.filename] = code
        # So that tracebacks can show the line; same mechanism as doctest and IPython.
        linecache.cache[code.filename] = (
            len(code.source),
            None,
            code.source.splitlines(keepends=True),
            code.filename,
        )
        return code

    def _step(self, index: int, node: ChainNode) -> tuple[Step, bool]:
        """The step of an operator, and whether it is a final-only aggregate."""
        operator = node.operator
        match operator:
            case MapOperator(function):
                return Step(index, "map", self._open(index, function)), False
            case FlatMapOperator(function):
                return Step(index, "flat_map", self._open(index, function)), False
            case FilterOperator(function):
                return Step(index, "filter", self._open(index, function)), False
            case ProjectOperator(fields):
                return Step(index, "map", projection(fields)), False
            case KeyedReduceOperator(key_selector, function, final_only):
                key = self._open(index, key_selector)
                return Step(index, "reduce", self._open(index, function), key), final_only
            case KeyedAggregateOperator(key_selector, kind, of, final_only, precombined):
                key_of = None if precombined else self._open(index, key_selector)
                combine = AdaptingCombine(kind, of)
                return Step(index, "reduce", combine, key_of, adapts=True), final_only
        raise ProtocolError(
            f"The chain holds an operator this worker does not know: {type(operator).__name__}."
        )

    def _open(self, index: int, function: Any) -> Callable[..., Any]:
        self._current = index
        context = self.context_of(index)
        self._state.functions(index).initialize(function, None)
        if isinstance(function, Function):
            self._opened.append((index, function))
            function.open(context)
        self._current = None
        return plain_callable(function)

    def _sink(self, index: int) -> BatchConsumer:
        operator = self._spec.nodes[index].operator
        context = self.context_of(index)
        self._current = index
        functions = self._state.functions(index)
        if isinstance(operator, SinkOperator):
            sink: Sink[Any] = operator.sink
        else:
            assert isinstance(operator, SinkFunctionOperator)
            functions.initialize(operator.function, None)
            if isinstance(operator.function, Function):
                self._opened.append((index, operator.function))
                operator.function.open(context)
            sink = FunctionSink(operator.function)
        commits = SinkCommits(
            sink,
            WriterContext(
                context,
                self._emit_to_client,
                self._checkpoints,
                self._processing_time,
                self._commit_at_client,
            ),
            functions,
            checkpoints=self._checkpoints,
            processing_time=self._processing_time,
        )
        self._current = None
        self._sinks.append((index, commits))
        self._state.add_part(index, commits.snapshot_state)
        write = commits.writer.write_batch
        return self._attributed(
            index, lambda batch: write(batch.rows if isinstance(batch, TimedRows) else batch)
        )

    def _attributed(self, node: int, consume: BatchConsumer) -> BatchConsumer:
        """The consumer, with errors it raises put down to this node (a key selector's, a sink's)."""

        def take(batch: Batch) -> None:
            before, self._current = self._current, node
            consume(batch)
            self._current = before

        return take

    def context_of(self, index: int) -> RuntimeContext:
        """The context of one operator of the chain."""
        return replace(
            self._context,
            operator_name=self._spec.nodes[index].name,
            function_states=self._state.functions(index),
            metric_group=self._context.metric_group.of_operator(self._metric_scopes[index]),
        )
