"""A source that reads lines of text from a socket: for trying things out, at most once."""

from __future__ import annotations

import codecs
import logging
import socket
import time
from collections.abc import Sequence
from typing import TypeAlias

from zmflow.api.functions import RuntimeContext
from zmflow.api.sources import EndOfInput, Source, SourceReader, SplitEnumerator, SplitEnumeratorContext
from zmflow.errors import ConnectorError

__all__ = ["SocketSplit", "SocketTextSource"]

_log = logging.getLogger(__name__)

RETRY_DELAY_S = 0.5
"""Between two attempts to connect: Flink's, half a second."""

WAIT_S = 0.02
"""How long a reader waits for bytes before its task looks after its timers and buffers: a fifth of the buffer
timeout, so that rows which wait in a frame are hardly later for it."""

CONNECT_TIMEOUT_S = 5.0
"""A server on the same network answers within milliseconds; a task that is cancelled meanwhile should not
outlive ``task.cancellation.timeout`` for it."""

READ_BYTES = 64 * 1024
"""What a socket's buffer holds, more or less."""

SocketSplit: TypeAlias = str
"""All there is to read: ``host:port``."""


class SocketTextSource(Source[str, SocketSplit]):
    """The texts between delimiters that a server sends, decoded as UTF-8; read by one subtask.

    When the server closes the connection, or does not answer, the reader connects again, ``max_retry``
    times; then the source ends. What was sent while nobody listened is lost, and what a task that fails had
    read is not read again.

    Args:
        host: where the server listens.
        port: its port.
        delimiter: what stands between two texts; behind a line feed's text a carriage return is dropped.
        max_retry: how often to connect again; -1: for ever.

    >>> SocketTextSource("localhost", 9999).name
    'Socket Stream'
    """

    name = "Socket Stream"
    bounded = False

    def __init__(self, host: str, port: int, delimiter: str = "\n", max_retry: int = 0) -> None:
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
            raise ConnectorError(f"{port!r} is no port to connect to.", hint="Allowed: 1 to 65535.")
        if not delimiter:
            raise ConnectorError(
                "The delimiter of a socket's texts is empty.", hint='Give one, such as "\\n".'
            )
        if max_retry < -1:
            raise ConnectorError(
                f"A socket cannot be connected to again {max_retry} times.",
                hint="Give 0 or more, or -1: for ever.",
            )
        self._host = host
        self._port = port
        self._delimiter = delimiter
        self._max_retry = max_retry

    def create_enumerator(self, context: SplitEnumeratorContext[SocketSplit]) -> SplitEnumerator[SocketSplit]:
        return _OneSplit(context, [f"{self._host}:{self._port}"])

    def restore_enumerator(
        self, context: SplitEnumeratorContext[SocketSplit], state: list[SocketSplit]
    ) -> SplitEnumerator[SocketSplit]:
        return _OneSplit(context, state)

    def create_reader(self, context: RuntimeContext) -> SourceReader[str, SocketSplit]:  # noqa: ARG002
        return _SocketReader((self._host, self._port), self._delimiter, self._max_retry)


class _OneSplit(SplitEnumerator[SocketSplit]):
    """Gives the server to the reader that asks first."""

    def __init__(self, context: SplitEnumeratorContext[SocketSplit], splits: Sequence[SocketSplit]) -> None:
        self._context = context
        self._left = list(splits)

    def handle_split_request(self, subtask: int) -> None:
        if self._left:
            self._context.assign_splits([self._left.pop()], subtask)
        else:
            self._context.signal_no_more_splits(subtask)

    def add_splits_back(self, splits: Sequence[SocketSplit], subtask: int) -> None:  # noqa: ARG002
        self._left.extend(splits)

    def snapshot_state(self, checkpoint_id: int) -> list[SocketSplit]:  # noqa: ARG002
        return list(self._left)


class _SocketReader(SourceReader[str, SocketSplit]):
    def __init__(self, address: tuple[str, int], delimiter: str, max_retry: int) -> None:
        self._address = address
        self._delimiter = delimiter
        self._retries_left = max_retry
        self._connection: socket.socket | None = None
        self._connects_at = time.monotonic()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""  # it outlives a connection, as in Flink
        self._reads = False
        self._complete = False

    def add_splits(self, splits: Sequence[SocketSplit]) -> None:
        self._reads = bool(splits)

    def notify_no_more_splits(self) -> None:
        self._complete = True

    def snapshot_state(self, checkpoint_id: int) -> list[SocketSplit]:  # noqa: ARG002 - of the interface
        # There is no going back: who goes on from here connects anew.
        return [self._place] if self._reads else []

    def poll_next(self) -> Sequence[str] | EndOfInput | None:
        if not self._reads:
            return EndOfInput.END if self._complete else None
        if self._connection is None:
            wait_s = self._connects_at - time.monotonic()
            if wait_s > 0:
                time.sleep(min(wait_s, WAIT_S))
                return ()
            self._connect()
            return ()
        try:
            read = self._connection.recv(READ_BYTES)
        except TimeoutError:
            return ()
        except OSError as error:
            self._lost(f"was lost: {error}", error)
            return ()
        if read:
            return self._cut(self._decoder.decode(read))
        return self._ended()

    def _connect(self) -> None:
        try:
            self._connection = socket.create_connection(self._address, CONNECT_TIMEOUT_S)
        except OSError as error:
            self._lost(f"could not be made: {error.strerror or error}", error)
            return
        self._connection.settimeout(WAIT_S)

    def _lost(self, how: str, error: OSError) -> None:
        if not self._connects_again(how):
            raise ConnectorError(
                f"The connection to {self._place} {how}.",
                hint="Start the server first, or give socket_text_stream() a max_retry.",
            ) from error

    def _ended(self) -> Sequence[str]:
        texts = self._cut(self._decoder.decode(b"", final=True))
        if not self._connects_again("was closed by the server"):
            self._reads, self._complete = False, True
            if self._rest:
                texts.append(self._rest)
        return texts

    def _connects_again(self, why: str) -> bool:
        self._disconnect()
        self._decoder.reset()
        if self._retries_left == 0:
            return False
        self._retries_left -= 1 if self._retries_left > 0 else 0
        self._connects_at = time.monotonic() + RETRY_DELAY_S
        _log.warning("The connection to %s %s; connecting again.", self._place, why)
        return True

    def _cut(self, text: str) -> list[str]:
        *texts, self._rest = (self._rest + text).split(self._delimiter)
        if self._delimiter == "\n":
            return [line[:-1] if line.endswith("\r") else line for line in texts]
        return texts

    @property
    def _place(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        self._disconnect()
