"""``CachedDataStream``: a stream that is computed by one job and read by the jobs after it."""

from __future__ import annotations

from typing import TypeVar

from zmflow.api.datastream import DataStream
from zmflow.graph.transformations import Cached, SideOutput, Transformation

__all__ = ["CachedDataStream"]

T = TypeVar("T")


class CachedDataStream(DataStream[T]):
    """A stream whose records are kept when a job computes them. Made with ``DataStream.cache``.

    What is said about its operator (name, uid, parallelism, chaining) is said about the operator it keeps.
    """

    def __init__(self, origin: DataStream[T]) -> None:
        if not isinstance(origin._node, SideOutput):
            origin._operator("cache()")  # which refuses what is no operator
        environment = origin._environment
        super().__init__(environment, Cached(origin._node), origin._type)
        assert isinstance(self._node, Cached)
        self._origin = origin
        self._cache = environment._caches.add(self._node, environment._numbers())

    def invalidate(self) -> None:
        """Drop what is kept. The next job that uses the stream computes it again, and keeps it."""
        self._cache.drop()

    def cache(self) -> CachedDataStream[T]:
        """This stream."""
        return self

    def _operator(self, call: str) -> Transformation:
        return self._origin._operator(call)
