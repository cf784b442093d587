"""Brings the database to the tables of this version: Alembic, driven from here, one process at a time."""

from collections.abc import Callable
from importlib import resources
from typing import TypeAlias

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from dpiqa.storage.engine import Lock, make_engine, transaction, translated

Step: TypeAlias = Callable[[Config], None]


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate up. Nothing happens where that is done already; it waits where another process is at it."""
    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Migrate down to `revision`; `base` removes every table and all that they hold."""
    _run(url, lambda config: command.downgrade(config, revision))


def head() -> str | None:
    """Return the revision this version of dpiqa needs."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def current(engine: Engine) -> str | None:
    """Return the revision the database has; None if it has none of our tables."""
    with transaction(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _run(url: str, step: Step) -> None:
    engine = make_engine(url, pool_size=1, application_name="dpiqa-migrate")
    try:
        with translated(), engine.connect() as connection:
            _migrate(connection, step)
    finally:
        engine.dispose()


def _migrate(connection: Connection, step: Step) -> None:
    connection.execute(text("SELECT pg_advisory_lock(:space, 0)"), {"space": Lock.MIGRATION})
    connection.commit()
    try:
        config = _config()
        config.attributes["connection"] = connection
        step(config)
        connection.commit()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:space, 0)"), {"space": Lock.MIGRATION})
        connection.commit()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("dpiqa.migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
