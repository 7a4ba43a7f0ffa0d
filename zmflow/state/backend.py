"""``KeyedStateBackend``: where the keyed state of one operator lives. A plugin kind.

A plugin is a subclass, registered under a name in the entry-point group ``zmflow.state_backends``; a job
chooses it by ``state.backend.type``. ``zmflow.testing.state_backend_tests`` says and checks what must hold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias, TypeVar, overload

from zmflow.errors import ConfigurationError, StateError
from zmflow.plugins import load_plugin
from zmflow.state.chunks import KeyedChunk, chunks_of_group
from zmflow.state.descriptors import (
    AggregatingStateDescriptor,
    ListStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    StateDescriptor,
    ValueStateDescriptor,
)
from zmflow.state.keyed_states import (
    KeyedAggregatingState,
    KeyedListState,
    KeyedMapState,
    KeyedReducingState,
    KeyedState,
    KeyedValueState,
)
from zmflow.state.native_files import FrozenFiles, NativeRestore
from zmflow.state.snapshots import KeyGroupSnapshot

__all__ = [
    "API_VERSION",
    "BUILT_IN",
    "NO_KEY_GROUP",
    "BackendContext",
    "Capabilities",
    "Frozen",
    "FrozenState",
    "KeyedStateBackend",
    "load_state_backend",
]

API_VERSION = 1
"""The version of this interface. A backend written for another one is refused."""

NO_KEY_GROUP = -1
"""The current key group before the first key."""

ENTRY_POINT_GROUP = "zmflow.state_backends"
BUILT_IN = "hashmap"
"""The backend that is in zmflow itself: the heap."""

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
IN = TypeVar("IN")
ACC = TypeVar("ACC")
OUT = TypeVar("OUT")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do beyond the minimum.

    Args:
        ttl: state can expire. A backend that cannot refuses descriptors that ask for it.
        copies_values: values are kept as copies: changing one in place changes no state.
        native_files: it can be frozen to files and restored from them: checkpoints may be incremental.
    """

    ttl: bool = True
    copies_values: bool = False
    native_files: bool = False


@dataclass(frozen=True, slots=True)
class BackendContext:
    """What a task has for a backend that keeps state outside of Python's memory.

    Args:
        directory: files go into it. Its own worker uses it and nobody else; it need not exist yet. What is
        left
            there when the worker is killed is removed.
        memory_bytes: what all backends of the slot share; 0: nothing was set aside.
    """

    directory: str
    memory_bytes: int = 0


class FrozenState(ABC):
    """What a backend held at one moment; the state may change meanwhile. Read by another thread than the
    task's."""

    @abstractmethod
    def chunks(self) -> Iterator[KeyedChunk]:
        """All of it, by key group; each key and namespace in one chunk. Read once, one chunk at a time.

        The backend may be closed while this goes on: it may then fail.
        """

    @abstractmethod
    def close(self) -> None:
        """Give it back; called once or more often, also where it was not read."""


Frozen: TypeAlias = FrozenState | FrozenFiles
"""State of one moment, to be read, or in files."""


