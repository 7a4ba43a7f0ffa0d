"""State backends and checkpoint storages as PyFlink names them: what they say becomes settings."""

from __future__ import annotations

from enum import Enum

__all__ = [
    "CheckpointStorage",
    "DeliveryGuarantee",
    "EmbeddedRocksDBStateBackend",
    "FileSystemCheckpointStorage",
    "HashMapStateBackend",
    "JobManagerCheckpointStorage",
    "PredefinedOptions",
    "StateBackend",
]


class StateBackend:
    """Where keyed state is kept. Choose it with the setting ``state.backend.type``."""


class HashMapStateBackend(StateBackend):
    """State as objects in memory."""


class PredefinedOptions(Enum):
    """Which disks a backend on disk is tuned for."""

    DEFAULT = 0
    SPINNING_DISK_OPTIMIZED = 1
    SPINNING_DISK_OPTIMIZED_HIGH_MEM = 2
    FLASH_SSD_OPTIMIZED = 3


class EmbeddedRocksDBStateBackend(StateBackend):
    """State on the local disk."""

    def __init__(self, enable_incremental_checkpointing: bool | None = None) -> None:
        self._incremental = bool(enable_incremental_checkpointing)
        self._paths: tuple[str, ...] = ()
        self._predefined = PredefinedOptions.DEFAULT
        self._options: str | None = None
        self._threads = 4

    def is_incremental_checkpoints_enabled(self) -> bool:
        """Whether checkpoints hold only what has changed."""
        return self._incremental

    def set_db_storage_paths(self, *paths: str) -> None:
        """Directories on local disks."""
        self._paths = paths

    def get_db_storage_paths(self) -> list[str] | None:
        """The directories, or None: the TaskManager's own."""
        return list(self._paths) or None

    def set_predefined_options(self, options: PredefinedOptions) -> None:
        """Choose what disks it is tuned for."""
        self._predefined = options

    def get_predefined_options(self) -> PredefinedOptions:
        """What disks it is tuned for."""
        return self._predefined

    def set_options(self, options_factory_class_name: str) -> None:
        """Kept: a Java class cannot be loaded."""
        self._options = options_factory_class_name

    def get_options(self) -> str | None:
        """What ``set_options`` was given."""
        return self._options

    def get_number_of_transfer_threads(self) -> int:
        """How many threads copy files of checkpoints."""
        return self._threads

    def set_number_of_transfer_threads(self, number_of_transfering_threads: int) -> None:
        """How many threads copy files of checkpoints."""
        self._threads = number_of_transfering_threads


class CheckpointStorage:
    """Where checkpoints go. Choose it with ``execution.checkpointing.dir``."""


class JobManagerCheckpointStorage(CheckpointStorage):
    """Checkpoints in the JobManager's memory, up to a size."""

    MAX_STATE_SIZE_DEFAULT_BYTES = 5 << 20
    """Flink's default: 5 MiB."""
    DEFAULT_MAX_STATE_SIZE = MAX_STATE_SIZE_DEFAULT_BYTES

    def __init__(self, checkpoint_path: str | None = None, max_state_size: int | None = None) -> None:
        self._path = checkpoint_path
        self._size = max_state_size or self.MAX_STATE_SIZE_DEFAULT_BYTES

    def get_checkpoint_path(self) -> str | None:
        """The directory of their metadata."""
        return self._path

    def get_max_state_size(self) -> int:
        """Bytes that the state of one operator may have."""
        return self._size


class FileSystemCheckpointStorage(CheckpointStorage):
    """Checkpoints as files in a directory that all machines see."""

    MAX_FILE_STATE_THRESHOLD = 1 << 20
    """The most that state in the metadata may have: 1 MiB."""

    def __init__(
        self,
        checkpoint_path: str,
        file_state_size_threshold: int | None = None,
        write_buffer_size: int | None = None,
    ) -> None:
        self._path = checkpoint_path
        self._threshold = file_state_size_threshold or 20 << 10
        self._buffer = write_buffer_size or 4 << 10

    def get_checkpoint_path(self) -> str:
        """The directory."""
        return self._path

    def get_min_file_size_threshold(self) -> int:
        """State smaller than so many bytes is written into the metadata."""
        return self._threshold

    def get_write_buffer_size(self) -> int:
        """Bytes that are written at once."""
        return self._buffer


class DeliveryGuarantee(Enum):
    """How often a sink's records arrive after a failure."""

    EXACTLY_ONCE = 0
    AT_LEAST_ONCE = 1
    NONE = 2
