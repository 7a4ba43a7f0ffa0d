"""``StreamExecutionEnvironment``: where a program begins, and where its jobs are run."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, cast

from zmflow.api.collect import CollectSink
from zmflow.api.configuration import Configuration
from zmflow.api.datastream import DataStream
from zmflow.api.environment_settings import EnvironmentSettings
from zmflow.api.environment_sources import EnvironmentSources
from zmflow.api.execution import Executor, JobClient, JobExecutionResult
from zmflow.api.job_listener import JobListener
from zmflow.api.notices import notice_once
from zmflow.api.operator_properties import checked_parallelism
from zmflow.api.operators import (
    KeyedAggregateOperator,
    KeyedReduceOperator,
    SinkOperator,
    SourceOperator,
)
from zmflow.api.precombined_aggregates import combine_before_exchanges
from zmflow.api.serialization import chain_serializer
from zmflow.api.shipping import import_path_of, listed_py_files, read_job_files
from zmflow.api.slot_sharing_group import SlotSharingGroup
from zmflow.api.sources import Source
from zmflow.api.stream_cache import CacheFill, StreamCaches
from zmflow.api.types import TypeInformation
from zmflow.api.watermark_strategy import WatermarksOperator, WatermarkStrategy
from zmflow.config import Settings, load_settings
from zmflow.config.checkpoint_options import CHECKPOINT_INTERVAL
from zmflow.config.options import (
    AUTO_WATERMARK_INTERVAL,
    BUFFER_TIMEOUT,
    EXECUTION_TARGET,
    JOB_NAME,
    JOBMANAGER_ADDRESS,
    MAX_PARALLELISM,
    OPERATOR_CHAINING,
    PARALLELISM_DEFAULT,
    PYTHON_FILES,
    RUNTIME_MODE,
    STATE_BACKEND,
)
from zmflow.errors import JobGraphError
from zmflow.graph.alignment import unaligned_nodes
from zmflow.graph.job_graph import JobGraph
from zmflow.graph.job_graph_generator import JobProperties, generate_job_graph
from zmflow.graph.managed_memory import using_state_backends
from zmflow.graph.plan import execution_plan
from zmflow.graph.sharing import check_one_specification
from zmflow.graph.stream_graph import GraphDefaults, StreamGraph, build_stream_graph
from zmflow.graph.transformations import (
    Cached,
    Node,
    OperatorKind,
    Partitioned,
    SideOutput,
    Transformation,
)
from zmflow.plugins import load_plugin
from zmflow.protocol.resources import ResourceProfile

__all__ = ["RuntimeExecutionMode", "StreamExecutionEnvironment", "environment_context"]

T = TypeVar("T")

_PROGRAM = "the program"


class RuntimeExecutionMode(Enum):
    """STREAMING emits every update of a keyed aggregate, BATCH the last one of each key.

    BATCH needs sources that end; AUTOMATIC is BATCH where all do, and STREAMING otherwise.
    """

    STREAMING = "STREAMING"
    BATCH = "BATCH"
    AUTOMATIC = "AUTOMATIC"


@dataclass(frozen=True, slots=True)
class _Context:
    settings: Settings | None = None
    executor: Executor | None = None


_context: ContextVar[_Context | None] = ContextVar("zmflow environment context", default=None)


@contextmanager
def environment_context(settings: Settings | None = None, executor: Executor | None = None) -> Iterator[None]:
    """Inside, new environments begin with these settings and submit to this executor.

    This is how ``zmflow run`` and ``zmflow explain`` reach the program they run: its own
    ``get_execution_environment()`` finds them. What the program sets still wins over ``settings``. The
    program can import what the setting ``python.files`` names, as the workers will.
    """
    listed = listed_py_files(settings[PYTHON_FILES]) if settings is not None else []
    added = [entry for entry in import_path_of(listed) if entry not in sys.path]
    sys.path[1:1] = added  # the first place is the script's own directory
    token = _context.set(_Context(settings, executor))
    try:
        yield
    finally:
        _context.reset(token)
        for entry in added:
            with suppress(ValueError):  # the program may have removed it
                sys.path.remove(entry)


class StreamExecutionEnvironment(EnvironmentSettings, EnvironmentSources):
    """Makes streams, and runs what they describe. Made with ``get_execution_environment``.

    Several jobs can be run in turn: each ``execute`` runs the operators added since the last one.
    """

    def __init__(self, settings: Settings, executor: Executor | None = None) -> None:
        self._settings = settings
        self._executor = executor
        self._py_files: list[Path] = []
        self._cached_files = {}
        self._caches = StreamCaches()
        self._recorded: list[Transformation] = []
        self._sharing_resources: dict[str, ResourceProfile] = {}
        self._last_number = 0
        self._job_listeners: list[JobListener] = []
        self._kept = {}

    @staticmethod
    def get_execution_environment(configuration: Configuration | None = None) -> StreamExecutionEnvironment:
        """A new environment with the settings of this process and, above them, ``configuration``.

        Raises:
            ConfigurationError: the settings file or environment has an unknown key or a wrong value.
        """
        context = _context.get() or _Context()
        settings = load_settings() if context.settings is None else context.settings
        environment = StreamExecutionEnvironment(settings, context.executor)
        if configuration is not None:
            environment.configure(configuration)
        return environment

    # -- settings -------------------------------------------------------------------------------

    def configure(self, configuration: Configuration) -> None:
        """Set everything the configuration sets. Operators added before keep their parallelism."""
        self._settings = self._settings.with_values(configuration.to_dict(), _PROGRAM)

    def set_parallelism(self, parallelism: int) -> StreamExecutionEnvironment:
        """Parallelism of operators added from now on that set none themselves."""
        checked_parallelism(parallelism, "The parallelism of the environment")
        return self._set(PARALLELISM_DEFAULT.key, str(parallelism))

    def get_parallelism(self) -> int:
        """What ``parallelism.default`` is here; 0 stands for the CPU cores, or 1 on a remote cluster."""
        return self._settings[PARALLELISM_DEFAULT] or (
            1 if self._target() == "remote" else len(os.sched_getaffinity(0))
        )

    def set_max_parallelism(self, max_parallelism: int) -> StreamExecutionEnvironment:
        """Number of key groups of operators that set none themselves."""
        checked_parallelism(max_parallelism, "The max parallelism of the environment")
        return self._set(MAX_PARALLELISM.key, str(max_parallelism))

    def get_max_parallelism(self) -> int:
        """The number set, or 0: it is derived from the parallelism."""
        return self._settings[MAX_PARALLELISM]

    def set_buffer_timeout(self, timeout_millis: int) -> StreamExecutionEnvironment:
        """Longest time in milliseconds a record waits in a frame; 0 none, -1 until the frame is full."""
        unit = "" if timeout_millis == -1 else " ms"
        return self._set(BUFFER_TIMEOUT.key, f"{timeout_millis}{unit}")

    def get_buffer_timeout(self) -> int:
        """Milliseconds; -1 when only full frames are sent."""
        return self._settings[BUFFER_TIMEOUT]

    def disable_operator_chaining(self) -> StreamExecutionEnvironment:
        """Run every operator in tasks of its own."""
        return self._set(OPERATOR_CHAINING.key, "false")

    def is_chaining_enabled(self) -> bool:
        """Whether operators are fused into chains."""
        return self._settings[OPERATOR_CHAINING]

    def set_runtime_mode(self, execution_mode: RuntimeExecutionMode) -> StreamExecutionEnvironment:
        """Whether keyed aggregates emit every update or only final values."""
        if not isinstance(execution_mode, RuntimeExecutionMode):
            raise JobGraphError(
                f"set_runtime_mode() takes a RuntimeExecutionMode, not {execution_mode!r}.",
                hint="RuntimeExecutionMode.STREAMING, .BATCH or .AUTOMATIC.",
            )
        return self._set(RUNTIME_MODE.key, execution_mode.value)

    def register_slot_sharing_group(self, slot_sharing_group: SlotSharingGroup) -> StreamExecutionEnvironment:
        """Say once what the slots of a group have, so that operators can refer to it by its name.

        Raises:
            JobGraphError: the group was registered with other resources.
        """
        if not isinstance(slot_sharing_group, SlotSharingGroup):
            raise JobGraphError(
                f"register_slot_sharing_group() takes a SlotSharingGroup, not {slot_sharing_group!r}.",
                hint='Make one with SlotSharingGroup.builder("name").',
            )
        name, profile = slot_sharing_group.get_name(), slot_sharing_group.get_resource_profile()
        if not profile.is_default:
            known = self._sharing_resources.setdefault(name, profile)
            check_one_specification(name, known, "as registered before", profile, "now")
        return self

    def add_python_file(self, file_path: str | os.PathLike[str]) -> None:
        """Ship a module, a package directory or an archive with the jobs of this environment."""
        self._py_files.append(Path(file_path))

    def register_job_listener(self, job_listener: JobListener) -> None:
        """Tell an object of the jobs that are submitted, and of the end of those ``execute`` waits for."""
        if not isinstance(job_listener, JobListener):
            raise JobGraphError(
                f"register_job_listener() takes a JobListener, not {job_listener!r}.",
                hint="Derive a class from JobListener and pass an object of it.",
            )
        self._job_listeners.append(job_listener)

    # -- sources --------------------------------------------------------------------------------

    def from_source(
        self,
        source: Source[T, Any],
        watermark_strategy: WatermarkStrategy[T] | None = None,
        source_name: str | None = None,
        type_info: TypeInformation | None = None,
    ) -> DataStream[T]:
        """The records of a source.

        Args:
            source: where they come from.
            watermark_strategy: their timestamps and watermarks; without, they have none.
            source_name: the operator's name; default: the source's own.
            type_info: what the records are; optional.
        """
        if not isinstance(source, Source):
            raise JobGraphError(
                f"from_source() takes a Source, not a {type(source).__name__}.",
                hint="For a list or another iterable use from_collection().",
            )
        operator = self._add("source", source_name or source.name, SourceOperator(source), ())
        operator.output_type = type_info
        stream: DataStream[T] = DataStream(self, operator, type_info)
        if watermark_strategy is None or watermark_strategy == WatermarkStrategy.no_watermarks():
            return stream
        timed = stream.assign_timestamps_and_watermarks(watermark_strategy)
        timed._operator("from_source()").operator = WatermarksOperator(watermark_strategy, of_source=True)
        return timed

    # -- running --------------------------------------------------------------------------------

    def execute(self, job_name: str | None = None) -> JobExecutionResult:
        """Run the operators added since the last execution and wait for the end.

        Raises:
            JobGraphError: they are no job that can run; names the operator and the remedy.
            JobFailedError: the job failed; the detail begins with the user's own traceback.
            JobCanceledError: it was cancelled meanwhile.
        """
        return self._wait(self._submit(job_name, collect=False))

    def execute_async(self, job_name: str | None = None) -> JobClient:
        """Submit the operators added since the last execution and return at once.

        On the embedded cluster the job ends when the client is closed or the program ends.
        """
        return self._submit(job_name, collect=False)

    def get_execution_plan(self) -> str:
        """The operators added since the last execution as Flink's JSON plan. Nothing is run or forgotten."""
        return execution_plan(self._stream_graph())

    def close(self) -> None:
        """Forget what was added and not executed, and drop what is kept of cached streams."""
        self._recorded.clear()
        self._caches.drop_all()

    # -- inside ---------------------------------------------------------------------------------

    def __reduce__(self) -> NoReturn:
        raise TypeError("a StreamExecutionEnvironment cannot be used inside a function that runs on a worker")

    def _set(self, key: str, text: str) -> StreamExecutionEnvironment:
        self._settings = self._settings.with_values({key: text}, _PROGRAM)
        return self

    def _target(self) -> str:
        target = self._settings[EXECUTION_TARGET]
        if target != "auto":
            return target
        return "remote" if self._settings[JOBMANAGER_ADDRESS] else "embedded"

    def _numbers(self) -> tuple[int, int]:
        """Two numbers for operators that follow all there are so far."""
        self._last_number += 2
        return self._last_number - 1, self._last_number

    def _add(
        self,
        kind: OperatorKind,
        name: str,
        operator: object,
        inputs: tuple[Node, ...],
        second_inputs: tuple[Node, ...] = (),
    ) -> Transformation:
        self._last_number += 1
        added = Transformation(
            self._last_number,
            kind,
            name,
            operator,
            inputs,
            self.get_parallelism(),
            second_inputs=second_inputs,
        )
        self._recorded.append(added)
        return added

    def _execute_collecting(self, stream: DataStream[Any], job_name: str | None) -> JobClient:
        # As parallel as the stream itself, so that collecting neither moves nor reorders records.
        sink = self._add(
            "sink", CollectSink.name, SinkOperator(CollectSink(uuid.uuid4().hex)), (stream._node,)
        )
        sink.parallelism = _parallelism_of(stream._node)
        try:
            return self._submit(job_name, collect=True)
        except BaseException:
            # Nobody will ever read this sink: the job that is put right and executed must not have it.
            self._recorded = [added for added in self._recorded if added is not sink]
            raise

    def _submit(self, job_name: str | None, *, collect: bool) -> JobClient:
        graph, fills = self._job_graph(job_name or self._settings[JOB_NAME])
        executor = self._executor
        if executor is None:
            executor = cast("type[Executor]", load_plugin("zmflow.executors", self._target()))()
        try:
            client = executor.submit(graph, self._settings, collect=collect or bool(fills))
        except Exception as error:
            for listener in self._job_listeners:
                listener.on_job_submitted(None, error)
            raise
        if fills:
            client.keep(fills, background=not collect)
        self._recorded.clear()
        for listener in self._job_listeners:
            listener.on_job_submitted(client, None)
        return client

    def _wait(self, client: JobClient) -> JobExecutionResult:
        try:
            result = client.get_job_execution_result()
        except Exception as error:
            for listener in self._job_listeners:
                listener.on_job_executed(None, error)
            raise
        finally:
            client.close()
        for listener in self._job_listeners:
            listener.on_job_executed(result, None)
        return result

    def _runtime_mode(self) -> Literal["STREAMING", "BATCH"]:
        """What the next job runs as.

        Raises:
            JobGraphError: BATCH was asked for, and a source never ends.
        """
        operators = (item.operator for item in self._recorded)
        sources = [operator.source for operator in operators if isinstance(operator, SourceOperator)]
        endless = [source.name for source in sources if not source.bounded]
        mode = self._settings[RUNTIME_MODE]
        if mode == "STREAMING" or (mode == "AUTOMATIC" and endless):
            return "STREAMING"
        if endless:
            raise JobGraphError(
                "BATCH mode needs sources that end.",
                detail=f"These do not: {', '.join(endless)}.",
                hint="RuntimeExecutionMode.AUTOMATIC is BATCH only where all sources end.",
            )
        return "BATCH"

    def _stream_graph(self) -> StreamGraph:
        defaults = GraphDefaults(
            max_parallelism=self._settings[MAX_PARALLELISM],
            buffer_timeout_ms=self._settings[BUFFER_TIMEOUT],
            chaining=self._settings[OPERATOR_CHAINING],
            sharing_resources=dict(self._sharing_resources),
        )
        final_only = self._runtime_mode() == "BATCH"

        def prepare(operator: object) -> object:
            if isinstance(operator, KeyedReduceOperator | KeyedAggregateOperator):
                return replace(operator, final_only=final_only)
            if isinstance(operator, WatermarksOperator):
                return replace(operator, interval_ms=self._settings[AUTO_WATERMARK_INTERVAL])
            return operator

        _place_sources(self._recorded)
        keeping = self._caches.sinks(self._recorded, self._numbers, batch=final_only)
        graph = build_stream_graph([*self._recorded, *keeping], defaults, prepare)
        return combine_before_exchanges(graph)

    def _job_graph(self, job_name: str) -> tuple[JobGraph, dict[str, CacheFill]]:
        graph = self._stream_graph()
        mode, settings = self._runtime_mode(), self._settings
        if mode == "STREAMING" and settings[STATE_BACKEND] != STATE_BACKEND.default_text:
            graph = using_state_backends(graph)  # in BATCH mode state is on the heap
        _validate(graph, checkpoints=mode == "STREAMING" and settings[CHECKPOINT_INTERVAL] > 0)
        if settings[RUNTIME_MODE] != mode:
            settings = settings.with_values({RUNTIME_MODE.key: mode}, _PROGRAM)
        py_files = [*self._py_files, *listed_py_files(self._settings[PYTHON_FILES])]
        properties = JobProperties(
            name=job_name,
            settings=settings.texts(),
            files=read_job_files(py_files, [*self._cached_files.values(), *self._caches.files(graph)]),
            runtime_mode=mode,
        )
        group_of = _alignment_group if mode == "STREAMING" else _no_group
        for node in unaligned_nodes(graph, group_of):
            notice_once(
                "watermark alignment",
                f"The watermark alignment of {node.name!r} has no effect: no source is chained to it, so "
                "that none can pause for it. Give the strategy to from_source(), and leave chaining on.",
            )
        with chain_serializer(py_files) as serializer:
            job_graph = generate_job_graph(graph, properties, serializer.serialize, group_of)
            if serializer.classes:
                job_graph = generate_job_graph(graph, properties, serializer.serialize, group_of)
            return job_graph, self._caches.fills(graph, serializer.classes)


