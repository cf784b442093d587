"""Schema migrations: Alembic, driven from here, one process at a time."""

import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from itertools import repeat
from pathlib import Path
from typing import TypeAlias, cast

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError

from dpiqa.errors import ConfigurationError
from dpiqa.storage.engine import UPGRADE_HINT, Lock, make_engine, transaction, translated

Step: TypeAlias = Callable[[Config], None]
_LOCK_POLL_SECONDS = 0.2


_BLOCKED = frozenset({"40P01", "55P03"})  #: deadlock, lock timeout: the migration is begun again
_BLOCKED_ATTEMPTS = 60
_BLOCKED_PAUSE_SECONDS = 1.0  #: the work that waited for the migration goes on meanwhile


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate up to `revision`. Idempotent; waits for another process that migrates.

    A migration that does not get a lock within its `lock_timeout`, or meets a deadlock, is begun again after a second.
    """
    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Migrate down to `revision`; `base` removes every table with its rows."""
    _run(url, lambda config: command.downgrade(config, revision))


def head() -> str | None:
    """Return the revision that this version of dpiqa needs."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def current(engine: Engine) -> str | None:
    """Return the revision that the database is at; None if it has no tables of ours."""
    with transaction(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The revision that a database is at (None: it has no tables of ours), and the one this version needs."""

    current: str | None
    needed: str | None
    hint: str = UPGRADE_HINT

    @property
    def is_current(self) -> bool:
        """Return whether the tables are those of this version."""
        return self.current == self.needed

    def __str__(self) -> str:
        return f"the database is at revision {self.current or 'none'}, this version needs {self.needed}"


def state(engine: Engine) -> SchemaState:
    """Return which revision the database is at and which one this version needs. Raises `DatabaseUnavailable`."""
    return SchemaState(current(engine), head())


def new_revision(url: str, message: str, *, location: Path | None = None) -> Path:
    """Write the next migration: what differs between `dpiqa.storage.tables` and a database at the newest revision.

    `location`: the folder of the migrations, by default that of this installation. Returns the new file, to be read
    and corrected by hand. Raises `ConfigurationError` unless the database is at the newest revision.
    """
    written: list[Script] = []

    def step(config: Config) -> None:
        number = int(head() or 0) + 1
        script = command.revision(config, message, autogenerate=True, rev_id=f"{number:04}")
        written.append(cast("Script", script))

    try:
        _run(url, step, location)
    except CommandError as error:
        raise ConfigurationError(f"no migration was written: {error}", hint=UPGRADE_HINT) from error
    return Path(written[0].path)


def _run(url: str, step: Step, location: Path | None = None) -> None:
    engine = make_engine(url, pool_size=1, application_name="dpiqa-migrate")
    try:
        with translated(), engine.connect() as connection:
            _migrate(connection, step, _config(location))
    finally:
        engine.dispose()


def _migrate(connection: Connection, step: Step, config: Config) -> None:
    # Not `pg_advisory_lock`: a statement that waits in it is what CREATE INDEX CONCURRENTLY waits for.
    while not connection.execute(select(func.pg_try_advisory_lock(int(Lock.MIGRATION), 0))).scalar_one():
        connection.commit()
        time.sleep(_LOCK_POLL_SECONDS)
    connection.commit()
    try:
        config.attributes["connection"] = connection
        for pause in (*repeat(_BLOCKED_PAUSE_SECONDS, _BLOCKED_ATTEMPTS - 1), None):
            try:
                step(config)
                connection.commit()
                break
            except DBAPIError as error:
                if pause is None or getattr(error.orig, "sqlstate", None) not in _BLOCKED:
                    raise
                connection.rollback()
                time.sleep(pause)
    finally:
        connection.rollback()
        connection.execute(select(func.pg_advisory_unlock(int(Lock.MIGRATION), 0)))
        connection.commit()


def _config(location: Path | None = None) -> Config:
    config = Config(cmd_opts=Namespace(quiet=True))  # stdout belongs to the command that runs
    folder = location or resources.files("dpiqa.migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
