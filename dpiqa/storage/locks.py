"""Advisory locks: their number spaces, so that no two uses meet."""

from collections.abc import Iterable
from enum import IntEnum

from sqlalchemy import Connection, text


class Lock(IntEnum):
    """First key of each advisory lock."""

    MIGRATION = 7_301_001  #: one migration at a time
    FEEDER = 7_301_002  #: one feeder at a time; the others have nothing to do
    BUCKET = 7_301_003  #: what is current in a bucket is decided by one transaction at a time
    SUSPECT = 7_301_004  #: one claim of suspects at a time per worker
    REQUIREMENT = 7_301_005  #: the versions of a requirement are numbered by one transaction at a time


_TRY = text("SELECT pg_try_advisory_xact_lock(:space, 0)")
_BY_NAME = text("SELECT pg_advisory_xact_lock(:space, hashtext(:name))")


def try_lock(c: Connection, lock: Lock) -> bool:
    """Take the lock until the transaction ends, unless somebody else holds it; say whether."""
    return bool(c.execute(_TRY, {"space": int(lock)}).scalar_one())


def lock_names(c: Connection, lock: Lock, names: Iterable[str]) -> None:
    """Wait for the lock of each name, in one order for all. Names that share a hash share a lock: harmless."""
    for name in sorted(set(names)):
        c.execute(_BY_NAME, {"space": int(lock), "name": name})
