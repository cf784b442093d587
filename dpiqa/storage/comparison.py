"""Comparison of objects with the ledger: the ledger's side in the order of keys, and what follows from differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from sqlalchemy import BigInteger, Connection, DateTime, Row, Text, bindparam, case, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from dpiqa.doorbell import Queue
from dpiqa.errors import Conflict
from dpiqa.storage.columns import NOW, arrays, constant, constants
from dpiqa.storage.images import lock_buckets, put_images, remove_objects
from dpiqa.storage.jobs import create_job, finish_jobs, lock_jobs, read_job
from dpiqa.storage.profiles import read_profile
from dpiqa.storage.reconciliations import Reconciliation
from dpiqa.storage.tables import OPEN_JOB_STATES, jobs
from dpiqa.storage.watch_tables import differences, staged_objects
from dpiqa.types import Difference, ImageRef, JobKind, JobState, Removal

_FILLED_STATES = (*OPEN_JOB_STATES, JobState.PAUSED)  #: of a job that items can be added to
_BATCH = 10_000  #: rows that are deleted at once


@dataclass(frozen=True, slots=True)
class LedgerImage:
    """The current version of a key in the ledger."""

    id: int
    key: str
    etag: str
    observed_at: datetime | None
    is_recent: bool  #: it was first named after the time that the listing or inventory shows
    has_result: bool  #: under the profile
    waits: bool  #: for a worker, in a job of the profile

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of LEDGER_PAGE."""
        return cls(row.id, row.key, row.etag, row.news_at, row.is_recent, row.has_result, row.waits)


# Returns current images in the order in which S3 lists keys: by bytes. Raw: the comparisons `~>~` and their order are
# those of text_pattern_ops, and so of the index `images_current_by_key`. Of an image without a result, one look-up in
# `items_open_image`.
LEDGER_PAGE = text(
    """
    SELECT i.id, i.key, i.etag, i.news_at, i.first_seen_at >= :as_of AS is_recent, r.image_id IS NOT NULL AS has_result,
        CASE WHEN r.image_id IS NULL THEN EXISTS (
            SELECT FROM items t JOIN jobs j ON j.id = t.job_id WHERE t.image_id = i.id
            AND t.state IN ('queued', 'leased') AND coalesce(nullif(t.profile, ''), j.profile) = :profile)
        ELSE false END AS waits
    FROM images i LEFT JOIN results r ON r.image_id = i.id AND r.profile = :profile
    WHERE i.bucket = :bucket AND i.current AND i.key ~>=~ :first AND i.key ~>~ :after AND i.key ~<=~ :upto
        AND i.key ~<~ :before
    ORDER BY i.key USING ~<~ LIMIT :n
    """
)
# Returns which of some images an earlier job of the profile rejected or gave up. Raw: one look-up by the unique key per
# job of the bucket and image.
FAILED_IMAGES = text(
    """
    SELECT DISTINCT t.image_id
    FROM unnest(:ids) AS n (image_id) CROSS JOIN jobs j
    JOIN items t ON t.job_id = j.id AND t.image_id = n.image_id
    WHERE j.bucket = :bucket AND t.state IN ('rejected', 'dead')
        AND coalesce(nullif(t.profile, ''), j.profile) = :profile
    """
).bindparams(*arrays(ids=BigInteger))
# Returns, of keys that differ, the version that the latest event was about: `ObjectVersions.head`. Raw: DISTINCT ON.
HEADS = text(
    """
    SELECT DISTINCT ON (key) key, etag, current, news_at, coalesce(deleted_at, first_seen_at) >= :as_of AS is_recent
    FROM images WHERE bucket = :bucket AND key = ANY (:keys) AND (current OR deleted_at IS NOT NULL)
    ORDER BY key, current DESC, news_at DESC NULLS LAST
    """
).bindparams(*arrays(keys=Text))
INSERT_DIFFERENCES = insert(differences).on_conflict_do_nothing()
NEXT_DIFFERENCES = (
    select(differences)
    .where(differences.c.reconciliation_id == bindparam("row_id"))
    .where(differences.c.kind == bindparam("of_kind", type_=differences.c.kind.type))
    .where(differences.c.key > bindparam("after"))
    .order_by(differences.c.key)
    .limit(bindparam("n"))
)
# Images of noted deletions that no event was about since. Raw: pairs come as two arrays.
STILL_UNTOUCHED = text(
    """
    SELECT i.key FROM unnest(:ids, :times) AS noted (id, observed_at) JOIN images i ON i.id = noted.id
    WHERE i.current AND i.news_at IS NOT DISTINCT FROM noted.observed_at
    """
).bindparams(*arrays(ids=BigInteger, times=DateTime(timezone=True)))
# A listing lease that no lister takes over: the reconciliation adds the items, under a lease of its own. `listed_at` is
# set, so that the job is not listed either when it is paused and resumed meanwhile.
HOLD_LISTING = (
    update(jobs)
    .where(jobs.c.id == bindparam("job"))
    .values(listing_lease_until=datetime(9000, 1, 1, tzinfo=UTC), listed_at=NOW, active_since=NOW)
)
END_LISTING = (
    update(jobs)
    .where(jobs.c.id == bindparam("job"), jobs.c.state.in_(constants(_FILLED_STATES)))
    .values(
        state=case((jobs.c.state == constant(JobState.LISTING), JobState.RUNNING.value), else_=jobs.c.state),
        listed_at=NOW,
        listing_lease_until=None,
    )
)


