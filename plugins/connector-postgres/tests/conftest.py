"""One server for all tests of this directory, which run in one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer, programs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here has real processes, and shares the server."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.xdist_group("postgres"))


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """It runs."""
    binaries = programs()
    if binaries is None:
        missing = "There is no PostgreSQL on this machine: install the Debian package postgresql."
        if os.geteuid() == 0 or os.environ.get("CI"):
            pytest.fail(missing)  # who may install it has to: a skip would hide that nothing was tested
        pytest.skip(missing)
    server = PostgresServer(binaries)
    yield server
    server.remove()


@pytest.fixture
def restarted(server: PostgresServer) -> Iterator[PostgresServer]:
    """The server, for tests that stop it: afterwards it runs as before. With transactions of other tests it
    would not start for fewer than there are."""
    server.roll_back_all()
    yield server
    server.stop()
    server.start()
