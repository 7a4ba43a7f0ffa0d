"""The calls of an environment that are settings: configuration, checkpoints, dependencies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from zmflow.api.checkpoint_config import CheckpointConfig, CheckpointingMode
from zmflow.api.configuration import Configuration
from zmflow.api.execution_config import ExecutionConfig
from zmflow.api.notices import notice_once
from zmflow.api.operator_properties import checked_parallelism
from zmflow.api.shipping import CachedFile, new_cached_file
from zmflow.config import Settings
from zmflow.errors import ConfigurationError, JobGraphError

__all__ = ["EnvironmentSettings"]

_SAVEPOINTS = "execution.checkpointing.savepoint-dir"
_CHANGELOG = "state.changelog.enabled"
_LOCAL_PARALLELISM = "execution.local.parallelism"


class EnvironmentSettings:
    """What ``StreamExecutionEnvironment`` has beside its streams and jobs."""

    _settings: Settings
    _kept: dict[str, str]
    _py_files: list[Path]
    _cached_files: dict[str, CachedFile]

    def get_config(self) -> ExecutionConfig:
        """How the jobs of this environment run."""
        return ExecutionConfig(self)

    def get_configuration(self) -> Configuration:
        """A copy of everything that is set, here, in the settings file and on the command line."""
        return Configuration.from_dict(self._settings.texts())

    # -- checkpoints ----------------------------------------------------------------------------

    def get_checkpoint_config(self) -> CheckpointConfig:
        """When and how the jobs of this environment are snapshotted."""
        return CheckpointConfig(self)

    def enable_checkpointing(self, interval: int, mode: CheckpointingMode | None = None) -> Self:
        """Take checkpoints.

        Args:
            interval: milliseconds from one to the next.
            mode: whether each record counts once or at least once.
        """
        config = self.get_checkpoint_config()
        config.set_checkpoint_interval(interval)
        if mode is not None:
            config.set_checkpointing_mode(mode)
        return self

    def get_checkpoint_interval(self) -> int:
        """Milliseconds between checkpoints; -1: there are none."""
        return self.get_checkpoint_config().get_checkpoint_interval()

    def get_checkpointing_mode(self) -> CheckpointingMode:
        """Whether each record counts once or at least once."""
        return self.get_checkpoint_config().get_checkpointing_mode()

    def get_checkpointing_consistency_mode(self) -> CheckpointingMode:
        """The checkpointing mode, by its newer name."""
        return self.get_checkpoint_config().get_checkpointing_consistency_mode()

    def is_unaligned_checkpoints_enabled(self) -> bool:
        """Whether barriers overtake records."""
        return self.get_checkpoint_config().is_unaligned_checkpoints_enabled()

    def is_force_unaligned_checkpoints(self) -> bool:
        """Whether checkpoints are unaligned where that is experimental."""
        return self.get_checkpoint_config().is_force_unaligned_checkpoints()

    def enable_changelog_state_backend(self, enabled: bool) -> Self:
        """Write changes of state to a log between checkpoints."""
        self.get_config()._set(_CHANGELOG, "true" if enabled else "false")
        return self

    def is_changelog_state_backend_enabled(self) -> bool | None:
        """Whether changes of state are logged; None where nothing was said."""
        return self.get_config()._boolean(_CHANGELOG, False) if _CHANGELOG in self._kept else None

    def set_default_savepoint_directory(self, directory: str) -> Self:
        """Where savepoints go that name no place."""
        self.get_config()._set(_SAVEPOINTS, directory)
        return self

    def get_default_savepoint_directory(self) -> str | None:
        """Where savepoints go that name no place."""
        return self.get_config()._text(_SAVEPOINTS, "") or None

    # -- parallelism and chaining ---------------------------------------------------------------

    def get_default_local_parallelism(self) -> int:
        """The parallelism of environments without a cluster that set none: the CPU cores."""
        return self.get_config()._integer(_LOCAL_PARALLELISM, 0) or len(os.sched_getaffinity(0))

    def set_default_local_parallelism(self, parallelism: int) -> None:
        """Parallelism of operators that set none, where jobs run on the embedded cluster."""
        number = checked_parallelism(parallelism, "The default local parallelism")
        self.get_config().set_parallelism(number)
        self._kept[_LOCAL_PARALLELISM] = str(number)

    def is_chaining_of_operators_with_different_max_parallelism_enabled(self) -> bool:
        """Whether operators with different max parallelism may be in one chain."""
        key = "pipeline.operator-chaining.chain-operators-with-different-max-parallelism"
        return self.get_config()._boolean(key, True)

    # -- dependencies ---------------------------------------------------------------------------

    def add_python_archive(self, archive_path: str, target_dir: str | None = None) -> None:
        """Ship an archive of modules with the jobs of this environment; it is put on the import path.

        Raises:
            ConfigurationError: a directory is named to unpack it to, which no worker does.
        """
        if target_dir is not None:
            raise ConfigurationError(
                "Archives are not unpacked on workers.",
                detail=f"{archive_path} into {target_dir}",
                hint="Ship modules with add_python_file(); put data on every machine.",
            )
        self._py_files.append(Path(archive_path))

    def register_cached_file(
        self, file_path: str | os.PathLike[str], name: str, executable: bool = False
    ) -> None:
        """Ship a file or a directory with the jobs of this environment, once to each TaskManager.

        Functions find it with ``runtime_context.get_distributed_cache().get_file(name)``, to read and not to
        write. What travels is what is there when a job is submitted.

        Args:
            file_path: a path of this machine.
            name: what functions call it.
            executable: make it, or every file of the directory, executable.

        Raises:
            JobGraphError: there is no such file, it is too large, or the name is taken.

        >>> env.register_cached_file("words.txt", "words")  # doctest: +SKIP
        """
        taken = self._cached_files.get(name)
        if taken is not None:
            raise JobGraphError(
                f"A cached file {name!r} is registered already.",
                detail=f"It is {taken.path}; now {os.fspath(file_path)} was given.",
                hint="Give each file its own name.",
            )
        self._cached_files[name] = new_cached_file(file_path, name, executable)

    def set_python_requirements(
        self, requirements_file_path: str, requirements_cache_dir: str | None = None
    ) -> None:
        """Accepted: workers run the interpreter of their TaskManager, with what is installed there."""
        told = requirements_file_path + (f" and {requirements_cache_dir}" if requirements_cache_dir else "")
        notice_once(
            "set_python_requirements",
            f"Workers install nothing: {told} must be installed where the TaskManagers run. "
            "Pure Python packages can be shipped with add_python_file().",
        )

    def set_python_executable(self, python_exec: str) -> None:
        """Accepted: workers run the interpreter of their TaskManager."""
        notice_once(
            "set_python_executable",
            f"Workers run the interpreter of their TaskManager, not {python_exec}: start it with that one.",
        )

    def add_jars(self, *jars_path: str) -> None:
        """Accepted: no JVM is needed, and nothing in a JAR can be used."""
        _no_jvm("add_jars()", jars_path)

    def add_classpaths(self, *classpaths: str) -> None:
        """Accepted: no JVM is needed, and nothing in a JAR can be used."""
        _no_jvm("add_classpaths()", classpaths)


def _no_jvm(call: str, paths: tuple[str, ...]) -> None:
    notice_once(
        "jars", f"zmflow needs no JVM: {call} is accepted, and {', '.join(paths) or 'nothing'} is not loaded."
    )
