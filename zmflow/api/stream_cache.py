"""What ``cache()`` keeps of a stream: filled by the first job that computes it, read by those after it.

The rows of a filling job come to the client through a collect sink and are spooled to its disk, a file for
each subtask. They count only once that job has FINISHED with everything of every subtask's last attempt; then
they are one file, which later jobs carry along. Nothing incomplete is ever read.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zmflow.api.cached_rows import (
    LENGTH_SIZE_BYTES,
    CachedRowsSource,
    PackRowsOperator,
    Range,
    UnpackRowsOperator,
)
from zmflow.api.collect import CollectSink
from zmflow.api.functions import INTERNAL_FILE_PREFIX
from zmflow.api.notices import notice_once
from zmflow.api.operators import SinkOperator, SourceOperator
from zmflow.api.shipping import JOB_FILES_SIZE_MAX_BYTES, CachedFile
from zmflow.errors import JobGraphError
from zmflow.graph.stream_graph import StreamGraph
from zmflow.graph.transformations import Cached, Transformation, caches_before, operators_before
from zmflow.protocol.messages import CollectedRows, JobStatus
from zmflow.protocol.parts import RETRACTABLE_ROWS
from zmflow.protocol.resources import size_text

__all__ = ["CACHE_SIZE_MAX_BYTES", "CacheFill", "StreamCache", "StreamCaches"]

CACHE_SIZE_MAX_BYTES = JOB_FILES_SIZE_MAX_BYTES // 2
"""What is kept of one stream, pickled. It travels with every job that reads it, and a job may read two."""

_TOO_LARGE = (
    f"its rows take more than {size_text(CACHE_SIZE_MAX_BYTES)}, so they are computed again. Filter or "
    "aggregate before cache(), or write the rows to files and read those"
)


class _Directory:
    """A directory that goes with this object, at the latest with the process."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="zmflow-cache-"))
        self.remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(slots=True)
class _Spool:
    """What has come of one subtask in its newest attempt."""

    path: Path
    attempt: int
    pieces: int = 0
    size_bytes: int = 0
    complete: bool = False


@dataclass(frozen=True, slots=True)
class _KeptRows:
    """Everything of a stream, as long as its directory is there."""

    directory: _Directory
    path: Path
    ranges: list[Range]
    classes: Mapping[str, Mapping[str, type]]


