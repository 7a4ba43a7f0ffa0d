"""The socket source: what is one text, when it connects again, when it ends."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator

import pytest
from source_drive import Context, runtime_context

from zmflow.api.sources import EndOfInput
from zmflow.connectors import SocketTextSource, socket_source
from zmflow.errors import ConnectorError


class Server:
    """Sends each of its scripts to one connection, and closes it."""

    def __init__(self, *scripts: list[bytes]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(scripts,), daemon=True)
        self._thread.start()

    def _serve(self, scripts: tuple[list[bytes], ...]) -> None:
        for script in scripts:
            connection, _ = self._listener.accept()
            with connection:
                for part in script:
                    connection.sendall(part)

    def close(self) -> None:
        self._thread.join(10)
        self._listener.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second between two attempts is for servers that start."""
    monkeypatch.setattr(socket_source, "RETRY_DELAY_S", 0.001)


def read(source: SocketTextSource) -> Iterator[str]:
    """Texts until the end."""
    reader = source.create_reader(runtime_context())
    context = Context([reader])
    enumerator = source.create_enumerator(context)
    reader.start()
    try:
        while (batch := reader.poll_next()) is not EndOfInput.END:
            if batch is None:
                enumerator.handle_split_request(0)
            else:
                yield from batch
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("delimiter", "sent", "expected"),
    [
        ("\n", [b"a\r\nb\n\nrest"], ["a", "b", "", "rest"]),
        ("||", [b"a|", b"|b\n||"], ["a", "b\n"]),
        ("\n", ["\N{GREEK SMALL LETTER ALPHA}".encode()[:1], b"\xb1\n\xff\n"], ["\u03b1", "\ufffd"]),
        ("\n", [], []),
    ],
)
def test_texts_stand_between_delimiters(delimiter: str, sent: list[bytes], expected: list[str]) -> None:
    """However the bytes arrive; the last text needs no delimiter."""
    server = Server(sent)
    assert list(read(SocketTextSource("127.0.0.1", server.port, delimiter))) == expected
    server.close()


def test_it_connects_again_so_many_times(caplog: pytest.LogCaptureFixture) -> None:
    """A text may begin on one connection and end on the next, as in Flink."""
    server = Server([b"a\nb"], [b"c\nd\n"], [b"never"])
    with caplog.at_level(logging.WARNING):
        assert list(read(SocketTextSource("127.0.0.1", server.port, max_retry=1))) == ["a", "bc", "d"]
    assert f"127.0.0.1:{server.port} was closed by the server; connecting again" in caplog.text
    socket.create_connection(("127.0.0.1", server.port)).close()  # lets the server end
    server.close()


@pytest.mark.parametrize("max_retry", [0, 2])
def test_a_server_that_does_not_answer_fails_the_reader(max_retry: int) -> None:
    """The error says where nobody listens."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        with pytest.raises(ConnectorError, match=f"127.0.0.1:{port} could not be made"):
            list(read(SocketTextSource("127.0.0.1", port, max_retry=max_retry)))


def test_one_reader_has_the_connection() -> None:
    """The others end; a reader that restarts is given it again."""
    source = SocketTextSource("127.0.0.1", 1)
    readers = [source.create_reader(runtime_context(subtask, 2)) for subtask in range(2)]
    context = Context(readers)
    enumerator = source.create_enumerator(context)
    enumerator.handle_split_request(0)
    enumerator.handle_split_request(1)
    assert readers[1].poll_next() is EndOfInput.END
    assert (enumerator.snapshot_state(1), readers[0].snapshot_state(1)) == ([], ["127.0.0.1:1"])
    enumerator.add_splits_back(["127.0.0.1:1"], 0)
    enumerator = source.restore_enumerator(context, enumerator.snapshot_state(2))
    enumerator.handle_split_request(0)
    assert context.assigned == [(0, "127.0.0.1:1")] * 2


@pytest.mark.parametrize(
    "arguments", [("h", 0), ("h", 65536), ("h", "80"), ("h", 80, ""), ("h", 80, "\n", -2)], ids=repr
)
def test_what_cannot_be_is_refused(arguments: tuple[str, int]) -> None:
    """Before anything is submitted."""
    with pytest.raises(ConnectorError):
        SocketTextSource(*arguments)
