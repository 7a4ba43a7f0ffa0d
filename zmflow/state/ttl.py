"""``StateTtlConfig``: when state that nobody touches expires, with PyFlink's names.

Time is processing time. What expires on its own is a value, an element of a list, an entry of a map. The
configuration is not part of snapshots: state restored under another one follows the new.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from zmflow.errors import StateError

__all__ = ["StateTtlConfig", "TtlDuration"]

BACKGROUND_CLEANUP_SIZE = 5
"""Entries looked at per access where no cleanup was chosen: Flink's default."""


@runtime_checkable
class _Time(Protocol):
    def to_milliseconds(self) -> int: ...


@runtime_checkable
class _Duration(Protocol):
    def to_millis(self) -> int: ...


TtlDuration: TypeAlias = _Time | _Duration | timedelta | int
"""A ``Time``, a ``Duration``, a ``timedelta``, or milliseconds."""


def _milliseconds(ttl: TtlDuration) -> int:
    match ttl:
        case bool():
            amount = 0
        case int():
            amount = ttl
        case timedelta():
            amount = ttl // timedelta(milliseconds=1)
        case _Time():
            amount = ttl.to_milliseconds()
        case _Duration():
            amount = ttl.to_millis()
        case _:
            amount = 0
    if amount <= 0:
        raise StateError(
            f"State cannot live for {ttl!r}.",
            hint="Give a Time, a Duration or a timedelta of at least one millisecond.",
        )
    return amount


class _UpdateType(Enum):
    """What makes state young again."""

    Disabled = 0
    OnCreateAndWrite = 1
    OnReadAndWrite = 2


class _StateVisibility(Enum):
    """Whether expired state may be seen once more before it is removed."""

    ReturnExpiredIfNotCleanedUp = 0
    NeverReturnExpired = 1


class _TtlTimeCharacteristic(Enum):
    """Which time state ages in."""

    ProcessingTime = 0


class _Strategies(Enum):
    """The cleanups there are."""

    FULL_STATE_SCAN_SNAPSHOT = 0
    INCREMENTAL_CLEANUP = 1
    ROCKSDB_COMPACTION_FILTER = 2


class _CleanupStrategy:
    """One way of removing expired state."""


class _EmptyCleanupStrategy(_CleanupStrategy):
    """A way about which there is nothing to say."""


@dataclass(frozen=True, slots=True)
class _IncrementalCleanupStrategy(_CleanupStrategy):
    """Expired entries are removed while others are used.

    Args:
        cleanup_size: entries looked at on each access of the state.
        for_every_record: the same with each record, whether it accesses the state or not.
    """

    cleanup_size: int
    for_every_record: bool

    def get_cleanup_size(self) -> int:
        """Entries looked at on each access."""
        return self.cleanup_size

    def run_cleanup_for_every_record(self) -> bool:
        """Whether records that do not access the state clean up, too."""
        return self.for_every_record


@dataclass(frozen=True, slots=True)
class _RocksdbCompactFilterCleanupStrategy(_CleanupStrategy):
    """Expired entries are left out when a backend compacts its files.

    Args:
        query_time_after_num_entries: entries after which the filter looks at the clock again.
        periodic_compaction_time: how old a file may get before it is compacted for this alone.
    """

    query_time_after_num_entries: int = 1000
    periodic_compaction_time: TtlDuration = timedelta(days=30)

    def get_query_time_after_num_entries(self) -> int:
        """Entries after which the filter looks at the clock again."""
        return self.query_time_after_num_entries

    def get_periodic_compaction_time(self) -> TtlDuration:
        """How old a file may get before it is compacted for this alone."""
        return self.periodic_compaction_time


@dataclass(frozen=True, slots=True)
class _CleanupStrategies:
    """How expired state that nobody reads is removed.

    Args:
        full_snapshot: it is left out of snapshots.
        incremental_size: entries looked at on each access of the state; 0: none.
        for_every_record: the same with each record, whether it accesses the state or not.
        in_background: whether a cleanup of the backend's choice runs where none was chosen.
        compact_filter: what was said for backends that compact their files.
    """

    Strategies: ClassVar = _Strategies
    CleanupStrategy: ClassVar = _CleanupStrategy
    EmptyCleanupStrategy: ClassVar = _EmptyCleanupStrategy
    IncrementalCleanupStrategy: ClassVar = _IncrementalCleanupStrategy
    RocksdbCompactFilterCleanupStrategy: ClassVar = _RocksdbCompactFilterCleanupStrategy
    EMPTY_STRATEGY: ClassVar = _EmptyCleanupStrategy()

    full_snapshot: bool = False
    incremental_size: int = 0
    for_every_record: bool = False
    in_background: bool = True
    compact_filter: _RocksdbCompactFilterCleanupStrategy | None = None

    def get_incremental_cleanup_strategy(self) -> _IncrementalCleanupStrategy | None:
        """What is looked at on each access; None: nothing."""
        size = self.entries_per_access
        return _IncrementalCleanupStrategy(size, self.for_every_record) if size else None

    def get_rocksdb_compact_filter_cleanup_strategy(self) -> _RocksdbCompactFilterCleanupStrategy | None:
        """What a backend that compacts its files does; None: it leaves expired entries there."""
        if self.compact_filter is None and self.in_background:
            return _RocksdbCompactFilterCleanupStrategy()
        return self.compact_filter

    def in_full_snapshot(self) -> bool:
        """Whether snapshots leave expired state out."""
        return self.full_snapshot

    def is_cleanup_in_background(self) -> bool:
        """Whether the backend cleans up on its own."""
        return self.in_background

    @property
    def entries_per_access(self) -> int:
        """How many entries an access looks at."""
        if self.incremental_size:
            return self.incremental_size
        return BACKGROUND_CLEANUP_SIZE if self.in_background else 0


