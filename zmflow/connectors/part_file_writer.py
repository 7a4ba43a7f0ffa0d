"""``PartFileWriter``: writes the part files of one subtask of a file sink.

Each bucket has one open part at the most. A part that is closed is a committable. A part that a checkpoint
leaves open is in its snapshot with the length it had: a restored attempt copies so much of it, and goes on in
the copy, because the attempt before may still be writing where nobody reaches it to end it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar
from uuid import uuid4

from zmflow.api.sinks import SinkWriter, WriterContext
from zmflow.connectors.bucket_assigner import BasePathBucketAssigner, BucketAssigner, checked_bucket
from zmflow.connectors.file_listing import os_failure
from zmflow.connectors.part_files import OpenPart, PartEncoder, PartFile, PendingPart, sync_directories
from zmflow.connectors.part_names import HiddenName, OutputFileConfig
from zmflow.connectors.rolling_policy import RollingPolicy
from zmflow.errors import ConnectorError

__all__ = ["PartFileOptions", "PartFileWriter", "parts_below"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PartFileOptions:
    """How a file sink writes.

    Args:
        directory: where.
        names: of the parts.
        buckets: into which directory below it a record goes.
        rolling: when a part is closed; None: by the default policy where checkpoints commit, else at the end.
        check_interval_ms: how often the policy is asked whether time has come.
        overwrite: whether the parts of an earlier job go.
        resumable: whether an attempt can go on in a part that another has begun; else it closes what it
            restores.
        empty_parts: whether a part without records is a file of the format.
    """

    directory: Path
    names: OutputFileConfig
    buckets: BucketAssigner[Any]
    rolling: RollingPolicy | None
    check_interval_ms: int
    overwrite: bool
    resumable: bool = True
    empty_parts: bool = True


class PartFileWriter(SinkWriter[T], Generic[T]):
    """The writer of every file sink.

    Args:
        options: see there.
        open_encoder: begins a part in the format of the sink.
        context: where it runs.
        states: of the checkpoint it goes on from.
    """

    def __init__(
        self,
        options: PartFileOptions,
        open_encoder: Callable[[BinaryIO], PartEncoder[T]],
        context: WriterContext,
        states: Sequence[OpenPart] = (),
    ) -> None:
        runtime = context.runtime_context
        self._options = options
        self._directory = options.directory
        self._names = options.names
        self._assigner = options.buckets
        self._open_encoder = open_encoder
        self._clock = context.processing_time
        self._checkpoints = context.checkpoints
        self._rolling = options.rolling or (RollingPolicy() if context.checkpoints else None)
        self._part_size = None if self._rolling is None else self._rolling.part_size
        self._subtask = runtime.subtask_index
        self._parallelism = runtime.parallelism
        self._job = runtime.job_id[:8]
        self._attempt = runtime.attempt_number
        self._begun_after = context.restored_checkpoint_id or 0
        self._unique = uuid4().hex[:8]
        self._parts: dict[str, PartFile[T]] = {}
        self._numbers: dict[str, int] = {}  # of the next part, by bucket where names tell nothing else apart
        self._pending: list[PendingPart] = []
        self._finals: set[str] = set()  # of all parts, where the end of the input commits
        self._unknown: set[str] = set()  # hidden files that no checkpoint knows
        self._changed = {self._directory}  # directories that hold names which may not be on the disk
        self._check_ms: int | None = None
        self._ended = False
        self._overwrites = (
            options.overwrite and context.checkpoints and context.restored_checkpoint_id is None
        )
        try:
            self._make_directory(self._directory)
            if self._attempt or context.restored_checkpoint_id is not None:
                self._remove_leftovers()
            for state in states:
                self._restore(state)
        except OSError as error:
            raise os_failure("The output directory cannot be written", str(self._directory), error) from None

    # -- writing ------------------------------------------------------------------------------------

    def write(self, value: T) -> None:
        self.write_batch((value,))

    def write_batch(self, values: Sequence[T]) -> None:
        now_ms = self._clock()
        bucket = self._assigner.bucket_of_all(now_ms)
        if bucket is not None:
            self._append(bucket, values, now_ms)
            return
        of_record = self._assigner.bucket_id
        batches: dict[str, list[T]] = {}
        for value in values:
            batches.setdefault(of_record(value, now_ms), []).append(value)
        for bucket, batch in batches.items():
            self._append(bucket, batch, now_ms)

    def _append(self, bucket: str, values: Sequence[T], now_ms: int) -> None:
        part = self._parts.get(bucket)
        if part is None:
            part = self._begin(bucket, now_ms)
        part.write(values, now_ms)
        if self._part_size is not None and part.size_bytes() >= self._part_size:
            self._roll(bucket)

    def flush(self, end_of_input: bool) -> None:
        self._remove_overwritten()
        if end_of_input:
            self._ended = True
            if not self._checkpoints and self._options.empty_parts and not self._finals:
                bucket = self._assigner.bucket_of_all(self._clock())
                if bucket == "":
                    self._begin(bucket, self._clock())
        for part in self._parts.values():
            part.flush()

    # -- rolling ------------------------------------------------------------------------------------

    def next_processing_time_ms(self) -> int | None:
        return self._check_ms

    def advance_processing_time(self, now_ms: int) -> None:
        rolling = self._rolling
        assert rolling is not None
        for bucket, part in list(self._parts.items()):
            if rolling.is_due(now_ms, part.begun_ms, part.written_ms):
                self._roll(bucket)
        self._check_ms = now_ms + self._options.check_interval_ms if self._parts else None

    def _begin(self, bucket: str, now_ms: int) -> PartFile[T]:
        self._remove_overwritten()
        number = self._numbers.get(bucket, 0)
        name = f"{self._names.part_prefix}-{self._subtask}"
        if self._checkpoints:
            number = self._numbers.get("", 0)
            self._numbers[""] = number + 1
            name += f"-{self._unique}-{number}"
        else:
            self._numbers[bucket] = number + 1
            name += f"-{number}" if number else ""
        final = _joined(checked_bucket(bucket), name + self._names.part_suffix)
        part = self._new_part(final, bucket, now_ms)
        part.begin(self._open_encoder)
        self._keep(part, now_ms)
        return part

    def _new_part(self, final: str, bucket: str, now_ms: int) -> PartFile[T]:
        name = final.rpartition("/")[2]
        hidden = HiddenName(name, self._job, self._subtask, self._attempt, self._begun_after)
        directory = self._directory / bucket
        try:
            if bucket:
                self._make_directory(directory)
            part: PartFile[T] = PartFile(self._directory, _joined(bucket, hidden.text), final, bucket, now_ms)
        except OSError as error:
            raise os_failure("The output directory cannot be written", str(directory), error) from None
        self._changed.add(directory)
        self._unknown.add(part.hidden)
        if not self._checkpoints:
            self._finals.add(final)
        return part

    def _keep(self, part: PartFile[T], now_ms: int) -> None:
        self._parts[part.bucket] = part
        if self._check_ms is None and self._rolling is not None and self._rolling.knows_time:
            self._check_ms = now_ms + self._options.check_interval_ms

    def _roll(self, bucket: str) -> None:
        part = self._parts[bucket]
        self._pending.append(part.seal())
        del self._parts[bucket]

    # -- checkpoints --------------------------------------------------------------------------------

    def prepare_commit(self) -> Sequence[PendingPart]:
        if self._ended or (self._rolling is not None and self._rolling.on_checkpoint):
            for bucket in list(self._parts):
                self._roll(bucket)
        if not self._checkpoints:
            self._sync_directories()
        pending, self._pending = self._pending, []
        return pending

    def snapshot_state(self, checkpoint_id: int) -> Sequence[OpenPart]:
        states = [part.sync() for part in self._parts.values()]
        self._sync_directories()
        self._begun_after = checkpoint_id
        self._unknown.clear()
        return states

    def _sync_directories(self) -> None:
        sync_directories(self._changed)
        self._changed.clear()

    def _restore(self, state: OpenPart) -> None:
        """Copy what the checkpoint holds of a part, and let go of the original when the next is complete."""
        original = self._directory / state.hidden
        if not original.exists():
            if (self._directory / state.final).exists():
                return  # a later checkpoint has committed it: all of it is visible already
            raise ConnectorError(
                "A part file that the checkpoint goes on with is gone.",
                detail=str(original),
                hint="Restore a newer checkpoint, and do not remove hidden files while a job may come back.",
            )
        part = self._new_part(state.final, state.bucket, state.begun_ms)
        try:
            part.copy(original, state.length)
        except EOFError:
            part.abandon()
            raise ConnectorError(
                "A part file that the checkpoint goes on with has lost records.",
                detail=f"{original}: {original.stat().st_size} bytes, and {state.length} in the checkpoint.",
                hint="Look for what has changed the file; records before the checkpoint are lost.",
            ) from None
        self._pending.append(PendingPart(state.hidden, None))
        part.written_ms = self._clock()
        if self._options.resumable and state.bucket not in self._parts:
            part.begin(self._open_encoder)
            self._keep(part, part.written_ms)
        else:
            self._pending.append(part.seal())

    # -- the end ------------------------------------------------------------------------------------

    def close(self, completed: bool) -> None:
        for part in self._parts.values():
            part.abandon()
        self._parts.clear()
        if not completed:
            for hidden in self._unknown:
                (self._directory / hidden).unlink(missing_ok=True)
        elif self._ended and not self._checkpoints:
            self._remove_surplus_parts()

    # -- what others have left ----------------------------------------------------------------------

    def _remove_leftovers(self) -> None:
        """Hidden files of earlier attempts that the restored checkpoint does not know: begun after it.

        Of this subtask, and for subtask 0 of those that are no more since the job runs with fewer. What was
        begun before the checkpoint was closed before it, and then somebody commits it, or was open, and then
        somebody goes on with it.
        """
        for path in self._files():
            left = HiddenName.parse(path.name)
            if (
                left is not None
                and left.job == self._job
                and left.attempt < self._attempt
                and left.checkpoint >= self._begun_after
                and self._names.is_part(left.final)
                and self._owns(left.subtask)
            ):
                path.unlink(missing_ok=True)

    def _remove_overwritten(self) -> None:
        """Where checkpoints commit: the parts of the job before. None of this one can be there yet."""
        if not self._overwrites:
            return
        self._overwrites = False
        if self._subtask != 0:
            return
        for path in self._files():
            if self._subtask_of_any(path.name) is not None or self._is_of_other_job(path.name):
                path.unlink(missing_ok=True)

    def _remove_surplus_parts(self) -> None:
        """Parts that would be read as this job's: of subtasks it has no more, or of the job it overwrites.

        Without ``overwrite`` the directory was empty, so parts with another suffix are another sink's.
        """
        for path in self._files():
            subtask = self._subtask_of_any(path.name)
            if subtask is None:
                if self._options.overwrite and self._subtask == 0 and self._is_of_other_job(path.name):
                    path.unlink(missing_ok=True)
            elif (
                self._owns(subtask)
                and str(path.relative_to(self._directory)) not in self._finals
                and (self._options.overwrite or self._names.is_part(path.name))
            ):
                path.unlink(missing_ok=True)

    def _subtask_of_any(self, name: str) -> int | None:
        return self._names.subtask_of(name, any_suffix=True)

    def _is_of_other_job(self, name: str) -> bool:
        """Whether this is what a job that was killed has left."""
        hidden = HiddenName.parse(name)
        return (
            hidden is not None and hidden.job != self._job and self._subtask_of_any(hidden.final) is not None
        )

    def _owns(self, subtask: int) -> bool:
        """Whether no other subtask of this sink looks after the files of this one."""
        return subtask == self._subtask or (self._subtask == 0 and subtask >= self._parallelism)

    def _files(self) -> Iterator[Path]:
        return parts_below(self._directory, self._assigner)

    def _make_directory(self, directory: Path) -> None:
        above = directory
        while not above.is_dir():
            above = above.parent
            self._changed.add(above)
        directory.mkdir(parents=True, exist_ok=True)


def parts_below(directory: Path, assigner: BucketAssigner[Any]) -> Iterator[Path]:
    """The files where a sink may have written: in its directory and, where it has buckets, below."""
    if isinstance(assigner, BasePathBucketAssigner):
        yield from list(directory.iterdir())
        return
    for path, _, names in os.walk(directory):
        for name in names:
            yield Path(path) / name


def _joined(bucket: str, name: str) -> str:
    return f"{bucket}/{name}" if bucket else name