@dataclass(eq=False, slots=True)
class StreamCache:
    """The cache of one stream of an environment.

    Args:
        node: stands for the stream in the dataflow.
        numbers: of the two operators that read the rows back; they are below those of all consumers.
    """

    node: Cached
    numbers: tuple[int, int]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _kept: _KeptRows | None = field(default=None, init=False)
    _version: int = field(default=0, init=False)  # grows when what is being kept must not be used any more
    _refusal: str = field(default="", init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def file_name(self) -> str:
        """What jobs call the file of the kept rows."""
        return f"{INTERNAL_FILE_PREFIX}{self.id}"

    @property
    def title(self) -> str:
        """The name of the operator whose rows are kept."""
        return self.operator.title

    @property
    def operator(self) -> Transformation:
        """The operator whose rows are kept: the last of those before, as numbers grow along every path."""
        return operators_before([self.node.input])[-1]

    def drop(self) -> None:
        """Forget what is kept, and what jobs that run now are about to keep."""
        with self._lock:
            self._version += 1
            self._kept = None
        self.node.kept = None

    def settle(self) -> None:
        """Decide for the next job whether the stream is read or computed; for the thread that makes jobs."""
        with self._lock:
            kept, refusal = self._kept, self._refusal
            if kept is not None and not kept.path.is_file():
                kept = self._kept = None  # somebody cleared the temporary directory: it is computed again
        if refusal and kept is None:
            notice_once(f"cache {self.id}", f"The stream {self.title!r} was not kept: {refusal}.")
        if kept is None:
            self.node.kept = None
        elif self.node.kept is None:
            self.node.kept = self._reading(kept)

    def _reading(self, kept: _KeptRows) -> Transformation:
        """The operators that read what is kept: as many subtasks as have produced it."""
        source = CachedRowsSource(self.file_name, kept.ranges, kept.classes)
        parallelism = len(kept.ranges)
        first, second = self.numbers
        reading = Transformation(
            first, "source", f"Cached {self.operator.name}", SourceOperator(source), (), parallelism
        )
        return Transformation(second, "operator", "Unpack", UnpackRowsOperator(), (reading,), parallelism)

    def keeping(self, number: int) -> Transformation:
        """The sink that keeps the rows of a job. Takes two numbers."""
        parallelism = self.operator.parallelism
        packing = Transformation(
            number, "operator", "Pack", PackRowsOperator(), (self.node.input,), parallelism
        )
        sink = SinkOperator(CollectSink(f"{RETRACTABLE_ROWS}{self.id}"))
        return Transformation(number + 1, "sink", "Cache", sink, (packing,), parallelism)

    def file(self) -> CachedFile:
        """The kept rows as a file of a job."""
        assert self._kept is not None
        return CachedFile(self.file_name, self._kept.path, title=f"the kept rows of {self.title!r}")

    def new_fill(self, classes: Mapping[str, Mapping[str, type]]) -> CacheFill:
        """What takes the rows of a job that is about to be submitted."""
        return CacheFill(self, self._version, classes)

    def filled(self, version: int, kept: _KeptRows) -> None:
        """A job has FINISHED and all its rows are here. The first one counts, unless it was too late."""
        with self._lock:
            if version == self._version and self._kept is None:
                self._kept = kept

    def refused(self, why: str) -> None:
        """The rows of a job that has FINISHED could not be kept."""
        self._refusal = why


class CacheFill:
    """Takes the rows of one job for one cache. Used by one thread; ``end`` comes last and once.

    It never raises: a job does not fail because its rows cannot be kept.
    """

    def __init__(self, cache: StreamCache, version: int, classes: Mapping[str, Mapping[str, type]]) -> None:
        self._cache = cache
        self._version = version
        self._classes = classes
        self._directory: _Directory | None = None
        self._spools: dict[int, _Spool] = {}
        self._vertex_id = ""
        self._refusal = ""

    def take(self, rows: CollectedRows) -> None:
        """The next rows of a subtask; those of an older attempt of it are forgotten."""
        if self._refusal:
            return
        try:
            self._take(rows)
        except OSError as error:
            self._refuse(f"its rows could not be written: {error}")

    def _take(self, rows: CollectedRows) -> None:
        self._vertex_id = rows.vertex_id
        spool = self._spools.get(rows.subtask_index)
        if spool is None or spool.attempt < rows.attempt_number:
            spool = self._spools[rows.subtask_index] = self._new_spool(rows)
        if spool.attempt > rows.attempt_number:
            return
        if rows.sequence != spool.pieces:
            spool.complete = False
            spool.pieces = -1  # something is missing: this attempt is of no use
            return
        with spool.path.open("ab") as file:
            file.write(len(rows.rows).to_bytes(LENGTH_SIZE_BYTES, "big"))
            file.write(rows.rows)
        spool.pieces += 1
        spool.size_bytes += LENGTH_SIZE_BYTES + len(rows.rows)
        spool.complete = rows.last
        if sum(each.size_bytes for each in self._spools.values()) > CACHE_SIZE_MAX_BYTES:
            self._refuse(_TOO_LARGE)

    def _new_spool(self, rows: CollectedRows) -> _Spool:
        if self._directory is None:
            self._directory = _Directory()
        path = self._directory.path / str(rows.subtask_index)
        path.write_bytes(b"")
        return _Spool(path, rows.attempt_number)

    def _refuse(self, why: str) -> None:
        self._refusal = why
        self._clear()

    def _clear(self) -> None:
        self._spools.clear()
        if self._directory is not None:
            self._directory.remove()
            self._directory = None

    def end(self, status: JobStatus | None) -> None:
        """The job has ended like this; None: nobody knows how."""
        finished = status is not None and status.summary.state == "FINISHED"
        if finished and self._refusal:
            self._cache.refused(self._refusal)
        elif finished:
            assert status is not None
            try:
                self._keep(status)
            except OSError as error:
                self._cache.refused(f"its rows could not be written: {error}")
        self._clear()

    def _keep(self, status: JobStatus) -> None:
        count = next((v.parallelism for v in status.vertices if v.vertex_id == self._vertex_id), 0)
        # Subtasks beyond the last one are of a time when the job was more parallel.
        spools = [self._spools.get(index) for index in range(count)]
        complete = [spool for spool in spools if spool is not None and spool.complete]
        if not count or len(complete) < count or self._directory is None:
            return
        path = self._directory.path / "rows"
        ranges: list[Range] = []
        position = 0
        with path.open("wb") as whole:
            for spool in complete:
                with spool.path.open("rb") as part:
                    shutil.copyfileobj(part, whole)
                spool.path.unlink()
                ranges.append((position, position + spool.size_bytes))
                position += spool.size_bytes
        directory, self._directory = self._directory, None
        self._cache.filled(self._version, _KeptRows(directory, path, ranges, self._classes))


class StreamCaches:
    """The caches of one environment."""

    def __init__(self) -> None:
        self._caches: dict[str, StreamCache] = {}  # by what jobs call their files

    def add(self, node: Cached, numbers: tuple[int, int]) -> StreamCache:
        """A new one."""
        cache = StreamCache(node, numbers)
        self._caches[cache.file_name] = cache
        return cache

    def sinks(
        self, recorded: Sequence[Transformation], numbers: Callable[[], tuple[int, int]], *, batch: bool
    ) -> list[Transformation]:
        """Decide which streams the next job reads. Returns the sinks that keep those it computes, whether or
        not it uses them itself.

        Args:
            recorded: the operators of the job.
            numbers: gives two numbers for operators that follow all others.
            batch: whether it runs in BATCH mode.

        Raises:
            JobGraphError: it uses a cached stream and is not in BATCH mode.
        """
        for cache in self._caches.values():
            cache.settle()
        if batch:
            computed = {operator.number for operator in operators_before(recorded)}
            caches = [cache for cache in self._caches.values() if cache.node.kept is None]
            return [cache.keeping(numbers()[0]) for cache in caches if cache.operator.number in computed]
        if caches_before(recorded):
            raise JobGraphError(
                "cache() works in BATCH mode only.",
                detail="The job uses a cached stream and runs in STREAMING mode.",
                hint="Call env.set_runtime_mode(RuntimeExecutionMode.BATCH), or leave cache() out.",
            )
        return []

    def files(self, graph: StreamGraph) -> list[CachedFile]:
        """The kept rows that a job reads."""
        sources = [
            node.operator.source for node in graph.nodes.values() if isinstance(node.operator, SourceOperator)
        ]
        return [
            self._caches[source.file_name].file()
            for source in sources
            if isinstance(source, CachedRowsSource)
        ]

    def fills(self, graph: StreamGraph, classes: Mapping[str, Mapping[str, type]]) -> dict[str, CacheFill]:
        """What takes the rows of a job, by the ids of its collect sinks."""
        sinks: Sequence[Any] = [
            node.operator.sink for node in graph.nodes.values() if isinstance(node.operator, SinkOperator)
        ]
        ids = {sink.collect_id for sink in sinks if isinstance(sink, CollectSink)}
        return {
            f"{RETRACTABLE_ROWS}{cache.id}": cache.new_fill(classes)
            for cache in self._caches.values()
            if f"{RETRACTABLE_ROWS}{cache.id}" in ids
        }

    def drop_all(self) -> None:
        """Forget everything that is kept."""
        for cache in self._caches.values():
            cache.drop()