def ledger_page(
    c: Connection, r: Reconciliation, *, after: str, upto: str, before: str, limit: int
) -> list[LedgerImage]:
    """Return the next current images of the prefix: keys greater than `after`, up to `upto`, less than `before`."""
    values = {
        "bucket": r.bucket,
        "profile": r.profile,
        "as_of": r.as_of,
        "first": r.prefix,
        "after": after,
        "upto": upto,
        "before": before,
        "n": limit,
    }
    return [LedgerImage.from_row(row) for row in c.execute(LEDGER_PAGE, values)]


def failed_images(c: Connection, r: Reconciliation, image_ids: Sequence[int]) -> set[int]:
    """Return which of these images an earlier job of the profile rejected or gave up."""
    if not image_ids:
        return set()
    return set(c.execute(FAILED_IMAGES, {"ids": list(image_ids), "bucket": r.bucket, "profile": r.profile}).scalars())


def expected_versions(c: Connection, r: Reconciliation, refs: Sequence[ImageRef]) -> dict[str, str | None]:
    """Return the keys among those that differ whose difference is real, each with the version to replace.

    What events said after the time that the listing shows is newer. A listing is the truth about everything before, so
    it also replaces a version whose event time is later: the value is its ETag. An inventory is not: it shows no single
    moment, and only an event time decides (the value is None).
    """
    heads = {
        row.key: row for row in c.execute(HEADS, {"bucket": r.bucket, "keys": [x.key for x in refs], "as_of": r.as_of})
    }
    expected: dict[str, str | None] = {}
    for ref in refs:
        head = heads.get(ref.key)
        if head is None:
            expected[ref.key] = None
        elif not head.is_recent and r.inventory is None:
            expected[ref.key] = head.etag
        elif not head.is_recent and not (head.news_at and ref.last_modified and head.news_at >= ref.last_modified):
            expected[ref.key] = None
        elif not head.is_recent and head.current and head.etag == ref.etag:
            expected[ref.key] = None  # unchanged, and never scored under the profile
    return expected


def add_to_job(c: Connection, r: Reconciliation, puts: Sequence[tuple[ImageRef, str | None]]) -> tuple[UUID, list[int]]:
    """Add objects to the reconciliation's job, which is made for the first; return it and the items that now wait.

    A job that was resumed and finished meanwhile gets a successor. Raises `Conflict` for one that a user ended.
    """
    lock_buckets(c, [r.bucket])
    job = lock_jobs(c, [r.job_id]).get(r.job_id) if r.job_id else None
    if job is not None and job.state not in (*_FILLED_STATES, JobState.COMPLETE):
        raise Conflict(f"job {job.short_id} was {job.state}", hint="run `dpiqa reconcile` again for the rest")
    if job is None or job.state is JobState.COMPLETE:
        # What a watch lacks, it lacks under all of its profiles.
        names = read_job(c, r.watch_id).profiles if r.watch_id else [r.profile]
        profile = [read_profile(c, name) for name in names]
        job = create_job(c, kind=JobKind.PREFIX, bucket=r.bucket, prefix=r.prefix, profile=profile, queue=Queue.BULK)
        c.execute(HOLD_LISTING, {"job": job.id})
    return job.id, put_images(c, job, puts)


def end_job(c: Connection, r: Reconciliation) -> None:
    """Record that all items of the reconciliation's job are known."""
    if r.job_id is not None:
        c.execute(END_LISTING, {"job": r.job_id})
        finish_jobs(c, [r.job_id])


# Differences


def note_differences(c: Connection, r: Reconciliation, found: Mapping[Difference, Sequence[Any]]) -> None:
    """Store differences: `LedgerImage`s, or `ImageRef`s of objects that the ledger does not have."""
    rows = [
        {
            "reconciliation_id": r.id,
            "kind": kind,
            "key": subject.key,
            "image_id": getattr(subject, "id", None),
            "observed_at": getattr(subject, "observed_at", None),
        }
        for kind, subjects in found.items()
        for subject in subjects
    ]
    if rows:
        c.execute(INSERT_DIFFERENCES, rows)


