"""The one table of settings, and where each value comes from.

Order, later wins: default, settings file (``zmflow.toml``), environment (``ZMFLOW_...``), ``-D key=value``
on the command line, what the program sets on its ``Configuration``. Keys are Flink's where Flink has the
setting; anything else is refused with the closest known key.

The settings file is TOML with the same dotted keys, as tables or quoted. It is looked for in
``$ZMFLOW_CONFIG``, ``./zmflow.toml``, ``~/.config/zmflow/zmflow.toml`` and ``/etc/zmflow/zmflow.toml``; the
first that exists is the one that counts. The environment variable of a key is ``ZMFLOW_`` and the key in
capitals with ``_`` for dots and dashes: ``ZMFLOW_HEARTBEAT_TIMEOUT="2 s"``.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from zmflow.errors import ConfigurationError

__all__ = ["OPTIONS", "Option", "SettingValue", "Settings", "load_settings", "option_for"]

T = TypeVar("T")

SETTINGS_FILE_SIZE_MAX_BYTES = 1 << 20
"""A settings file of every key is some 10 KiB; a larger file than this is not a settings file."""


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """One setting: its key, its default as text, how text becomes a value, what it means."""

    key: str
    default_text: str
    kind: str
    parse: Callable[[str], T]
    doc: str

    @property
    def environment_variable(self) -> str:
        """``ZMFLOW_`` and the key in capitals, dots and dashes as underscores."""
        return "ZMFLOW_" + re.sub(r"[.-]", "_", self.key).upper()

    def read(self, text: str, where: str) -> T:
        """The value of this text; an error names the key, the place and what is allowed."""
        try:
            return self.parse(text)
        except ValueError as error:
            raise ConfigurationError(
                f"The setting {self.key} is not {self.kind}: {text!r}.",
                detail=f"From {where}. {error}".rstrip(),
                hint=f"{self.doc} Default: {self.default_text or 'empty'}.",
            ) from None


_UNITS_MS = {
    "ms": 1,
    "s": 1000,
    "sec": 1000,
    "second": 1000,
    "seconds": 1000,
    "m": 60_000,
    "min": 60_000,
    "minute": 60_000,
    "minutes": 60_000,
    "h": 3_600_000,
    "hour": 3_600_000,
    "hours": 3_600_000,
    "d": 86_400_000,
}
_UNITS_BYTES = {
    "b": 1,
    "bytes": 1,
    "k": 2**10,
    "kb": 2**10,
    "kib": 2**10,
    "m": 2**20,
    "mb": 2**20,
    "mib": 2**20,
    "g": 2**30,
    "gb": 2**30,
    "gib": 2**30,
}


def _quantity(text: str, units: Mapping[str, int]) -> int:
    match = re.fullmatch(r"\s*(\d+)\s*([a-zA-Z]*)\s*", text)
    unit = match[2].lower() if match else ""
    if not match or (unit and unit not in units):
        raise ValueError("Write a whole number and a unit: " + ", ".join(units) + ".")
    return int(match[1]) * (units[unit] if unit else 1)


def _duration(key: str, default: str, doc: str) -> Option[int]:
    def parse(text: str) -> int:
        return -1 if text.strip() == "-1" else _quantity(text, _UNITS_MS)

    return Option(key, default, "a duration", parse, doc)


def _size(key: str, default: str, doc: str) -> Option[int]:
    return Option(key, default, "a size", lambda text: _quantity(text, _UNITS_BYTES), doc)


def _integer(key: str, default: str, doc: str, *, least: int = 0, most: int = 2**31 - 1) -> Option[int]:
    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError(f"Allowed: {least} to {most}.")
        return value

    return Option(key, default, "a whole number in its range", parse, doc)


def _text(key: str, default: str, doc: str) -> Option[str]:
    return Option(key, default, "text", lambda text: text, doc)


def _choice(key: str, default: str, doc: str, allowed: tuple[str, ...]) -> Option[str]:
    def parse(text: str) -> str:
        for value in allowed:
            if text.strip().lower() == value.lower():
                return value
        raise ValueError("Allowed: " + ", ".join(allowed) + ".")

    return Option(key, default, "one of its values", parse, doc)


def _boolean(key: str, default: str, doc: str) -> Option[bool]:
    def parse(text: str) -> bool:
        lowered = text.strip().lower()
        if lowered in ("true", "yes", "on", "1"):
            return True
        if lowered in ("false", "no", "off", "0"):
            return False
        raise ValueError("Allowed: true, false.")

    return Option(key, default, "true or false", parse, doc)


# -- jobs -----------------------------------------------------------------------------------------
PARALLELISM_DEFAULT = _integer(
    "parallelism.default",
    "0",
    "Parallelism of operators that set none; 0 is the CPU cores (embedded) or 1 (cluster).",
    most=32768,
)
MAX_PARALLELISM = _integer(
    "pipeline.max-parallelism",
    "0",
    "Key groups of operators that set none; 0 derives it from the parallelism (128 to 32768).",
    most=32768,
)
OPERATOR_CHAINING = _boolean("pipeline.operator-chaining.enabled", "true", "Fuse operators into chains.")
JOB_NAME = _text("pipeline.name", "zmflow job", "Name of jobs whose execute() gives none.")
RUNTIME_MODE = _choice(
    "execution.runtime-mode",
    "STREAMING",
    "STREAMING emits every update of a keyed aggregate, BATCH the last one of each key.",
    ("STREAMING", "BATCH"),
)
BUFFER_TIMEOUT = _duration(
    "execution.buffer-timeout.interval",
    "100 ms",
    "Longest time a record waits in a frame that is not full; 0 sends every record, -1 only full frames.",
)
EXECUTION_TARGET = _choice(
    "execution.target",
    "auto",
    "Where jobs run: embedded, remote, or auto: remote when jobmanager.rpc.address is set.",
    ("auto", "embedded", "remote"),
)
PYTHON_FILES = _text(
    "python.files", "", "Modules, packages and zip archives to ship with jobs, comma separated."
)
TASK_CANCELLATION_TIMEOUT = _duration(
    "task.cancellation.timeout",
    "5 s",
    "How long a cancelled task may take before its worker is killed. Flink waits 180 s because a kill "
    "takes the whole TaskManager with it; here it ends one job's slot.",
)
# -- addresses ------------------------------------------------------------------------------------
JOBMANAGER_ADDRESS = _text(
    "jobmanager.rpc.address", "", "Host of the JobManager; empty means none is configured."
)
JOBMANAGER_PORT = _integer(
    "jobmanager.rpc.port", "6123", "Control port of the JobManager; 0 chooses a free one.", most=65535
)
JOBMANAGER_BIND_HOST = _text("jobmanager.bind-host", "127.0.0.1", "Address the JobManager binds.")
TASKMANAGER_HOST = _text(
    "taskmanager.host", "", "Name under which others reach this TaskManager; empty: its bind host."
)
TASKMANAGER_BIND_HOST = _text(
    "taskmanager.bind-host", "127.0.0.1", "Address the data plane of slot workers binds."
)
CURVE_KEY_FILE = _text(
    "security.curve.key-file",
    "",
    "Key file of the cluster, made by 'zmflow keygen'; needed to bind anything but loopback.",
)
# -- slots ----------------------------------------------------------------------------------------
TASK_SLOTS = _integer(
    "taskmanager.numberOfTaskSlots",
    "0",
    "Slots a TaskManager offers; 0 is the number of CPU cores.",
    most=4096,
)
LOAD_BALANCE_MODE = _choice(
    "taskmanager.load-balance.mode",
    "slots",
    "slots spreads a job over the TaskManagers, none fills one before the next.",
    ("slots", "none"),
)
SLOT_REQUEST_TIMEOUT = _duration(
    "slot.request.timeout", "5 min", "How long a job waits for the slots it needs before it fails."
)
HEARTBEAT_INTERVAL = _duration("heartbeat.interval", "1 s", "Time between heartbeats.")
HEARTBEAT_TIMEOUT = _duration(
    "heartbeat.timeout", "5 s", "Silence after which a TaskManager or JobManager is gone."
)
WORKER_START_TIMEOUT = _duration(
    "taskmanager.worker.start-timeout", "30 s", "How long a slot worker may take to start."
)
# -- data plane -----------------------------------------------------------------------------------
SEGMENT_SIZE = _size("taskmanager.memory.segment-size", "32 KiB", "Size at which a frame is full.")
BUFFERS_PER_CHANNEL = _integer(
    "taskmanager.network.memory.buffers-per-channel",
    "2",
    "Exclusive credits of each channel.",
    least=1,
    most=1024,
)
FLOATING_BUFFERS_PER_GATE = _integer(
    "taskmanager.network.memory.floating-buffers-per-gate",
    "62",
    "Credits the channels of a gate share by backlog. Flink has 8; with 62 a busy channel sends eight "
    "frames at once, which doubles its rate.",
    most=65536,
)
MAX_BUFFERS_PER_CHANNEL = _integer(
    "taskmanager.network.memory.max-buffers-per-channel",
    "10",
    "Frames a producer may have waiting for one consumer, whatever the number of consumers.",
    least=1,
    most=65536,
)
FLOATING_BUFFERS_PER_PARTITION = _integer(
    "taskmanager.network.memory.floating-buffers-per-partition",
    "54",
    "Further waiting frames of a result partition, divided equally among its consumers.",
    most=65536,
)
COMPRESSION_CODEC = _choice(
    "taskmanager.network.compression.codec",
    "auto",
    "auto compresses on tcp and not on ipc; lz4 compresses always; none never.",
    ("auto", "lz4", "none"),
)
# -- client and files -----------------------------------------------------------------------------
CLIENT_TIMEOUT = _duration("client.timeout", "10 s", "How long a client waits for the JobManager.")
LOG_DIR = _text(
    "env.log.dir",
    "",
    "Directory of log files; empty: for daemons logs/ in env.run.dir or, without it, in "
    "$XDG_STATE_HOME/zmflow (~/.local/state/zmflow); for the embedded cluster a directory that goes with it.",
)
LOG_LEVEL = _choice(
    "env.log.level", "INFO", "Least severe level that is logged.", ("DEBUG", "INFO", "WARNING", "ERROR")
)
RUN_DIR = _text(
    "env.run.dir", "", "Directory of sockets, pids and temporary files; empty: a new one in /tmp."
)

OPTIONS: dict[str, Option[Any]] = {
    value.key: value for value in list(globals().values()) if isinstance(value, Option)
}
"""Every setting by its key, in the order of the reference."""


def option_for(key: str, where: str) -> Option[Any]:
    """The option with this key.

    Raises:
        ConfigurationError: there is none; names the place and the closest key.
    """
    option = OPTIONS.get(key)
    if option is not None:
        return option
    close = difflib.get_close_matches(key, OPTIONS, n=1, cutoff=0.5)
    raise ConfigurationError(
        f"There is no setting {key!r}.",
        detail=f"From {where}.",
        hint=(f"Did you mean {close[0]}? " if close else "") + "'zmflow config' lists every setting.",
    )


@dataclass(frozen=True, slots=True)
class SettingValue:
    """The text of a setting and the place it came from."""

    text: str
    where: str


class Settings:
    """Resolved settings: typed values by option, texts by key, and where each came from.

    >>> settings = Settings().with_values({"heartbeat.timeout": "2 s"}, "-D")
    >>> settings[HEARTBEAT_TIMEOUT], settings[HEARTBEAT_INTERVAL]
    (2000, 1000)
    """

    def __init__(self, values: Mapping[str, SettingValue] | None = None) -> None:
        self._values: dict[str, SettingValue] = dict(values or {})
        self._parsed: dict[str, Any] = {}

    def __getitem__(self, option: Option[T]) -> T:
        if option.key not in self._parsed:
            value = self.value_of(option)
            self._parsed[option.key] = option.read(value.text, value.where)
        parsed: T = self._parsed[option.key]
        return parsed

    def value_of(self, option: Option[Any]) -> SettingValue:
        """The text and origin of an option; its default when nothing set it."""
        return self._values.get(option.key) or SettingValue(option.default_text, "default")

    def is_set(self, option: Option[Any]) -> bool:
        """Whether anything but the default decides this option."""
        return option.key in self._values

    def with_values(self, values: Mapping[str, str], where: str) -> Settings:
        """These settings under the given ones. Unknown keys and wrong values are refused."""
        merged = dict(self._values)
        for key, text in values.items():
            option_for(key, where).read(text, where)
            merged[key] = SettingValue(text, where)
        return Settings(merged)

    def texts(self) -> dict[str, str]:
        """What was set, as text by key: what travels to other processes."""
        return {key: value.text for key, value in sorted(self._values.items())}

    def __iter__(self) -> Iterator[tuple[Option[Any], SettingValue]]:
        """Every option with its value, defaults included."""
        return iter([(option, self.value_of(option)) for option in OPTIONS.values()])


def _flatten(table: Mapping[str, Any], prefix: str, where: str) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _flatten(value, f"{key}.", where)
        elif isinstance(value, bool):
            yield key, "true" if value else "false"
        elif isinstance(value, (str, int)):
            yield key, str(value)
        else:
            raise ConfigurationError(
                f"The setting {key} has a value of type {type(value).__name__}.",
                detail=f"From {where}.",
                hint="Settings are text, whole numbers or true and false.",
            )


def _settings_file(environment: Mapping[str, str]) -> Path | None:
    named = environment.get("ZMFLOW_CONFIG")
    if named:
        if not Path(named).is_file():
            raise ConfigurationError("The settings file named by ZMFLOW_CONFIG does not exist.", detail=named)
        return Path(named)
    places = [
        Path("zmflow.toml"),
        Path(environment.get("HOME", "/")) / ".config/zmflow/zmflow.toml",
        Path("/etc/zmflow/zmflow.toml"),
    ]
    return next((place for place in places if place.is_file()), None)


def read_settings_file(path: Path) -> dict[str, str]:
    """Keys and texts of a settings file.

    Raises:
        ConfigurationError: too large, unreadable, not TOML, or a value of a wrong type.
    """
    try:
        if path.stat().st_size > SETTINGS_FILE_SIZE_MAX_BYTES:
            raise ConfigurationError(
                "The settings file is too large to be one.",
                detail=f"{path}: {path.stat().st_size} bytes.",
            )
        return dict(_flatten(tomllib.loads(path.read_text(encoding="utf-8")), "", str(path)))
    except (OSError, ValueError, RecursionError) as error:
        # ValueError: not UTF-8, not TOML, or a number of more digits than Python converts.
        raise ConfigurationError("The settings file cannot be read.", detail=f"{path}: {error}") from None


_NOT_SETTINGS = frozenset({"ZMFLOW_CONFIG"})


def load_settings(
    overrides: Mapping[str, str] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """The settings of this process: defaults, file, environment, then ``overrides`` (``-D``).

    Raises:
        ConfigurationError: an unknown key or a wrong value, with the place it came from.
    """
    environment = os.environ if environment is None else environment
    settings = Settings()
    path = file or _settings_file(environment)
    if path is not None:
        settings = settings.with_values(read_settings_file(path), str(path))
    by_variable = {option.environment_variable: option.key for option in OPTIONS.values()}
    for variable in sorted(environment):
        if not variable.startswith("ZMFLOW_") or variable in _NOT_SETTINGS:
            continue
        if variable not in by_variable:
            close = difflib.get_close_matches(variable, by_variable, n=1, cutoff=0.5)
            raise ConfigurationError(
                f"The environment variable {variable} is not a setting.",
                hint=f"Did you mean {close[0]}?" if close else "'zmflow config' lists every setting.",
            )
        settings = settings.with_values(
            {by_variable[variable]: environment[variable]}, f"environment {variable}"
        )
    return settings.with_values(overrides or {}, "-D")
