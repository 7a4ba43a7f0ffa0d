"""Logs: one JSON object per line and process, readable lines on the console, the task named in each.

Every process writes one file under its log directory (``jobmanager.jsonl``, ``taskmanager-<id>.jsonl``,
``tasks/<job>/<allocation>.jsonl``). What a thread logs while it runs a task carries ``job``, ``vertex``,
``subtask`` and ``attempt``; so does what user code prints, line by line, and what it gives to ``logging``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from structlog.contextvars import bound_contextvars, get_contextvars

__all__ = [
    "LOG_FILE_SIZE_MAX_BYTES",
    "configure_logging",
    "flush_output",
    "get_logger",
    "redirect_output",
    "task_context",
]

LOG_FILE_SIZE_MAX_BYTES: Final = 16 * 2**20
"""A file of this size is renamed to ``<name>.1`` and begun anew, so a process keeps at most twice as
much: a day of a chatty daemon, and a printing job cannot fill the disk."""

LINE_LENGTH_MAX: Final = 64 * 2**10
"""Characters of one line of output; what prints more without a newline is cut into lines of this length."""

_LEVELS: Final[Mapping[str, int]] = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
_encode = msgspec.json.Encoder(enc_hook=repr, decimal_format="string").encode


class _LogFile:
    """Appends whole lines to a file of bounded size; without a path, drops them."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._fd = -1
        self._size_bytes = 0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open(path)

    def _open(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size_bytes = os.fstat(self._fd).st_size

    def write(self, line: bytes) -> None:
        if self.path is None:
            return
        with self._lock:
            if self._size_bytes + len(line) > LOG_FILE_SIZE_MAX_BYTES and self._size_bytes:
                os.close(self._fd)
                self.path.replace(self.path.with_name(self.path.name + ".1"))
                self._open(self.path)
            # A full disk must not fail the job for the sake of its log.
            with contextlib.suppress(OSError):
                self._size_bytes += os.write(self._fd, line)

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd, self.path = -1, None


class _State:
    """Where this process logs to."""

    file = _LogFile(None)
    level = 20
    console = False
    process = ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _console_line(entry: Mapping[str, object]) -> str:
    fields = " ".join(
        f"{key}={value}"
        for key, value in entry.items()
        if key not in ("timestamp", "level", "process", "event", "exception")
    )
    clock = str(entry["timestamp"])[11:23]
    text = f"{clock} {str(entry['level']).upper():<7} {entry['process']}: {entry['event']}"
    text = f"{text}  [{fields}]" if fields else text
    return f"{text}\n{entry['exception']}" if "exception" in entry else text


def _write_entry(level: str, event: str, fields: Mapping[str, object]) -> None:
    entry = {"timestamp": _now(), "level": level, "process": _State.process, "event": event, **fields}
    try:
        line = _encode(entry)
    except (TypeError, ValueError, UnicodeEncodeError):
        line = _encode({key: repr(value) for key, value in entry.items()})
    _State.file.write(line + b"\n")
    if _State.console and sys.__stderr__ is not None:
        with contextlib.suppress(OSError, ValueError):
            print(_console_line(entry), file=sys.__stderr__, flush=True)


class _Writer:
    """The end of structlog's chain: takes what is left of an entry."""

    def __getattr__(self, _level: str) -> _Writer:
        return self

    def __call__(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        _write_entry(level, event, fields)


def _deliver(
    _logger: object, level: str, entry: MutableMapping[str, Any]
) -> tuple[tuple[object, ...], dict[str, object]]:
    event = str(entry.pop("event", ""))
    return (level, event, dict(entry)), {}


def _drop_by_level(_logger: object, level: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if _LEVELS.get("ERROR" if level in ("exception", "critical") else level.upper(), 20) < _State.level:
        raise structlog.DropEvent
    return entry


def get_logger(**fields: str | int) -> structlog.typing.FilteringBoundLogger:
    """A structlog logger whose lines carry these fields; usable before ``configure_logging``."""
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        _Writer(),
        processors=[
            _drop_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            _deliver,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        cache_logger_on_first_use=False,
    )
    return logger.bind(**fields)


def _log_to(path: Path | None) -> None:
    before = _State.file
    if path is None or path != before.path:
        _State.file = _LogFile(path)
        before.close()


class _StandardLibraryHandler(logging.Handler):
    """Brings what user code gives to ``logging`` into the same file."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: dict[str, object] = {"logger": record.name, **get_contextvars()}
            if record.exc_info:
                fields["exception"] = logging.Formatter().formatException(record.exc_info)
            _write_entry(record.levelname.lower(), record.getMessage(), fields)
        except Exception:  # noqa: BLE001  logging's own contract: a bad record must not break its caller
            self.handleError(record)


def configure_logging(process: str, log_dir: Path | None, level: str = "INFO", console: bool = False) -> None:
    """Send what this process logs to ``log_dir/<process>.jsonl``, and to standard error with ``console``.

    Args:
        process: the name in each line and of the file: ``jobmanager``, ``taskmanager-<id>``, an allocation.
        log_dir: made when missing. None writes no file.
        level: least severe level that is logged: DEBUG, INFO, WARNING, ERROR.
        console: also write readable lines to standard error.
    """
    _log_to(None if log_dir is None else log_dir / f"{process}.jsonl")
    _State.level = _LEVELS[level]
    _State.console = console
    _State.process = process


@contextlib.contextmanager
def task_context(*, job_id: str, vertex: str, subtask: int, attempt: int) -> Iterator[None]:
    """What this thread logs and prints inside is this task's. Ends with its unfinished line written."""
    with bound_contextvars(job=job_id, vertex=vertex, subtask=subtask, attempt=attempt):
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, _TaskOutput):
                    stream.end_line()


class _BytesOutput(io.RawIOBase):
    """``sys.stdout.buffer`` of a worker."""

    def __init__(self, text: _TaskOutput) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._text.write(bytes(data).decode("utf-8", "replace"))
        return len(data)


class _TaskOutput(io.TextIOBase):
    """A stream that makes each completed line a log line of the task that printed it.

    Each thread has its own unfinished line, so tasks that print in pieces do not mix.
    """

    def __init__(self, name: str, level: str, echo_fd: int) -> None:
        self._name = name
        self._level = level
        self._echo_fd = echo_fd
        self._unfinished: dict[int, str] = {}
        self._fields = {"stream": name}
        self.buffer = _BytesOutput(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        thread = threading.get_ident()
        lines = (self._unfinished.get(thread, "") + text).split("\n")
        rest = lines.pop()
        while len(rest) > LINE_LENGTH_MAX:
            lines.append(rest[:LINE_LENGTH_MAX])
            rest = rest[LINE_LENGTH_MAX:]
        self._unfinished[thread] = rest
        if lines:
            self._emit(lines)
        return len(text)

    def _emit(self, lines: list[str]) -> None:
        head = {"timestamp": _now(), "level": self._level, "process": _State.process}
        tail = {**self._fields, **get_contextvars()}
        data = b"".join(
            _encode({**head, "event": line.encode("utf-8", "replace").decode(), **tail}) + b"\n"
            for line in lines
        )
        _State.file.write(data)
        if self._echo_fd >= 0:
            _write_all(self._echo_fd, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))

    def end_line(self) -> None:
        """Write this thread's unfinished line."""
        rest = self._unfinished.pop(threading.get_ident(), "")
        if rest:
            self._emit([rest])

    def end_all_lines(self) -> None:
        """Write the unfinished lines of every thread."""
        while self._unfinished:
            _, rest = self._unfinished.popitem()
            if rest:
                self._emit([rest])


def _write_all(fd: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:  # the terminal or pipe is gone; the log has the lines
        return


def redirect_output(log_path: Path | None, echo: bool) -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` of this worker write log lines, and take over ``logging``.

    Everything this process logs goes to ``log_path`` from now on; None keeps the file it has. With
    ``echo``, lines also go to the inherited standard output and error: the embedded cluster's terminal.
    """
    if log_path is not None:
        _log_to(log_path)
    sys.stdout = _TaskOutput("stdout", "info", 1 if echo else -1)
    sys.stderr = _TaskOutput("stderr", "warning", 2 if echo else -1)
    root = logging.getLogger()
    root.handlers = [_StandardLibraryHandler()]
    root.setLevel(_State.level)


def flush_output() -> None:
    """Write every unfinished line; called before a worker exits."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _TaskOutput):
            stream.end_all_lines()
        elif stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
