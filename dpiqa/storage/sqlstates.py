"""Errors of Postgres: one table of SQLSTATE codes and classes, and one of what follows from each.

Everything above `dpiqa.storage` sees only the errors that `translate` returns. `docs/database.md` shows both tables;
`make docs` writes them from here. An error that is not in a table means "not now": nothing is deleted, rejected or
given up because of it.
"""

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from dpiqa.errors import (
    DatabaseFailed,
    DatabaseMisconfigured,
    DatabaseUnavailable,
    DpiqaError,
    RowRefused,
    ValueRefused,
)
from dpiqa.types import DatabaseFault as Fault

UPGRADE_HINT = "run `dpiqa db upgrade`"
URL_HINT = "DPIQA_DATABASE_URL=postgresql://user:password@host:5432/database"

#: Codes, and classes of two characters. A code wins over its class.
FAULT_OF_SQLSTATE: dict[str, Fault] = {
    "08": Fault.UNREACHABLE,  # connection exceptions
    "0A000": Fault.POOLER,  # a prepared statement whose table a migration changed, or a part of the protocol
    "22": Fault.VALUE,  # data exceptions, such as 22021 and 22P05: a character that cannot be stored
    "23": Fault.ROW,  # integrity constraint violations
    "25006": Fault.READ_ONLY,  # read_only_sql_transaction
    "25P03": Fault.UNREACHABLE,  # idle_in_transaction_session_timeout: the connection was ended
    "25P04": Fault.TOO_SLOW,  # transaction_timeout
    "26000": Fault.POOLER,  # a prepared statement that this session does not have
    "28": Fault.LOGIN,  # invalid authorization
    "34000": Fault.POOLER,  # a cursor that this session does not have
    "3D000": Fault.LOGIN,  # no such database
    "3F000": Fault.SCHEMA,  # no such schema
    "40": Fault.CONTENDED,  # transaction rollbacks: serialisation failures, deadlocks
    "42501": Fault.RIGHTS,  # insufficient_privilege
    "42703": Fault.SCHEMA,  # no such column
    "42704": Fault.SCHEMA,  # no such type, index or other object
    "42883": Fault.SCHEMA,  # no such function
    "42P01": Fault.SCHEMA,  # no such table
    "42P05": Fault.POOLER,  # a prepared statement that exists already
    "53": Fault.FULL,  # insufficient resources: 53100 disk full, 53200 out of memory
    "53300": Fault.CONNECTIONS,  # too_many_connections
    "54": Fault.VALUE,  # program limits, such as a key that is too long for an index
    "55006": Fault.CONTENDED,  # object_in_use
    "55P03": Fault.CONTENDED,  # lock_not_available
    "57": Fault.UNREACHABLE,  # operator intervention: shutdown, crash, start-up, recovery
    "57014": Fault.TOO_SLOW,  # query_canceled: mostly statement_timeout
    "58030": Fault.FULL,  # io_error
}

#: Codes that prove a pooler which was not recognised: nothing is prepared from then on.
LOST_STATEMENT = frozenset({"26000", "42P05"})

#: Parts of the texts of libpq, Postgres and PgBouncer for a connection that is refused: no SQLSTATE reaches us then. In
#: another language they do not match, and count as unreachable. The first that matches wins.
FAULT_OF_TEXT: tuple[tuple[str, Fault], ...] = (
    (r"unsupported startup parameter", Fault.URL),
    (r'invalid (connection option|integer value|"?\w+"? value|port number|URI)', Fault.URL),
    (r"bad value for connect_timeout", Fault.URL),
    (r"(channel binding|GSSAPI encryption) required|may not be used with sslnegotiation", Fault.URL),
    (r"authentication method requirement .* failed|could not parse network address", Fault.URL),
    (r"(unrecognized configuration|invalid value for|permission denied to set) parameter", Fault.URL),
    (r"definition of service .* not found|could not .* service file", Fault.URL),
    (r"certificate file .* does not exist|does not support SSL|SSL is not enabled", Fault.URL),
    (r"session is read-only|session is not read-only|in hot standby mode|not in hot standby mode", Fault.READ_ONLY),
    (r"too many connections|too many clients|connection slots|no more connections allowed", Fault.CONNECTIONS),
    (r"password authentication failed|no password supplied|SASL authentication failed", Fault.LOGIN),
    (r"no pg_hba.conf entry|not permitted to log in|authentication failed", Fault.LOGIN),
    (r'(role|user|database) "?.*"? does not exist|no such (user|database)', Fault.LOGIN),
    (r"query_wait_timeout|query_timeout|idle_transaction_timeout", Fault.TOO_SLOW),
)