class KeyedStateBackend(ABC):
    """The keyed state of one subtask of one operator, by key group. Used by one thread.

    State follows the current key: operators set it before they call a function. ``current_key`` and
    ``current_key_group`` are plain attributes, because they are read for every access.

    Args:
        max_parallelism: how many key groups there are.
        key_groups: those of this subtask.
        processing_time: the clock, milliseconds since 1970: state expires by it.
    """

    api_version: ClassVar[int]
    capabilities: ClassVar[Capabilities]

    current_key: Any
    current_key_group: int

    def __init__(self, max_parallelism: int, key_groups: range, processing_time: Callable[[], int]) -> None:
        self.max_parallelism = max_parallelism
        self.key_groups = key_groups
        self.processing_time = processing_time
        self.current_key = None
        self.current_key_group = NO_KEY_GROUP

    @classmethod
    def for_task(
        cls,
        max_parallelism: int,
        key_groups: range,
        processing_time: Callable[[], int],
        context: BackendContext,  # noqa: ARG003 - of the interface
    ) -> Self:
        """A backend of a task. Override it to use what the task has for it."""
        return cls(max_parallelism, key_groups, processing_time)

    @abstractmethod
    def set_current_key(self, key: Any) -> None:
        """From now on state is that of this key.

        Raises:
            UnsupportedKeyError: the key has no stable hash. The current key stays.
            StateError: its key group is another subtask's. The current key stays.
        """

    @overload
    def get_state(self, descriptor: ValueStateDescriptor[T], namespace: Any = None) -> KeyedValueState[T]: ...
    @overload
    def get_state(self, descriptor: ListStateDescriptor[T], namespace: Any = None) -> KeyedListState[T]: ...
    @overload
    def get_state(
        self, descriptor: MapStateDescriptor[K, V], namespace: Any = None
    ) -> KeyedMapState[K, V]: ...
    @overload
    def get_state(
        self, descriptor: ReducingStateDescriptor[T], namespace: Any = None
    ) -> KeyedReducingState[T]: ...
    @overload
    def get_state(
        self, descriptor: AggregatingStateDescriptor[IN, ACC, OUT], namespace: Any = None
    ) -> KeyedAggregatingState[IN, OUT]: ...
    @overload
    def get_state(self, descriptor: StateDescriptor, namespace: Any = None) -> KeyedState: ...
    def get_state(self, descriptor: StateDescriptor, namespace: Any = None) -> Any:
        """The state that a descriptor declares: a new object, which the caller keeps.

        With a namespace the state holds one thing for each key and namespace, and the object begins with this
        one. A name may stand for a state with namespaces and for one without: they share nothing.

        Raises:
            StateError: there is a state of this name that is of another kind or expires otherwise.
        """
        return self.create_state(descriptor, namespace)

    @abstractmethod
    def create_state(self, descriptor: StateDescriptor, namespace: Any) -> KeyedState:
        """What ``get_state`` returns: a state of the descriptor's kind."""

    @abstractmethod
    def keys(self, state_name: str, namespace: Any = None) -> Iterator[Any]:
        """The keys that hold something in a state, by key group; without those of other namespaces.

        State may change and the current key may be set while this goes on: keys that get something meanwhile
        may be missing. What has expired and is not cleaned up yet counts as held.
        """

    @abstractmethod
    def snapshot(self, group: int) -> KeyGroupSnapshot:
        """What a key group holds now."""

    @abstractmethod
    def restore(self, group: int, snapshot: KeyGroupSnapshot) -> None:
        """Let a key group hold exactly this. Before or after ``get_state``; state objects stay valid.

        Raises:
            StateError: the snapshot is of another key group, the group is another subtask's, or a state that
                is in use is of another kind in it.
        """

    def chunks(self, group: int) -> list[KeyedChunk]:
        """What a key group holds, to be pickled at once: nothing of it needs to be copied."""
        return chunks_of_group(self.snapshot(group))

    def entry_count(self) -> int:
        """About how many entries ``snapshot`` copies out of this process's memory, over all key groups: how
        long a checkpoint would hold the task up goes by it. 0 where a snapshot takes no time."""
        return 0

    def freeze(self) -> FrozenState | None:
        """What all key groups hold now, to be written to a checkpoint while the state changes; must be quick.

        None: it is asked for by ``chunks``, before the task goes on.
        """
        return None

    def freeze_files(self) -> FrozenFiles | None:
        """The same as files, for an incremental checkpoint. None: ``freeze`` is asked instead."""
        return None

    def restore_files(self, parts: Sequence[NativeRestore]) -> None:  # noqa: ARG002 - of the interface
        """Hold what these files say of the key groups of this backend. Called once, before anything else.

        A single part with exactly these key groups is gone on with as it is, and told so: its next files are
        more of the same. Of others the entries in range are copied.

        Raises:
            StateError: they are damaged, or cannot be opened here.
        """
        raise StateError(
            f"{type(self).__name__} has no files to be restored from.",
            hint="Restore from a savepoint: any backend can read it.",
        )

    def close(self) -> None:  # noqa: B027 - may be left as it is
        """Called once, at the end: give back what the backend holds outside this process."""


def load_state_backend(name: str) -> type[KeyedStateBackend]:
    """The backend of this name.

    Raises:
        ConfigurationError: there is none, it is no state backend, or one for another version of zmflow.
    """
    if name == BUILT_IN:
        # Not looked up: walking over all installed packages would take longer than a task takes to start.
        from zmflow.state.heap import HeapKeyedStateBackend

        return HeapKeyedStateBackend
    plugin = load_plugin(ENTRY_POINT_GROUP, name)
    if not (isinstance(plugin, type) and issubclass(plugin, KeyedStateBackend)):
        raise ConfigurationError(
            f"The plugin {name!r} of {ENTRY_POINT_GROUP} is no state backend.",
            detail=repr(plugin),
            hint="It must be a subclass of zmflow.state.backend.KeyedStateBackend.",
        )
    if plugin.api_version != API_VERSION:
        raise ConfigurationError(
            f"The state backend {name!r} is written for version {plugin.api_version} of the interface.",
            detail=f"This zmflow has version {API_VERSION}.",
            hint="Install a release of the plugin that fits this release of zmflow.",
        )
    return plugin
