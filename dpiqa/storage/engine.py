"""Database engine, transactions, advisory locks, and the one place where SQLAlchemy's errors become ours."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    ExceptionContext,
    Integer,
    Text,
    bindparam,
    create_engine,
    event,
    func,
    literal_column,
    select,
)
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from dpiqa.database_url import connection_parameters
from dpiqa.settings import Settings
from dpiqa.storage import connections
from dpiqa.storage.connections import ANSWER_SECONDS, Session
from dpiqa.storage.sqlstates import LOST_STATEMENT, fault_of, translate
from dpiqa.types import DatabaseFault
from dpiqa.urls import DRIVER

_STATEMENT_SECONDS = 30.0
SET_TIMEOUT = select(func.set_config("statement_timeout", bindparam("timeout", type_=Text), literal_column("true")))
_SESSION = "session"  #: in the info of a connection: the `Session` of its engine


def open_engine(settings: Settings, application_name: str, *, pool_size: int = 8, custom_plans: bool = False) -> Engine:
    """Return the engine of a process by its settings. Raises as `make_engine`."""
    return make_engine(
        settings.require_database_url(),
        application_name=application_name,
        pool_size=pool_size,
        schema=settings.database_schema,
        statement_timeout=settings.database_seconds,
        custom_plans=custom_plans,
    )


def make_engine(
    url: str,
    *,
    pool_size: int = 8,
    application_name: str = "dpiqa",
    schema: str | None = None,
    statement_timeout: float = _STATEMENT_SECONDS,
    lock_timeout: float | None = None,
    custom_plans: bool = False,
) -> Engine:
    """Return an engine for a process; dispose of it before forking. Timeouts in seconds. Connects when it is used.

    No wait for the server is longer than `statement_timeout` and five seconds. Idle transactions are ended after 30 s:
    nothing may hold one while a device or S3 works. `custom_plans`: Postgres plans each statement for its values, for
    queries whose values differ much; otherwise it may keep one plan for all values after ten executions. Raises
    `ConfigurationError` for a URL that cannot be used.
    """
    parameters = connection_parameters(url, application_name)
    values = {
        "idle_in_transaction_session_timeout": "30s",
        "statement_timeout": f"{statement_timeout * 1000:.0f}ms",
    }
    if lock_timeout is not None:
        values["lock_timeout"] = f"{lock_timeout * 1000:.0f}ms"
    if custom_plans:
        values["plan_cache_mode"] = "force_custom_plan"
    if schema is not None:
        values["search_path"] = '"{}"'.format(schema.replace('"', '""'))
    session = Session(values)

    def connect() -> connections.Connection:
        connection = connections.Connection.connect(**parameters)
        try:
            session.set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        f"{DRIVER}://",
        creator=connect,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=min(30.0, statement_timeout + ANSWER_SECONDS),
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
    )
    _listen(engine, session, statement_timeout + ANSWER_SECONDS)
    return engine


def _listen(engine: Engine, session: Session, seconds: float) -> None:
    """Bound the waits of each connection, and keep what a pooler shares free of our settings."""

    @event.listens_for(engine, "checkout")
    def in_use(connection: Any, record: Any, _proxy: Any) -> None:
        connection.answer_seconds = seconds
        record.info[_SESSION] = session

    @event.listens_for(engine, "checkin")
    def idle(connection: Any, _record: Any) -> None:
        if connection is not None:
            connection.answer_seconds = ANSWER_SECONDS  # of the ping at the next checkout

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if is_pooled(connection):
            connection.exec_driver_sql(session.statement(is_local=True))

    @event.listens_for(engine, "handle_error")
    def on_error(context: ExceptionContext) -> None:
        error = context.original_exception
        fault = fault_of(error)
        if fault is DatabaseFault.FULL:
            session.was_full_at = time.monotonic()
        elif fault is DatabaseFault.POOLER:
            session.is_pooled |= getattr(error, "sqlstate", None) in LOST_STATEMENT
            context.is_disconnect = context.invalidate_pool_on_disconnect = True


def is_pooled(connection: Connection) -> bool:
    """Return whether the connection goes to a pooler, which may give every transaction another session."""
    session: Session | None = connection.info.get(_SESSION)  # None: of an engine that `make_engine` did not make
    return session is not None and session.is_pooled


def allow_seconds(connection: Connection, seconds: float) -> None:
    """Let the statements of this transaction take longer than those of others."""
    connection.execute(SET_TIMEOUT, {"timeout": f"{seconds * 1000:.0f}ms"})
    bound_waits(connection, seconds)


def bound_waits(connection: Connection, seconds: float) -> None:
    """Wait for answers to statements that may take so long, until the connection is given back."""
    driver: Any = connection.connection.dbapi_connection
    driver.answer_seconds = seconds + ANSWER_SECONDS


def seconds_since_full(connection: Connection) -> float:
    """Return the seconds since this process's engine last met a full disk or memory; infinity where it never did."""
    session: Session = connection.info[_SESSION]
    return time.monotonic() - session.was_full_at


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection within a transaction: committed at the end, rolled back on any error.

    Raises `DatabaseUnavailable` where trying again may help (deadlocks included), `ValueRefused` and `RowRefused` where
    the same statement fails again.
    """
    with translated(), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection for statements that only read. Each is its own transaction: no BEGIN and COMMIT to wait for.

    Statements see what was committed before each of them, as in `transaction`, whose level is READ COMMITTED. Behind a
    pooler they share a transaction, which carries their time-outs. Raises as `transaction`.
    """
    with translated(), engine.connect() as connection:
        if not is_pooled(connection):
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")  # noqa: PLW2901
        yield connection


@contextmanager
def translated() -> Iterator[None]:
    """Turn every error of SQLAlchemy, the driver and Postgres into one of ours: see `dpiqa.storage.sqlstates`."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError, PendingRollbackError, UnicodeEncodeError) as error:
        raise translate(error) from error


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
