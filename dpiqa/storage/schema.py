"""Schema migrations: Alembic, driven from here, one process at a time."""

import re
import time
from argparse import Namespace
from collections.abc import Callable
from importlib import import_module, resources
from itertools import repeat
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, TypeAlias, cast

from alembic import command
from alembic.config import Config
from alembic.script import Script
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from dpiqa import storage
from dpiqa.errors import ConfigurationError, DatabaseMisconfigured
from dpiqa.storage.engine import (
    Lock,
    bound_waits,
    is_pooled,
    make_engine,
    translated,
    try_lock,
)
from dpiqa.storage.schema_state import head, revision
from dpiqa.storage.sqlstates import UPGRADE_HINT, fault_of
from dpiqa.storage.tables import metadata
from dpiqa.types import DatabaseFault

Step: TypeAlias = Callable[[Config], None]
_LOCK_POLL_SECONDS = 0.2
_MIGRATION_SECONDS = 1800.0  #: of one statement, unless the migration sets another time-out
_LONGEST_SECONDS = 24 * 3600.0  #: of one statement whose migration does; a large index takes long
_LOCK_SECONDS = 2.0
_BLOCKED_ATTEMPTS = 60
_BLOCKED_PAUSE_SECONDS = 1.0  #: the work that waited for the migration goes on meanwhile

# What decides whether the tables can be made. Raw: functions of the server only, in one round trip.
FACTS = text("""
    SELECT current_setting('server_encoding') AS server_encoding, current_database(), current_user, current_schema(),
        (SELECT reset_val FROM pg_settings WHERE name = 'search_path') AS default_path,
        current_setting('search_path') AS path,
        has_database_privilege(current_database(), 'CREATE') AS may_create_schemas,
        current_schema() IS NOT NULL AND has_schema_privilege(current_schema(), 'CREATE') AS may_create_tables,
        t.tableowner AS owner, pg_has_role(t.tableowner, 'USAGE') AS is_owner
    FROM (SELECT) AS one
    LEFT JOIN pg_tables t ON t.schemaname = current_schema() AND t.tablename = 'alembic_version'
""")


def upgrade(url: str, revision: str = "head", *, schema: str | None = None) -> None:
    """Migrate up to `revision`, in a schema that is made if it is missing. Idempotent; waits for another process.

    A migration that does not get a lock within its `lock_timeout`, or meets a deadlock, is begun again after a second.
    Raises `ConfigurationError` or `DatabaseMisconfigured` for a database that cannot hold the tables: its encoding is
    not UTF-8, or the user may not make them.
    """

    def step(config: Config) -> None:
        connection: Connection = config.attributes["connection"]
        _require_usable(connection, schema)
        connection.commit()
        command.upgrade(config, revision)

    _run(url, step, schema=schema)


def downgrade(url: str, revision: str, *, schema: str | None = None) -> None:
    """Migrate down to `revision`; `base` removes every table with its rows."""
    _run(url, lambda config: command.downgrade(config, revision), schema=schema)


def all_tables() -> MetaData:
    """Return every table of the database; a process has imported only those that it uses.

    They are found by the names of their modules. A list could lack one, and `new_revision` would drop its tables.
    """
    for module in iter_modules(storage.__path__, f"{storage.__name__}."):
        if module.name.endswith("_tables"):
            import_module(module.name)
    return metadata


def new_revision(url: str, message: str, *, schema: str | None = None, location: Path | None = None) -> Path:
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
        _run(url, step, location, schema=schema)
    except CommandError as error:
        raise ConfigurationError(f"no migration was written: {error}", hint=UPGRADE_HINT) from error
    return Path(written[0].path)


def _run(url: str, step: Step, location: Path | None = None, *, schema: str | None = None) -> None:
    # A migration must not queue behind a long transaction and stop every worker behind itself: it gives up, and is
    # begun again after a pause.
    engine = make_engine(
        url,
        pool_size=2,
        application_name="dpiqa-migrate",
        schema=schema,
        statement_timeout=_MIGRATION_SECONDS,
        lock_timeout=_LOCK_SECONDS,
    )
    try:
        event.listen(engine, "before_cursor_execute", _without_session_settings, retval=True)
        with translated(), engine.connect() as holder, engine.connect() as connection:
            bound_waits(connection, _LONGEST_SECONDS)
            _take_turn(holder)
            config = _config(location)
            config.attributes["connection"] = connection
            _migrate(connection, step, config)
    finally:
        engine.dispose()


