"""A PostgreSQL server of the tests' own: in a temporary directory, on a Unix socket, gone with the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

DEADLINE_S = 60


def programs() -> Path | None:
    """Where ``initdb`` and ``postgres`` are, of the newest version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).resolve().parent


class PostgresServer:
    """A server with one database, ``shop``, and its owner, who has no special rights."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = Path(tempfile.mkdtemp(prefix="zmflow-postgres-"))
        self.conninfo = f"host={self.directory} user=ada dbname=shop password=secret"
        try:
            self._begin()
        except BaseException:
            self.remove()
            raise

    def _begin(self) -> None:
        # The server refuses to be root.
        self._account = ["setpriv", "--pdeathsig=INT"]
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
            self._account += [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        command = [
            self._binaries / "initdb",
            "-D",
            self.directory / "data",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-N",
        ]
        done = subprocess.run(
            [*self._account, *command, "-E", "UTF8", "--locale=C"], capture_output=True, cwd="/", check=False
        )
        assert done.returncode == 0, done.stderr
        self.start()
        with psycopg.connect(f"host={self.directory} user=postgres", autocommit=True) as connection:
            connection.execute("CREATE ROLE ada LOGIN PASSWORD 'secret'")
            connection.execute("CREATE DATABASE shop OWNER ada")

    def start(self, **settings: object) -> None:
        """Start it, with settings."""
        options = {"listen_addresses": "", "unix_socket_directories": self.directory, "fsync": "off"}
        options |= {"max_prepared_transactions": 40, "max_connections": 80} | settings
        arguments = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._account, self._binaries / "postgres", "-D", self.directory / "data", *arguments],
                stdout=log,
                stderr=log,
                cwd="/",
            )
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                psycopg.connect(f"host={self.directory} user=postgres").close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.directory / "log").read_text()
                assert time.monotonic() < deadline, (self.directory / "log").read_text()
            else:
                return

    def stop(self) -> None:
        """Stop it at once: sessions end, and what is prepared is kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(DEADLINE_S)
            self._process = None

    def remove(self) -> None:
        """Stop it, and remove everything."""
        self.stop()
        shutil.rmtree(self.directory)

    def query(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """The rows of a statement; none of one that returns none."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def prepared(self) -> list[str]:
        """The names of prepared transactions."""
        return [str(name) for (name,) in self.query("SELECT gid FROM pg_prepared_xacts ORDER BY 1")]

    def roll_back_all(self) -> None:
        """Let no transaction be prepared: a job that has failed for good leaves its last ones."""
        for name in self.prepared():
            self.query(f"ROLLBACK PREPARED '{name}'")