class _Builder:
    """Builds a ``StateTtlConfig``. Without more said: young again when written, never seen when expired,
    cleaned up in the background."""

    def __init__(self, ttl: TtlDuration) -> None:
        self._ttl = ttl
        self._update_type = _UpdateType.OnCreateAndWrite
        self._visibility = _StateVisibility.NeverReturnExpired
        self._full_snapshot = False
        self._incremental_size = 0
        self._for_every_record = False
        self._in_background = True
        self._compact_filter: _RocksdbCompactFilterCleanupStrategy | None = None

    def set_update_type(self, update_type: _UpdateType) -> _Builder:
        """What makes state young again; ``Disabled``: state does not expire."""
        self._update_type = update_type
        return self

    def update_ttl_on_create_and_write(self) -> _Builder:
        """Only writing makes state young again."""
        return self.set_update_type(_UpdateType.OnCreateAndWrite)

    def update_ttl_on_read_and_write(self) -> _Builder:
        """Reading makes state young again, too."""
        return self.set_update_type(_UpdateType.OnReadAndWrite)

    def set_state_visibility(self, state_visibility: _StateVisibility) -> _Builder:
        """Whether expired state may be seen once more before it is removed."""
        self._visibility = state_visibility
        return self

    def return_expired_if_not_cleaned_up(self) -> _Builder:
        """Expired state may be seen until something removes it."""
        return self.set_state_visibility(_StateVisibility.ReturnExpiredIfNotCleanedUp)

    def never_return_expired(self) -> _Builder:
        """Expired state is as good as removed."""
        return self.set_state_visibility(_StateVisibility.NeverReturnExpired)

    def set_ttl_time_characteristic(
        self,
        ttl_time_characteristic: _TtlTimeCharacteristic,  # noqa: ARG002 - there is only one
    ) -> _Builder:
        """Which time state ages in: there is only processing time."""
        return self

    def use_processing_time(self) -> _Builder:
        """State ages in processing time."""
        return self

    def cleanup_full_snapshot(self) -> _Builder:
        """Leave expired state out of snapshots. What the task holds is not cleaned up by it."""
        self._full_snapshot = True
        return self

    def cleanup_incrementally(
        self, cleanup_size: int, run_cleanup_for_every_record: bool = False
    ) -> _Builder:
        """Look at so many entries with each access of the state, or each record, and remove the expired.

        Where the state is never accessed, and not for every record, expired entries stay.
        """
        if cleanup_size < 1:
            raise StateError(f"A cleanup of {cleanup_size} entries removes nothing.", hint="Give at least 1.")
        self._incremental_size = cleanup_size
        self._for_every_record = run_cleanup_for_every_record
        return self

    def cleanup_in_rocksdb_compact_filter(
        self,
        query_time_after_num_entries: int = 1000,
        periodic_compaction_time: TtlDuration = timedelta(days=30),
    ) -> _Builder:
        """For the RocksDB backend. On the heap it has no effect, and says so: cleaning up is as without
        it."""
        self._compact_filter = _RocksdbCompactFilterCleanupStrategy(
            query_time_after_num_entries, periodic_compaction_time
        )
        return self

    def disable_cleanup_in_background(self) -> _Builder:
        """No cleanup of the backend's choice; one that was chosen runs all the same."""
        self._in_background = False
        return self

    def set_ttl(self, ttl: TtlDuration) -> _Builder:
        """How long state lives."""
        self._ttl = ttl
        return self

    def build(self) -> StateTtlConfig:
        """The configuration.

        Raises:
            StateError: the time to live is no amount of time, or none at all.
        """
        return StateTtlConfig(
            self._ttl,
            _milliseconds(self._ttl),
            self._update_type,
            self._visibility,
            _TtlTimeCharacteristic.ProcessingTime,
            _CleanupStrategies(
                self._full_snapshot,
                self._incremental_size,
                self._for_every_record,
                self._in_background,
                self._compact_filter,
            ),
        )


@dataclass(frozen=True, slots=True)
class StateTtlConfig:
    """When state expires, made by ``new_builder(ttl)...build()``.

    >>> config = StateTtlConfig.new_builder(timedelta(seconds=10)).update_ttl_on_read_and_write().build()
    >>> config.ttl_ms, config.get_update_type().name, config.get_state_visibility().name
    (10000, 'OnReadAndWrite', 'NeverReturnExpired')
    """

    UpdateType = _UpdateType
    StateVisibility = _StateVisibility
    TtlTimeCharacteristic = _TtlTimeCharacteristic
    CleanupStrategies = _CleanupStrategies
    Builder = _Builder

    ttl: TtlDuration
    ttl_ms: int
    update_type: _UpdateType
    state_visibility: _StateVisibility
    ttl_time_characteristic: _TtlTimeCharacteristic
    cleanup_strategies: _CleanupStrategies

    @staticmethod
    def new_builder(ttl: TtlDuration) -> _Builder:
        """Begin with how long state lives."""
        return _Builder(ttl)

    def get_update_type(self) -> _UpdateType:
        """What makes state young again."""
        return self.update_type

    def get_state_visibility(self) -> _StateVisibility:
        """Whether expired state may be seen once more."""
        return self.state_visibility

    def get_ttl(self) -> TtlDuration:
        """How long state lives, as it was given."""
        return self.ttl

    def get_ttl_time_characteristic(self) -> _TtlTimeCharacteristic:
        """Processing time."""
        return self.ttl_time_characteristic

    def is_enabled(self) -> bool:
        """Whether state expires at all."""
        return self.update_type is not _UpdateType.Disabled

    def get_cleanup_strategies(self) -> _CleanupStrategies:
        """How expired state that nobody reads is removed."""
        return self.cleanup_strategies
