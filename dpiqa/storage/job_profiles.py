"""Jobs of several profiles: how many images each further profile has scored, and the keys that make them possible."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, FromClause, Uuid, any_, bindparam, case, literal_column, select, text
from sqlalchemy.dialects.postgresql import insert

from dpiqa.storage.columns import array
from dpiqa.storage.engine import Lock, lock_names
from dpiqa.storage.tables import items, job_profiles, jobs

# Raw: catalogue and DDL. A populated database that was upgraded still has the keys that the previous release needs.
HAS_OLD_KEYS = text(
    "SELECT EXISTS (SELECT FROM pg_constraint "
    "WHERE conrelid = CAST('items' AS regclass) AND conname = 'items_job_id_image_id_key')"
)
DROP_OLD_KEYS = (
    text("SET LOCAL lock_timeout = '3s'"),
    text("ALTER TABLE items DROP CONSTRAINT items_job_id_image_id_key"),
    text(
        "ALTER TABLE job_counts DROP CONSTRAINT job_counts_pkey, "
        "ADD CONSTRAINT job_counts_pkey PRIMARY KEY USING INDEX job_counts_with_profile"
    ),
    text("SET LOCAL lock_timeout = DEFAULT"),
)
_COUNTERS = (job_profiles.c.job_id, job_profiles.c.scored_by_student, job_profiles.c.escalated)
ROUTED_OF_JOBS = select(*_COUNTERS).where(
    job_profiles.c.job_id == any_(array("ids", Uuid)), job_profiles.c.profile == bindparam("under")
)
ROUTED_OF_JOB = select(*_COUNTERS).where(job_profiles.c.job_id == bindparam("of_job"))
_ADDED = insert(job_profiles)
COUNT_ROUTED = _ADDED.on_conflict_do_update(
    index_elements=["job_id", "profile"],
    set_={name: job_profiles.c[name] + _ADDED.excluded[name] for name in ("scored_by_student", "escalated")},
)


def profile_of_item(of: FromClause = items) -> ColumnElement[str]:
    """Return the id of the profile of an item, in a query of `items` (or an alias of it) and `jobs`."""
    return case((of.c.profile == literal_column("''"), jobs.c.profile), else_=of.c.profile)


def allow_several_profiles(c: Connection) -> None:
    """Drop the keys by which an image has one item per job; does nothing where they are gone.

    A process of the previous release, which inserts by these keys, adds no items from then on until it is replaced.
    Raises `DatabaseUnavailable` if the tables are locked for longer than 3 s.
    """
    if c.execute(HAS_OLD_KEYS).scalar_one():
        lock_names(c, Lock.MIGRATION, ["keys"])
        if c.execute(HAS_OLD_KEYS).scalar_one():
            for statement in DROP_OLD_KEYS:
                c.execute(statement)


@dataclass(frozen=True, slots=True)
class Routed:
    """Numbers of a job's images that were scored under a profile, and of those that were escalated."""

    scored_by_student: int = 0
    escalated: int = 0


def read_routed(c: Connection, profile_id: str, job_ids: Iterable[UUID]) -> dict[UUID, Routed]:
    """Return the counters of a further profile by job. The caller holds the jobs' rows."""
    ids = sorted(set(job_ids))
    rows = c.execute(ROUTED_OF_JOBS, {"ids": ids, "under": profile_id}) if ids else ()
    return {row.job_id: Routed(row.scored_by_student, row.escalated) for row in rows}


def read_all_routed(c: Connection, job_id: UUID) -> list[Routed]:
    """Return the counters of all further profiles of a job."""
    rows = c.execute(ROUTED_OF_JOB, {"of_job": job_id})
    return [Routed(row.scored_by_student, row.escalated) for row in rows]


def count_routed(c: Connection, profile_id: str, job_id: UUID, added: Routed) -> None:
    """Add to the counters of a further profile. The caller holds the job's row."""
    c.execute(
        COUNT_ROUTED,
        {
            "job_id": job_id,
            "profile": profile_id,
            "scored_by_student": added.scored_by_student,
            "escalated": added.escalated,
        },
    )
