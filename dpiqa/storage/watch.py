"""Standing watches: which job owns the events of a key."""

from sqlalchemy import Connection, text

from dpiqa.errors import Conflict
from dpiqa.messages import Queue
from dpiqa.profiles import Profile
from dpiqa.storage.jobs import create_job
from dpiqa.storage.rows import Job, to_job
from dpiqa.types import JobKind

_FIND = text(
    "SELECT * FROM jobs WHERE state = 'watching' AND bucket = :bucket AND starts_with(:key, prefix) "
    "ORDER BY created_at, id"
)
_EXACT = text(
    "SELECT * FROM jobs WHERE state = 'watching' AND bucket = :bucket AND prefix = :prefix AND profile = :profile"
)


def find_watches(c: Connection, bucket: str, key: str) -> list[Job]:
    """Return the watches whose bucket and prefix fit the key, oldest first."""
    return [to_job(row) for row in c.execute(_FIND, {"bucket": bucket, "key": key})]


def ensure_watch(c: Connection, bucket: str, prefix: str, profile: Profile) -> Job:
    """Return the watch of exactly this bucket, prefix and profile; create it if there is none."""
    exact = {"bucket": bucket, "prefix": prefix, "profile": profile.id}
    row = c.execute(_EXACT, exact).one_or_none()
    if row is not None:
        return to_job(row)
    try:
        return create_job(c, kind=JobKind.WATCH, bucket=bucket, prefix=prefix, profile=profile, queue=Queue.LIVE)
    except Conflict:  # somebody else was faster
        return to_job(c.execute(_EXACT, exact).one())