def _without_session_settings(
    c: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
) -> tuple[str, Any]:
    """Leave out what a migration sets for its session where a pooler shares that: others would meet it."""
    is_setting = re.match(r"SET (?!LOCAL )", statement) is not None
    return ("SELECT 1" if is_setting and is_pooled(c) else statement), parameters


def _take_turn(c: Connection) -> None:
    """Wait until no other process migrates, and hold the lock until the connection's transaction ends.

    The lock belongs to a transaction, which a pooler leaves alone. It stands idle meanwhile and has no snapshot, so
    CREATE INDEX CONCURRENTLY does not wait for it, as it would for a statement that waits in `pg_advisory_xact_lock`.
    """
    while not try_lock(c, Lock.MIGRATION):
        c.rollback()
        time.sleep(_LOCK_POLL_SECONDS)
    # Raw, because a command without parameters also closes the portal of the SELECT, which would keep its snapshot.
    c.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def _migrate(connection: Connection, step: Step, config: Config) -> None:
    for pause in (*repeat(_BLOCKED_PAUSE_SECONDS, _BLOCKED_ATTEMPTS - 1), None):
        try:
            step(config)
            connection.commit()
            return
        except DBAPIError as error:
            connection.rollback()
            if pause is None or fault_of(error) is not DatabaseFault.CONTENDED:
                raise
            time.sleep(pause)


def _require_usable(c: Connection, schema: str | None) -> None:
    """Raise unless tables can be made here, or need not be; make the schema where it is named and missing."""
    facts = c.execute(FACTS).one()
    user, quote = facts.current_user, c.dialect.identifier_preparer.quote_identifier
    if facts.server_encoding != "UTF8":
        raise ConfigurationError(
            f"the database {facts.current_database} stores text as {facts.server_encoding}, not as UTF-8",
            hint="CREATE DATABASE dpiqa ENCODING 'UTF8' TEMPLATE template0; and name it in DPIQA_DATABASE_URL",
        )
    if revision(c) == head():
        return
    if schema is not None and is_pooled(c) and facts.default_path.partition(",")[0].strip('"') != schema:
        raise DatabaseMisconfigured(  # an index that is made outside a transaction needs a search path of the session
            f"through a pooler, tables can be made only in the user's first schema, which is not {schema}",
            hint=f"connect `dpiqa db upgrade` to Postgres itself, or ALTER ROLE {quote(user)} IN DATABASE "
            f"{quote(facts.current_database)} SET search_path = {quote(schema)};",
            fault=DatabaseFault.RIGHTS,
        )
    if schema is not None and not c.dialect.has_schema(c, schema):
        if not facts.may_create_schemas:
            raise _lacks_right(
                f"there is no schema {schema}", f"CREATE SCHEMA {quote(schema)} AUTHORIZATION", quote(user)
            )
        c.execute(CreateSchema(schema, if_not_exists=True))
    elif not facts.may_create_tables:
        path = [schema] if schema else [name.strip().strip('"') for name in facts.path.split(",")]
        found = facts.current_schema or next((name for name in path if c.dialect.has_schema(c, name)), None)
        if found is None:
            raise DatabaseMisconfigured(
                f"the search path {facts.path} names no schema that exists",
                hint="correct it, or set DPIQA_DATABASE_SCHEMA: `dpiqa db upgrade` makes that schema",
                fault=DatabaseFault.SCHEMA,
            )
        name = quote(schema or found)
        raise _lacks_right(
            f"{user} may not make tables in {name}", f"GRANT USAGE, CREATE ON SCHEMA {name} TO", quote(user)
        )
    elif facts.owner is not None and not facts.is_owner:
        raise _lacks_right(
            f"the tables belong to {facts.owner}, not to {user}", f"GRANT {quote(facts.owner)} TO", quote(user)
        )


def _lacks_right(message: str, command: str, user: str) -> DatabaseMisconfigured:
    return DatabaseMisconfigured(
        message, hint=f"run as the owner of the database: {command} {user};", fault=DatabaseFault.RIGHTS
    )


def _config(location: Path | None = None) -> Config:
    config = Config(cmd_opts=Namespace(quiet=True))  # stdout belongs to the command that runs
    folder = location or resources.files("dpiqa.migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
