"""Database engine, transactions, advisory locks, and the one place where SQLAlchemy's errors become ours."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum

from sqlalchemy import Connection, Engine, Integer, Text, bindparam, create_engine, func, literal_column, select
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from dpiqa.errors import ConfigurationError, DatabaseUnavailable, DpiqaError
from dpiqa.urls import normalise_database_url

_HINT_DOWN = "is Postgres running, and does DPIQA_DATABASE_URL point at it?"
_HINT_URL = "DPIQA_DATABASE_URL=postgresql://user:password@host:5432/database"
UPGRADE_HINT = "run `dpiqa db upgrade`"
_MISSING = frozenset({"42P01", "42703", "42883"})  #: no such table, column, function
#: Of a connection refused for good: no sqlstate reaches us then, only the server's message text.
_REFUSALS = ("password authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry")


def make_engine(
    url: str,
    *,
    pool_size: int = 8,
    application_name: str = "dpiqa",
    statement_timeout: float | None = None,
    connect_timeout: int = 5,
) -> Engine:
    """Return an engine for a process; dispose of it before forking. Timeouts in seconds.

    Idle transactions are ended after 30 s: nothing may hold one while a device or S3 works.
    """
    options = "-c idle_in_transaction_session_timeout=30s"
    if statement_timeout is not None:
        options += f" -c statement_timeout={int(statement_timeout * 1000)}"
    try:
        return create_engine(
            normalise_database_url(url),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
            connect_args={"connect_timeout": connect_timeout, "application_name": application_name, "options": options},
        )
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError("the database URL cannot be read", hint=_HINT_URL) from error


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection within a transaction: committed at the end, rolled back on any error.

    Raises `DatabaseUnavailable` where trying again may help (deadlocks included), `ConfigurationError` where not.
    """
    with translated(), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection for statements that only read. Each is its own transaction: no BEGIN and COMMIT to wait for.

    Statements see what was committed before each of them, as in `transaction`, whose level is READ COMMITTED. Raises as
    `transaction`.
    """
    with translated(), engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLAlchemy's errors about connections and schema into ours. Errors about a statement pass unchanged."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        translation = _translation(error)
        if translation is None:
            raise
        raise translation from error


def _translation(error: DBAPIError | PoolTimeoutError) -> DpiqaError | None:
    if isinstance(error, PoolTimeoutError):
        return DatabaseUnavailable("no database connection became free in time", hint="use fewer threads per process")
    sqlstate = getattr(error.orig, "sqlstate", None)
    reply = next((line for line in reversed(str(error.orig).splitlines()) if line[:1].strip()), "no answer")
    if isinstance(error, ProgrammingError) and sqlstate in _MISSING:
        return ConfigurationError(f"the database schema does not match this version ({reply})", hint=UPGRADE_HINT)
    if isinstance(error, OperationalError) and sqlstate is None and any(refusal in reply for refusal in _REFUSALS):
        return ConfigurationError(f"the database refused the connection: {reply}", hint=f"check {_HINT_URL}")
    if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
        return DatabaseUnavailable(f"the database does not answer: {reply}", hint=_HINT_DOWN)
    return None


class Lock(IntEnum):
    """First key of each advisory lock."""

    MIGRATION = 7_301_001  #: one migration at a time
    FEEDER = 7_301_002  #: one feeder at a time
    BUCKET = 7_301_003  #: what is current in a bucket is decided by one transaction at a time
    SUSPECT = 7_301_004  #: one claim of suspects at a time per worker
    SWEEPER = 7_301_006  #: one sweeper at a time
    ROLLUP = 7_301_010  #: results are counted after an upgrade by one batch at a time, and by nobody else meanwhile
    API_KEY = 7_301_011  #: the keys, and the open jobs, of a client are counted by one transaction at a time
    REQUIREMENT = 7_301_005  #: the versions of a requirement are numbered by one transaction at a time


TRY_LOCK = select(func.pg_try_advisory_xact_lock(bindparam("space", type_=Integer), literal_column("0")))
LOCK_NAME = select(
    func.pg_advisory_xact_lock(bindparam("space", type_=Integer), func.hashtext(bindparam("name", type_=Text)))
)


def try_lock(c: Connection, lock: Lock) -> bool:
    """Take the lock until the transaction ends, unless another one holds it; return whether it was taken."""
    return bool(c.execute(TRY_LOCK, {"space": int(lock)}).scalar_one())


def lock_names(c: Connection, lock: Lock, names: Iterable[str]) -> None:
    """Wait for the lock of each name, in one order for all. Names that share a hash share a lock: harmless."""
    for name in sorted(set(names)):
        c.execute(LOCK_NAME, {"space": int(lock), "name": name})
