"""One terminal, two writers: a job that prints and a table that is drawn again and again.

While a table is live, standard output and standard error of this process, and of the workers it forks, lead
into a pipe; whole lines coming out of it are written above the table. Without this a worker's line would
land inside the table.
"""

from __future__ import annotations

import os
import selectors
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

__all__ = ["TerminalRelay"]

CHUNK_SIZE_BYTES = 65536
"""The capacity of a pipe on Linux: more than this never waits in it."""


class TerminalRelay:
    """Leads file descriptors 1 and 2, where they are terminals, through ``write_lines`` until it is left.

    ``terminal`` is the real terminal, for whoever draws. The relay never blocks on descriptors that
    surviving child processes keep open: leaving it drains what is there and restores both.
    """

    def __init__(self) -> None:
        self.terminal: TextIO = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="replace")
        self._saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2) if os.isatty(descriptor)}
        self._write_lines: Callable[[str], object] = self.terminal.write
        self._reader, self._writer = os.pipe()
        self._stop_reader, self._stop_writer = os.pipe()
        self._partial = b""
        self._thread = threading.Thread(target=self._relay, name="terminal relay", daemon=True)

    def start(self, write_lines: Callable[[str], object]) -> None:
        """From now on what is printed reaches the terminal by ``write_lines``, in whole lines."""
        self._write_lines = write_lines
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor in self._saved:
            os.dup2(self._writer, descriptor)
        os.close(self._writer)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor, saved in self._saved.items():
            os.dup2(saved, descriptor)
            os.close(saved)
        os.close(self._stop_writer)
        self._thread.join()
        for descriptor in (self._reader, self._stop_reader):
            os.close(descriptor)
        self.terminal.close()

    def _relay(self) -> None:
        os.set_blocking(self._reader, False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            selector.register(self._stop_reader, selectors.EVENT_READ)
            stopping = False
            while not stopping:
                stopping = any(key.fd == self._stop_reader for key, _ in selector.select())
                self._copy_what_is_there()
        if self._partial:
            self._write_lines(self._partial.decode("utf-8", "replace"))

    def _copy_what_is_there(self) -> None:
        while True:
            try:
                data = os.read(self._reader, CHUNK_SIZE_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            lines, newline, self._partial = (self._partial + data).rpartition(b"\n")
            if newline:
                self._write_lines((lines + newline).decode("utf-8", "replace"))
