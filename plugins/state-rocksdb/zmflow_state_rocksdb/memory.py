"""``SlotMemory``: the memory that all databases of a worker process share.

Flink's rules divide it: a third is the most that databases may hold unwritten, and counts against the cache
of blocks, which has the rest. A part is taken off first for the Python objects that are kept in front.
"""

from __future__ import annotations

import threading
from typing import ClassVar
from weakref import WeakSet

from rocksdict import Cache, WriteBufferManager

__all__ = ["MEMORY_DEFAULT_BYTES", "SlotMemory"]

MEMORY_DEFAULT_BYTES = 128 * 2**20
"""Where no managed memory was set aside: Flink's two write buffers of 64 MiB."""

MEMORY_MIN_BYTES = 4 * 2**20
"""With less, every write would make a file."""

OBJECTS_PART = 0.3
"""What is kept as Python objects. They are ten times as quick to reach as bytes in the cache, and take five
times the room."""

WRITE_BUFFER_RATIO = 0.5
"""Flink's ``state.backend.rocksdb.memory.write-buffer-ratio``; the cache is divided so that both fit."""

WRITE_BUFFER_MAX_BYTES = 64 * 2**20
"""Flink's size of one write buffer."""


class SlotMemory:
    """One for all backends that live in this process; the first one says how much there is.

    Args:
        size_bytes: of all together.
    """

    _shared: ClassVar[SlotMemory | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, size_bytes: int) -> None:
        size = max(size_bytes or MEMORY_DEFAULT_BYTES, MEMORY_MIN_BYTES)
        self._objects_bytes = int(size * OBJECTS_PART)
        native = size - self._objects_bytes
        buffers = int(2 * native * WRITE_BUFFER_RATIO / 3)
        self._users: WeakSet[object] = WeakSet()  # one that nobody closes counts no longer than it lives
        self.cache = Cache(int((3 - WRITE_BUFFER_RATIO) * native / 3))
        self.buffers = WriteBufferManager.new_write_buffer_manager_with_cache(buffers, False, self.cache)
        # A buffer allocates an eighth of itself at once; half of all makes two fit, as one is being written.
        self.buffer_bytes = min(WRITE_BUFFER_MAX_BYTES, buffers // 2)

    @classmethod
    def acquire(cls, user: object, size_bytes: int) -> SlotMemory:
        """The memory of this process, for one more backend; to be released."""
        with cls._lock:
            shared = cls._shared
            if shared is None or not shared._users:
                shared = cls._shared = cls(size_bytes)
            shared._users.add(user)
            return shared

    def release(self, user: object) -> None:
        """A backend ends."""
        with self._lock:
            self._users.discard(user)

    @property
    def objects_bytes(self) -> int:
        """What one backend may keep as Python objects now: its share among those that live."""
        return self._objects_bytes // max(1, len(self._users))
