"""``JobHarness``: a whole job in a test, in one thread, without a cluster and in virtual time.

The program is the one that runs on a cluster: its JobGraph, its chains, pickled and compiled, its keys spread
over subtasks. Only sources, sinks and the clock are the test's: records are pushed into sources; what sinks
would have written is read. Nothing happens by itself, so a test has the same outcome each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from zmflow.api.accumulators import merge_accumulators
from zmflow.api.datastream import DataStream
from zmflow.api.environment import StreamExecutionEnvironment, environment_context
from zmflow.api.execution import JobClient, JobExecutionResult, RowsKeeper
from zmflow.config import Settings
from zmflow.config.options import OPERATOR_CHAINING, PARALLELISM_DEFAULT, RUNTIME_MODE
from zmflow.errors import ZmflowError
from zmflow.execution.batches import Batch, TimedRows
from zmflow.execution.stream_operator import StreamOperator
from zmflow.execution.time_events import StreamStatus, TimeEvent, Watermark
from zmflow.execution.timers import Timer, TimerService
from zmflow.graph.job_graph import JobGraph, JobVertex
from zmflow.protocol.messages import JobState
from zmflow.state.backend import KeyedStateBackend
from zmflow.state.keys import key_group, owner_of_group
from zmflow.testing.coroutines import InlineHost
from zmflow.testing.job_sources import read_in_turn
from zmflow.testing.job_tasks import JobTask
from zmflow.testing.job_wiring import JobWiring, name_of

__all__ = ["JobHarness"]


class JobHarness:
    """Drives one job.

    Sources, sinks and operators are called by the names they have in the program; where names are alike, give
    them others with ``name()``. Coroutines of ``AsyncDataStream`` run to their end as soon as they begin.

    Args:
        program: builds the job with the environment it is given. It may call ``execute``; or it returns the
            stream whose records the test wants to read.
        parallelism: of operators that set none.
        batch_mode: run as a BATCH job does.
        chaining: False lets each operator be a task of its own.
        processing_time_ms: what the clock shows first.
        job_parameters: what ``RuntimeContext.get_job_parameter`` finds.
        settings: further settings of the job.

    >>> def program(env):
    ...     words = env.from_collection([]).name("words")
    ...     return words.map(str.lower).key_by(lambda word: word).map(lambda word: (word, 1))
    >>> with JobHarness(program, parallelism=2) as job:
    ...     job.push("words", "To")
    ...     job.push("words", "be")
    ...     sorted(job.values())
    [('be', 1), ('to', 1)]
    """

    def __init__(
        self,
        program: Callable[[StreamExecutionEnvironment], DataStream[Any] | None],
        *,
        parallelism: int = 1,
        batch_mode: bool = False,
        chaining: bool = True,
        processing_time_ms: int = 0,
        job_parameters: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        texts = {
            PARALLELISM_DEFAULT.key: str(parallelism),
            RUNTIME_MODE.key: "BATCH" if batch_mode else "STREAMING",
            OPERATOR_CHAINING.key: "true" if chaining else "false",
            **(settings or {}),
        }
        self._graph = _job_graph(program, texts)
        self._now_ms = processing_time_ms
        self._closed = False
        self._hosts: list[InlineHost] = []
        self._written: dict[str, list[Any]] = {
            name_of(operator): []
            for vertex in self._graph.vertices
            for operator in vertex.chain
            if operator.kind == "sink"
        }
        self._wiring = JobWiring(self._graph, self._written, job_parameters or {})
        try:
            self._wiring.open(lambda: self._now_ms, self._host_for)
            self._settle()
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

    def push(self, source: str, value: Any, timestamp: int | None = None, *, subtask: int = 0) -> None:
        """A record of a source, read by this subtask."""
        self.push_batch(source, [value], None if timestamp is None else [timestamp], subtask=subtask)

    def push_batch(
        self,
        source: str,
        values: Sequence[Any],
        timestamps: Sequence[int] | None = None,
        *,
        subtask: int = 0,
    ) -> None:
        """Records of a source that are read together."""
        batch: Batch = values if timestamps is None else TimedRows(values, timestamps)
        if values:
            self._live(source)[subtask].chain.process(batch)
        self._settle()

    def read(self, source: str) -> None:
        """Let a source read what it reads in the job, to the end; then its input has ended."""
        tasks = self._live(source)
        operator = tasks[0].chain.source
        assert operator is not None
        for subtask, rows in read_in_turn(operator.source, [task.chain.context_of(0) for task in tasks]):
            self.push_batch(source, rows, subtask=subtask)
        self.end_input(source)

    def watermark(self, source: str, watermark_ms: int, subtask: int | None = None) -> None:
        """The event time of a source has reached this, in one of its subtasks or in all.

        Where the program gives the source a ``WatermarkStrategy``, watermarks come from that.
        """
        self._event(source, Watermark(watermark_ms), subtask)

    def idle(self, source: str, subtask: int | None = None, *, idle: bool = True) -> None:
        """A source has nothing to say for a while, or does again: it does not hold event time back."""
        self._event(source, StreamStatus(idle), subtask)

    def processing_time(self, now_ms: int) -> None:
        """Let the clock go on to this. Each timer on the way fires when the clock shows its time.

        Raises:
            ValueError: that would be going back.
        """
        if now_ms < self._now_ms:
            raise ValueError(f"The clock shows {self._now_ms} and does not go back to {now_ms}.")
        while (due_ms := self.next_processing_time_ms()) is not None and due_ms <= now_ms:
            self._now_ms = max(due_ms, self._now_ms)
            self._settle()
        self._now_ms = now_ms

    def end_input(self, source: str | None = None) -> None:
        """The input of a source ends, or of all: event time is at its end, what was kept is handed out."""
        for name in [source] if source is not None else self.sources:
            for task in self._tasks_of(name, "source"):
                if not task.ended:
                    task.end_source()
                    self._settle()

    def close(self) -> None:
        """Close all functions, once."""
        if self._closed:
            return
        self._closed = True
        first: BaseException | None = None
        for task in self._every():
            try:
                task.close()
            except Exception as error:  # noqa: BLE001 - the others must be closed too
                first = first or error
        if first is not None:
            raise first

    # -- out ----------------------------------------------------------------------------------------

    def values(self, sink: str | None = None) -> list[Any]:
        """What a sink would have written, in order; without a name, of the job's only sink.

        Raises:
            ZmflowError: there is no such sink, or there are several.
        """
        return list(self._written[self._sink(sink)])

    def clear(self, sink: str | None = None) -> None:
        """Forget what a sink was given so far."""
        self._written[self._sink(sink)].clear()

    def accumulators(self) -> dict[str, Any]:
        """What the accumulators of all subtasks have come to, by name."""
        merged = merge_accumulators([task.context.accumulators for task in self._every()])
        return {name: accumulator.get_local_value() for name, accumulator in merged.items()}

    @property
    def sources(self) -> list[str]:
        """The names of the sources."""
        return self._names("source")

    @property
    def sinks(self) -> list[str]:
        """The names of the sinks."""
        return self._names("sink")

    # -- inside -------------------------------------------------------------------------------------

    def state(self, operator: str, descriptor: Any, key: Any, namespace: Any = None) -> Any:
        """The state of a key in an operator: a ``ValueState``, ``ListState``... as the descriptor says.

        It can be changed. Windows keep the state of their contents under the window as ``namespace``.

        Raises:
            ZmflowError: the operator has no keyed state.
        """
        context = self._tasks_of(operator, "operator")[0].context
        group = key_group(key, context.max_parallelism)
        subtask = owner_of_group(group, context.max_parallelism, context.parallelism)
        backend = getattr(self._operators(operator)[subtask], "keyed_state", None)
        if not isinstance(backend, KeyedStateBackend):
            raise ZmflowError(f"The operator {operator!r} has no keyed state.")
        backend.set_current_key(key)
        return backend.get_state(descriptor, namespace)

    def event_time_timers(self, operator: str) -> list[Timer]:
        """The event-time timers of an operator that are set in all of its subtasks, by time."""
        return _by_time(timers.event_time_timers() for timers in self._timers(operator))

    def processing_time_timers(self, operator: str) -> list[Timer]:
        """The timers of the clock that are set, likewise."""
        return _by_time(timers.processing_time_timers() for timers in self._timers(operator))

    def next_processing_time_ms(self) -> int | None:
        """When the clock next has something to do in the job."""
        instants = (task.chain.next_processing_time_ms() for task in self._every() if not task.ended)
        return min((instant for instant in instants if instant is not None), default=None)

    # -- running ------------------------------------------------------------------------------------

    def _event(self, source: str, event: TimeEvent, subtask: int | None) -> None:
        tasks = self._live(source)
        for task in tasks if subtask is None else [tasks[subtask]]:
            task.chain.event(event)
            self._settle()

    def _settle(self) -> None:
        """Let everything happen that can happen without another record or a later hour."""
        while self._deliver() or self._fire_due() or self._wake():
            pass

    def _deliver(self) -> bool:
        for task in self._every():
            task.flush()
        deliveries = self._wiring.deliveries
        delivered = bool(deliveries)
        while deliveries:
            task, gate, index, item = deliveries.popleft()
            task.take(gate, index, item)
            task.flush()
        return delivered

    def _wake(self) -> bool:
        return any([host.notify() for host in self._hosts])  # noqa: C419 - each of them, not the first

    def _fire_due(self) -> bool:
        fired = False
        for task in self._every():
            due_ms = None if task.ended else task.chain.next_processing_time_ms()
            if due_ms is not None and due_ms <= self._now_ms:
                task.chain.advance_processing_time(self._now_ms)
                fired = True
        return fired

    def _host_for(self, woken: Callable[[], None]) -> InlineHost:
        self._hosts.append(InlineHost(woken))
        return self._hosts[-1]

    # -- finding ------------------------------------------------------------------------------------

    def _every(self) -> Iterator[JobTask]:
        for tasks in self._wiring.tasks.values():
            yield from tasks

    def _names(self, kind: str) -> list[str]:
        return [
            name_of(each) for vertex in self._graph.vertices for each in vertex.chain if each.kind == kind
        ]

    def _sink(self, name: str | None) -> str:
        sinks = self.sinks
        if name is None and len(sinks) == 1:
            return sinks[0]
        if name is None:
            raise ZmflowError(
                f"The job has {len(sinks)} sinks.", detail=_listed(sinks), hint="Say whose values you want."
            )
        self._find(name, "sink")
        return name

    def _find(self, name: str, kind: str) -> tuple[JobVertex, int]:
        found = [
            (vertex, index)
            for vertex in self._graph.vertices
            for index, each in enumerate(vertex.chain)
            if each.kind == kind and name_of(each) == name
        ]
        if len(found) == 1:
            return found[0]
        count = "no" if not found else str(len(found))
        raise ZmflowError(
            f"The job has {count} {kind}{'s' if found else ''} called {name!r}.",
            detail=_listed(self._names(kind)),
            hint="Call name() in the program to give each its own.",
        )

    def _tasks_of(self, name: str, kind: str) -> list[JobTask]:
        return self._wiring.tasks[self._find(name, kind)[0].vertex_id]

    def _live(self, source: str) -> list[JobTask]:
        tasks = self._tasks_of(source, "source")
        if any(task.ended for task in tasks):
            raise ZmflowError(f"The input of the source {source!r} has ended.")
        return tasks

    def _operators(self, name: str) -> list[StreamOperator]:
        vertex, index = self._find(name, "operator")
        tasks = self._wiring.tasks[vertex.vertex_id]
        found = [
            operator for task in tasks for node, operator in task.chain.operators.items() if node == index
        ]
        if not found:
            raise ZmflowError(
                f"The operator {name!r} has no state and no timers.",
                hint="It is compiled into its chain, with what it may keep.",
            )
        return found

    def _timers(self, name: str) -> list[TimerService]:
        timers = [getattr(operator, "timers", None) for operator in self._operators(name)]
        found = [each for each in timers if isinstance(each, TimerService)]
        if not found:
            raise ZmflowError(
                f"The operator {name!r} has no timers that can be listed.",
                hint="Functions of keyed streams have them, in STREAMING mode.",
            )
        return found


def _by_time(parts: Iterator[list[Timer]]) -> list[Timer]:
    return sorted((timer for part in parts for timer in part), key=lambda timer: timer[0])


def _listed(names: Sequence[str]) -> str:
    return f"There are: {', '.join(map(repr, names)) or 'none'}."


class _Submission:
    """Keeps the job of a program; an implementation of ``Executor`` and of the client it hands out."""

    def __init__(self) -> None:
        self.graphs: list[JobGraph] = []

    def submit(self, graph: JobGraph, settings: Settings, *, collect: bool) -> JobClient:  # noqa: ARG002
        self.graphs.append(graph)
        return self

    def get_job_id(self) -> str:
        return "0" * 32

    def get_job_status(self) -> JobState:
        return "RUNNING"

    def get_accumulators(self) -> dict[str, Any]:
        return {}

    def cancel(self) -> None:
        """The test says what happens."""

    def trigger_savepoint(self, savepoint_directory: str | None = None) -> str:  # noqa: ARG002
        raise ZmflowError("A program in a JobHarness takes no savepoints of its job.")

    def stop_with_savepoint(
        self,
        advance_to_end_of_event_time: bool,  # noqa: ARG002
        savepoint_directory: str | None = None,  # noqa: ARG002
    ) -> str:
        raise ZmflowError("A program in a JobHarness takes no savepoints of its job.")

    def get_job_execution_result(self) -> JobExecutionResult:
        return JobExecutionResult("0" * 32, 0)

    def collected(self) -> Iterator[Any]:
        raise ZmflowError(
            "A program in a JobHarness does not see what its job emits.",
            hint="Return the stream instead of calling execute_and_collect(), and read values().",
        )

    def keep(self, keepers: Mapping[str, RowsKeeper], *, background: bool) -> None:
        """There is no other job to keep rows for."""

    def close(self) -> None:
        """Nothing is open."""


def _job_graph(
    program: Callable[[StreamExecutionEnvironment], DataStream[Any] | None], texts: Mapping[str, str]
) -> JobGraph:
    submission = _Submission()
    with environment_context(Settings().with_values(texts, "the harness"), submission):
        environment = StreamExecutionEnvironment.get_execution_environment()
        stream = program(environment)
        if isinstance(stream, DataStream):
            environment._execute_collecting(stream, None)
        elif not submission.graphs:
            environment.execute()
    if len(submission.graphs) != 1:
        raise ZmflowError(
            f"The program has {len(submission.graphs)} jobs.",
            hint="A JobHarness takes one: split the program.",
        )
    return submission.graphs[0]