#: Errors of the driver, of the pool and of Python, which have no SQLSTATE.
_FAULT_OF_TYPE: dict[str, Fault] = {
    "OperationalError": Fault.UNREACHABLE,
    "InterfaceError": Fault.UNREACHABLE,
    "ConnectionTimeout": Fault.UNREACHABLE,
    "PendingRollbackError": Fault.UNREACHABLE,
    "TimeoutError": Fault.CONNECTIONS,
    "DataError": Fault.VALUE,  # a value that the driver refuses to send, such as one with a NUL character
    "UnicodeEncodeError": Fault.VALUE,
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """Consequence of a fault."""

    error: type[DpiqaError]
    text: str  #: of the error; what Postgres said follows in brackets
    hint: str


MEANINGS: dict[Fault, Meaning] = {
    Fault.UNREACHABLE: Meaning(
        DatabaseUnavailable,
        "the database does not answer",
        "is Postgres running, and does DPIQA_DATABASE_URL point at it?",
    ),
    Fault.READ_ONLY: Meaning(
        DatabaseUnavailable,
        "the database accepts no changes now",
        "is it a standby, or set to read-only? with several hosts add target_session_attrs=read-write to the URL",
    ),
    Fault.FULL: Meaning(
        DatabaseUnavailable, "the database has no space or memory left", "free disk space or memory of its server"
    ),
    Fault.CONNECTIONS: Meaning(
        DatabaseUnavailable,
        "no database connection is free",
        "raise max_connections, use a pooler, or run fewer processes",
    ),
    Fault.CONTENDED: Meaning(
        DatabaseUnavailable, "other transactions are in the way", "the same command may work later"
    ),
    Fault.TOO_SLOW: Meaning(
        DatabaseUnavailable, "the database took too long", "ask for less, or raise DPIQA_DATABASE_SECONDS"
    ),
    Fault.POOLER: Meaning(
        DatabaseUnavailable,
        "a session lost what was prepared in it",
        "the same command may work later; behind a pooler see docs/database.md",
    ),
    Fault.RIGHTS: Meaning(
        DatabaseMisconfigured, "the database user lacks a right", "docs/database.md lists the GRANTs to run"
    ),
    Fault.SCHEMA: Meaning(DatabaseMisconfigured, "the database schema does not match this version", UPGRADE_HINT),
    Fault.LOGIN: Meaning(DatabaseMisconfigured, "the database refused the connection", f"check {URL_HINT}"),
    Fault.URL: Meaning(DatabaseMisconfigured, "a parameter of DPIQA_DATABASE_URL is wrong", "see docs/database.md"),
    Fault.VALUE: Meaning(ValueRefused, "a value cannot be stored", "change the value"),
    Fault.ROW: Meaning(RowRefused, "a row contradicts what is stored", "the same command may work later"),
    Fault.UNKNOWN: Meaning(DatabaseFailed, "the database failed in an unexpected way", "see the log of Postgres"),
}


#: Names of the errors in the documentation.
KIND_OF_ERROR: dict[type[DpiqaError], str] = {
    DatabaseUnavailable: "for the moment",
    DatabaseFailed: "for the moment",
    DatabaseMisconfigured: "misconfigured",
    ValueRefused: "a value",
    RowRefused: "a row",
}
#: Errors that have no SQLSTATE, in the documentation.
WITHOUT_SQLSTATE: dict[Fault, str] = {
    Fault.URL: "none: refused by libpq or a pooler",
    Fault.UNKNOWN: "all others",
}


def fault_of(error: BaseException) -> Fault:
    """Return what an error of SQLAlchemy, of psycopg or of writing text is about."""
    original: Any = error.orig if isinstance(error, DBAPIError) else error
    sqlstate = getattr(original, "sqlstate", None)
    if sqlstate is not None:
        return FAULT_OF_SQLSTATE.get(sqlstate) or FAULT_OF_SQLSTATE.get(sqlstate[:2], Fault.UNKNOWN)
    known = next((fault for pattern, fault in FAULT_OF_TEXT if re.search(pattern, str(original))), None)
    if known is None and isinstance(error, DBAPIError) and error.connection_invalidated:
        return Fault.UNREACHABLE
    return known or _FAULT_OF_TYPE.get(type(original).__name__, Fault.UNKNOWN)


def translate(error: BaseException) -> DpiqaError:
    """Return our error for one that `fault_of` knows. Its one line quotes what Postgres said."""
    fault = fault_of(error)
    meaning = MEANINGS[fault]
    if issubclass(meaning.error, DatabaseUnavailable):
        return unavailable(fault, reply_of(error))
    return meaning.error(f"{meaning.text}: {reply_of(error)}", hint=meaning.hint)


def unavailable(fault: Fault, detail: str) -> DatabaseUnavailable:
    """Return the error of a fault that may pass, or that somebody can end."""
    meaning = MEANINGS[fault]
    error = meaning.error if issubclass(meaning.error, DatabaseUnavailable) else DatabaseUnavailable
    return error(f"{meaning.text}: {detail}", hint=meaning.hint, fault=fault)


def reply_of(error: BaseException) -> str:
    """Return the line of an error that says most: what Postgres itself said, else the last line of the driver.

    Without values of rows: Postgres puts those into the details, which are left out.
    """
    if isinstance(error, PoolTimeoutError):
        return "none of this process's own became free in time"
    if isinstance(error, UnicodeError):
        return "it is not text that UTF-8 can write"
    original: Any = error.orig if isinstance(error, DBAPIError) else error
    primary = getattr(getattr(original, "diag", None), "message_primary", None)
    said = str(original).partition("\nMultiple connection attempts failed")[0]  # of several hosts: the last one's
    text = primary or next((line for line in reversed(said.splitlines()) if line[:1].strip()), "no answer")
    sqlstate = getattr(original, "sqlstate", None)
    return f"{text} ({sqlstate})" if sqlstate else str(text)
