"""The sources that an environment has a call for, beside ``from_source``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar, cast

from zmflow.api.collections import CollectionSource, SequenceSource
from zmflow.api.datastream import DataStream
from zmflow.api.sources import Source
from zmflow.api.types import TypeInformation
from zmflow.errors import JobGraphError
from zmflow.plugins import load_plugin

if TYPE_CHECKING:
    from zmflow.api.watermark_strategy import WatermarkStrategy

__all__ = ["EnvironmentSources"]

T = TypeVar("T")

_GROUP = "zmflow.sources"
"""Connectors are above the API, which knows them by name only."""


class EnvironmentSources(ABC):
    """What ``StreamExecutionEnvironment`` can read without being given a source."""

    @abstractmethod
    def from_source(
        self,
        source: Source[T, Any],
        watermark_strategy: WatermarkStrategy[T] | None = None,
        source_name: str | None = None,
        type_info: TypeInformation | None = None,
    ) -> DataStream[T]:
        """The records of a source."""

    def from_collection(
        self, collection: Iterable[T], type_info: TypeInformation | None = None
    ) -> DataStream[T]:
        """The elements of a collection, in order. Read by one subtask; the elements travel with the job."""
        _check_iterable(collection, "from_collection()")
        return _by_one(self.from_source(CollectionSource(collection), type_info=type_info))

    def from_parallel_collection(
        self, collection: Iterable[T], type_info: TypeInformation | None = None
    ) -> DataStream[T]:
        """The elements of a collection, read in parallel: each subtask is given parts of it."""
        _check_iterable(collection, "from_parallel_collection()")
        return self.from_source(CollectionSource(collection, parallel=True), type_info=type_info)

    def from_sequence(self, start: int, end: int) -> DataStream[int]:
        """The whole numbers from ``start`` to ``end``, both included, read in parallel."""
        return self.from_source(SequenceSource(start, end))

    def read_file(
        self, input_format: Any, file_path: str | PathLike[str], type_info: TypeInformation | None = None
    ) -> DataStream[Any]:
        """The records of files, read once and in parallel.

        Args:
            input_format: a ``StreamFormat`` of ``zmflow.connectors``.
            file_path: a file, a directory or a glob.
            type_info: what the records are; optional.
        """
        return self.from_source(_source("file")(file_path, input_format), type_info=type_info)

    def read_text_file(self, file_path: str | PathLike[str], charset_name: str = "UTF-8") -> DataStream[str]:
        """The lines of text files, without their line ends, read once and in parallel.

        Args:
            file_path: a file, a directory or a glob.
            charset_name: their encoding.
        """
        return self.from_source(_source("text-file")(file_path, encoding=charset_name))

    def socket_text_stream(
        self, hostname: str, port: int, delimiter: str = "\n", max_retry: int = 0
    ) -> DataStream[str]:
        """The texts between delimiters that a server sends. Read by one subtask, at most once.

        Args:
            hostname: where the server listens.
            port: its port.
            delimiter: what stands between two texts.
            max_retry: how often to connect again, half a second later, when the server has closed the
                connection or does not answer; -1: for ever. Then the stream ends.
        """
        return _by_one(self.from_source(_source("socket")(hostname, port, delimiter, max_retry)))


def _source(name: str) -> Callable[..., Source[Any, Any]]:
    return cast("Callable[..., Source[Any, Any]]", load_plugin(_GROUP, name))


def _by_one(stream: DataStream[T]) -> DataStream[T]:
    """Lets one subtask read: the next operators may be parallel all the same."""
    operator = stream._operator("from_source()")
    operator.parallelism, operator.non_parallel = 1, True
    return stream


def _check_iterable(collection: object, call: str) -> None:
    if not isinstance(collection, Iterable):
        raise JobGraphError(f"{call} takes an iterable, not a {type(collection).__name__}.")
