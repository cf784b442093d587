"""The keys of a job of kind `list`, from its submission until it is listed."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, text

_ADD = text(
    """
    INSERT INTO job_keys (job_id, position, key)
    SELECT :job_id, position, key FROM unnest(CAST(:keys AS text[])) WITH ORDINALITY AS given (key, position)
    ON CONFLICT DO NOTHING
    """
)
_READ = text(
    "SELECT position, key FROM job_keys WHERE job_id = :job_id AND position > :after ORDER BY position LIMIT :limit"
)


def add_keys(c: Connection, job_id: UUID, keys: Sequence[str]) -> None:
    """Store the keys of a new job, each once. Asking again for the same job changes nothing."""
    c.execute(_ADD, {"job_id": job_id, "keys": list(dict.fromkeys(keys))})


def read_keys(c: Connection, job_id: UUID, *, after: int, limit: int) -> list[tuple[int, str]]:
    """Return the next keys with their positions, from 1; `after` is the last position seen, at first 0."""
    rows = c.execute(_READ, {"job_id": job_id, "after": after, "limit": limit})
    return [(row.position, row.key) for row in rows]
