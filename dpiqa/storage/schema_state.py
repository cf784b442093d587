"""State of the tables of a database: their revision, the one this version needs, and whether they can be written.

Without Alembic, which only migrations need, and whose import takes .2 s of processor time.
"""

import re
from dataclasses import dataclass
from importlib import resources

from sqlalchemy import Connection, Engine, column, select, table, text

from dpiqa.storage.engine import seconds_since_full, transaction
from dpiqa.storage.sqlstates import UPGRADE_HINT, unavailable
from dpiqa.storage.tables import metadata
from dpiqa.types import DatabaseFault

_FULL_SECONDS = 30.0  #: after a write for which there was no space, this process is not ready: it cannot be asked for
_REVISION = re.compile(r"(\d{4})_\w*\.py$")  #: name of a migration's file
_VERSION = table("alembic_version", column("version_num"))  #: Alembic's own

# Raw: functions of the server only, in one round trip.
WRITABLE = text("""
    SELECT current_setting('transaction_read_only') = 'on' OR pg_is_in_recovery() AS is_read_only, current_user,
        (SELECT array_agg(name ORDER BY name) FROM unnest(CAST(:names AS text[])) AS name
            WHERE NOT has_table_privilege(to_regclass(name), 'SELECT')
            OR NOT has_table_privilege(to_regclass(name), 'INSERT')
            OR NOT has_table_privilege(to_regclass(name), 'UPDATE')
            OR NOT has_table_privilege(to_regclass(name), 'DELETE')) AS forbidden,
        (SELECT array_agg(name ORDER BY name) FROM unnest(CAST(:names AS text[])) AS name
            WHERE to_regclass(name) IS NULL AND to_regclass('alembic_version') IS NOT NULL) AS missing
""")


def head() -> str | None:
    """Return the revision that this version of dpiqa needs."""
    files = resources.files("dpiqa.migrations").joinpath("versions").iterdir()
    return max((found[1] for found in (_REVISION.match(file.name) for file in files) if found), default=None)


def current(engine: Engine) -> str | None:
    """Return the revision that the database is at; None if it has no tables of ours."""
    with transaction(engine) as c:
        return revision(c)


def revision(c: Connection) -> str | None:
    """Return the revision of the tables; None if they are none of ours."""
    if not c.dialect.has_table(c, _VERSION.name):
        return None
    found: str | None = c.execute(select(_VERSION.c.version_num)).scalar()
    return found


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

    @property
    def is_newer(self) -> bool:
        """Return whether the tables are those of a later version. Migrations leave the previous release working."""
        return self.current is not None and self.needed is not None and self.current > self.needed

    @property
    def is_usable(self) -> bool:
        """Return whether this version can work with the tables, as a process of a rolling upgrade must."""
        return self.is_current or self.is_newer

    def __str__(self) -> str:
        return f"the database is at revision {self.current or 'none'}, this version needs {self.needed}"


def state(engine: Engine) -> SchemaState:
    """Return which revision the database is at and which one this version needs. Raises `DatabaseUnavailable`."""
    return SchemaState(current(engine), head())


def require_writable(c: Connection) -> None:
    """Raise `DatabaseUnavailable` where the tables cannot be written.

    It is a standby or read-only, it had no space for one of our writes just now, a right is missing, or a table of a
    database that has our tables.
    """
    row = c.execute(WRITABLE, {"names": sorted(metadata.tables)}).one()
    if row.is_read_only:
        raise unavailable(DatabaseFault.READ_ONLY, "pg_is_in_recovery, or default_transaction_read_only")
    ago = seconds_since_full(c)
    if ago < _FULL_SECONDS:
        raise unavailable(DatabaseFault.FULL, f"a write failed {ago:.0f} s ago")
    if row.missing:
        raise unavailable(DatabaseFault.SCHEMA, f"there is no table {', '.join(row.missing)}")
    if row.forbidden:
        raise unavailable(DatabaseFault.RIGHTS, f"{row.current_user} may not change {', '.join(row.forbidden)}")
