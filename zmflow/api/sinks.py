"""The sink protocols: what somebody implements to write to a new place (Sink V2 without commit).

A ``Sink`` is pickled with the job; each subtask makes one ``SinkWriter`` from it. Batches arrive whole:
override ``write_batch`` where a batch can be written faster than record by record.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from zmflow.api.functions import RuntimeContext
from zmflow.api.types import TypeInformation

__all__ = ["Sink", "SinkWriter", "WriterContext"]

T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class WriterContext:
    """What the engine offers a ``SinkWriter``.

    ``emit_to_client`` sends rows to the client that runs the job and blocks while that client is
    slow; ``finished`` marks the subtask's last call. Only collect sinks use it.
    """

    runtime_context: RuntimeContext
    emit_to_client: Callable[[str, Sequence[Any], bool], None]


class SinkWriter(ABC, Generic[T_contra]):
    """Writes the records of one subtask. Blocking is fine: sources upstream will wait."""

    @abstractmethod
    def write(self, value: T_contra) -> None:
        """Write one record."""

    def write_batch(self, values: Sequence[T_contra]) -> None:
        """Write a batch; by default record by record. The sequence must not be kept or changed."""
        write = self.write
        for value in values:
            write(value)

    def flush(self, end_of_input: bool) -> None:
        """Make what was written visible; with ``end_of_input`` there will be no more."""

    def close(self, completed: bool) -> None:
        """Called once. ``completed`` is false when the task failed or was cancelled: clean up."""


class Sink(ABC, Generic[T_contra]):
    """A place to write to. Must be picklable. ``name`` is what plans and logs call the operator."""

    name: str = "Sink"

    @abstractmethod
    def create_writer(self, context: WriterContext) -> SinkWriter[T_contra]: ...

    def for_type(self, type_info: TypeInformation | None) -> Sink[T_contra]:  # noqa: ARG002 - of the interface
        """The sink for records of this declared type; by default this one."""
        return self

    def validate(self) -> None:
        """Called by the client before submission: raise a ``ZmflowError`` for what is wrong already."""