@dataclass(frozen=True, slots=True)
class NotedDifference:
    """A row of `reconciliation_differences`."""

    kind: Difference
    key: str
    image_id: int | None
    observed_at: datetime | None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `reconciliation_differences`."""
        return cls(row.kind, row.key, row.image_id, row.observed_at)


def next_differences(
    c: Connection, r: Reconciliation, kind: Difference, *, after: str | None, limit: int
) -> list[NotedDifference]:
    """Return the next differences of a kind, by key."""
    values = {"row_id": r.id, "of_kind": kind, "after": after or "", "n": limit}
    return [NotedDifference.from_row(row) for row in c.execute(NEXT_DIFFERENCES, values)]


def mark_deleted(c: Connection, r: Reconciliation, noted: Sequence[NotedDifference]) -> int:
    """Mark as deleted what no event was about since it was noted; return how many. Ends their waiting items.

    Their event time stays, so that any later event restores them.
    """
    lock_buckets(c, [r.bucket])
    values = {"ids": [row.image_id for row in noted], "times": [row.observed_at for row in noted]}
    keys = list(c.execute(STILL_UNTOUCHED, values).scalars())
    return remove_objects(c, [Removal(bucket=r.bucket, key=key) for key in keys]) if keys else 0


# Rows of an inventory


# Raw: unnest takes any number of rows in one statement. A key that is there already stays.
STAGE_OBJECTS = text(
    """
    INSERT INTO staged_objects (reconciliation_id, key, etag, size, last_modified)
    SELECT :row_id, * FROM unnest(:keys, :etags, :sizes, :times) ON CONFLICT DO NOTHING
    """
).bindparams(*arrays(keys=Text, etags=Text, sizes=BigInteger, times=DateTime(timezone=True)))
STAGED_PAGE = (
    select(staged_objects)
    .where(staged_objects.c.reconciliation_id == bindparam("row_id"), staged_objects.c.key > bindparam("after"))
    .order_by(staged_objects.c.key)
    .limit(bindparam("n"))
)
COUNT_STAGED = select(func.count()).where(staged_objects.c.reconciliation_id == bindparam("row_id"))


def stage_objects(c: Connection, r: Reconciliation, refs: Sequence[ImageRef]) -> int:
    """Store rows of an inventory; return how many are new."""
    columns = {
        "keys": [ref.key for ref in refs],
        "etags": [ref.etag for ref in refs],
        "sizes": [ref.size for ref in refs],
        "times": [ref.last_modified for ref in refs],
    }
    return c.execute(STAGE_OBJECTS, {"row_id": r.id, **columns}).rowcount if refs else 0


def staged_page(c: Connection, r: Reconciliation, *, after: str | None, limit: int) -> list[ImageRef]:
    """Return the next rows of the inventory, in the order of their keys."""
    rows = c.execute(STAGED_PAGE, {"row_id": r.id, "after": after or "", "n": limit})
    return [
        ImageRef(bucket=r.bucket, key=row.key, etag=row.etag, size=row.size, last_modified=row.last_modified)
        for row in rows
    ]


def count_staged(c: Connection, r: Reconciliation) -> int:
    """Return how many rows of the inventory are stored: fewer than were loaded after a crash of the server."""
    return int(c.execute(COUNT_STAGED, {"row_id": r.id}).scalar_one())


# Rows of earlier reconciliations. Raw: batches by ctid, so that no statement locks millions of rows.
DELETE_OLD_DIFFERENCES = text(
    """
    DELETE FROM reconciliation_differences WHERE ctid = ANY (ARRAY (
        SELECT d.ctid FROM reconciliations r JOIN reconciliation_differences d ON d.reconciliation_id = r.id
        WHERE r.bucket = :bucket AND r.prefix = :prefix AND r.id <> :row_id LIMIT :n))
    """
)
DELETE_OLD_STAGED = text(
    """
    DELETE FROM staged_objects WHERE ctid = ANY (ARRAY (
        SELECT s.ctid FROM staged_objects s LEFT JOIN reconciliations r ON r.id = s.reconciliation_id
        WHERE r.state IS NULL OR r.state NOT IN ('loading', 'comparing') LIMIT :n))
    """
)


def delete_old_rows(c: Connection, r: Reconciliation) -> bool:
    """Delete a batch of the differences of earlier ones, and of rows staged for ended ones. False: none were left."""
    old = {"bucket": r.bucket, "prefix": r.prefix, "row_id": r.id, "n": _BATCH}
    return bool(c.execute(DELETE_OLD_DIFFERENCES, old).rowcount + c.execute(DELETE_OLD_STAGED, {"n": _BATCH}).rowcount)