def _place_sources(recorded: Iterable[Transformation]) -> None:
    """What was said of a stream that ``from_source`` gave a strategy is meant for the source as well."""
    for timed in recorded:
        if isinstance(timed.operator, WatermarksOperator) and timed.operator.of_source:
            (source,) = timed.inputs
            assert isinstance(source, Transformation)
            source.parallelism, source.max_parallelism = timed.parallelism, timed.max_parallelism
            source.sharing_group, source.sharing_resources = timed.sharing_group, timed.sharing_resources
            source.co_location_group = timed.co_location_group
            if timed.uid:  # what has state is the source
                source.uid, timed.uid = timed.uid, ""


def _alignment_group(operator: object) -> str:
    """The group whose sources wait for each other, by the operator's strategy; "" for none."""
    aligned = isinstance(operator, WatermarksOperator) and operator.strategy.alignment
    return aligned.group if aligned else ""


def _no_group(operator: object) -> str:  # noqa: ARG001 - of the interface
    return ""


def _validate(graph: StreamGraph, *, checkpoints: bool) -> None:
    for node in graph.nodes.values():
        if isinstance(node.operator, SourceOperator):
            node.operator.source.validate()
        elif isinstance(node.operator, SinkOperator):
            node.operator.sink.validate_for(checkpoints=checkpoints)


def _parallelism_of(node: Node) -> int:
    """The parallelism of the operators that a node stands for; the largest of a union's."""
    waiting: list[Node] = [node]
    largest = 1
    while waiting:
        each = waiting.pop()
        if isinstance(each, Transformation):
            largest = max(largest, each.parallelism)
        elif isinstance(each, (Partitioned, SideOutput)):
            waiting.append(each.input)
        elif isinstance(each, Cached):
            waiting.append(each.origin)
        else:
            waiting.extend(each.inputs)
    return largest
