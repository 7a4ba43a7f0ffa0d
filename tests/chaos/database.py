"""The PostgreSQL server of a run: a throw-away one, which the tests of the connector know how to start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from postgres_server import PostgresServer

__all__ = ["MISSING", "is_installed", "running_server"]

CONNECTOR_TESTS = Path(__file__).parents[2] / "plugins" / "connector-postgres" / "tests"

MISSING = (
    "There is no PostgreSQL on this machine, and jobs of this run write to one. "
    "Install the Debian package postgresql, or leave these jobs out with --no-postgres."
)


def is_installed() -> bool:
    """Whether a server can be started."""
    return _support().programs() is not None


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A server that is gone afterwards, with its files."""
    support = _support()
    binaries = support.programs()
    if binaries is None:
        raise FileNotFoundError(MISSING)
    server = support.PostgresServer(binaries)
    try:
        yield server
    finally:
        server.remove()


def _support() -> ModuleType:
    """The module of the connector's tests, which are no package."""
    if str(CONNECTOR_TESTS) not in sys.path:
        sys.path.append(str(CONNECTOR_TESTS))
    import postgres_server

    return postgres_server
