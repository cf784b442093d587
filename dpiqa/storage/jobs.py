"""Jobs: created once per idempotency key, finished when their last item ends; their keys, watches and listings."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, text

from dpiqa.doorbell import Queue
from dpiqa.errors import Conflict, LeaseLost, NotFound
from dpiqa.profiles import Profile
from dpiqa.storage.profiles import remember_profile
from dpiqa.types import JobKind, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What somebody submitted. `listing_attempt` is the fence of whoever lists it."""

    id: UUID
    kind: JobKind
    bucket: str
    prefix: str
    profile: str  #: id, e.g. `default@1`
    state: JobState
    queue: Queue  #: of its student items: live or bulk
    created_at: datetime
    listed_at: datetime | None
    finished_at: datetime | None
    cursor: str | None  #: the last key listed; listing resumes after it
    listing_lease_until: datetime | None
    listing_attempt: int
    idempotency_key: str | None
    request_hash: str | None
    scored_by_student: int  #: of its images
    escalated: int  #: of those
    error: str | None  #: why it failed


def to_job(row: Row[Any]) -> Job:
    """Read a row of `jobs`."""
    fields = {name: row._mapping[name] for name in Job.__dataclass_fields__}
    fields.update(kind=JobKind(row.kind), state=JobState(row.state), queue=Queue(row.queue))
    return Job(**fields)


_INSERT = text(
    """
    INSERT INTO jobs (id, kind, bucket, prefix, profile, state, queue, idempotency_key, request_hash)
    VALUES (:id, :kind, :bucket, :prefix, :profile, :state, :queue, :idempotency_key, :request_hash)
    ON CONFLICT DO NOTHING RETURNING *
    """
)
_BY_KEY = text("SELECT * FROM jobs WHERE idempotency_key = :key")
_BY_ID = text("SELECT * FROM jobs WHERE id = :id")
# ORDER BY as in the partial indexes: for an EXISTS the planner reads the whole table in hope of an early match.
# SKIP LOCKED: a job that is just being recorded is finished by that transaction, or by the next sweep.
_FINISH = text(
    """
    UPDATE jobs SET state = 'complete', finished_at = clock_timestamp() WHERE id IN (
        SELECT j.id FROM jobs j
        WHERE j.state = 'running' AND (CAST(:ids AS uuid[]) IS NULL OR j.id = ANY (CAST(:ids AS uuid[])))
        AND (SELECT i.id FROM items i WHERE i.job_id = j.id AND i.state = 'queued' AND i.rung_at IS NULL
             ORDER BY i.queue, i.id LIMIT 1) IS NULL
        AND (SELECT i.id FROM items i WHERE i.job_id = j.id AND i.state = 'queued' AND i.rung_at IS NOT NULL
             ORDER BY i.queue, i.rung_at LIMIT 1) IS NULL
        AND (SELECT i.id FROM items i WHERE i.job_id = j.id AND i.state = 'leased'
             ORDER BY i.lease_until LIMIT 1) IS NULL
        ORDER BY j.id FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING id
    """
)
_LOCK = text("SELECT * FROM jobs WHERE id = ANY (CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE")


def create_job(
    c: Connection,
    *,
    kind: JobKind,
    bucket: str,
    prefix: str,
    profile: Profile,
    queue: Queue,
    keys: Sequence[str] = (),
    idempotency_key: str | None = None,
) -> Job:
    """Create a job, or return the one that the same idempotency key and request made before.

    `keys`: of a job of kind `list`, each stored once, in their order.

    Raises `Conflict` for the same key with another request, `ConfigurationError` for a profile that was changed
    without a new version.
    """
    remember_profile(c, profile)
    request_hash = None
    if idempotency_key is not None:
        request_hash = _digest([kind, bucket, prefix, list(keys), profile.id])
    row = c.execute(
        _INSERT,
        {
            "id": uuid4(),
            "kind": kind,
            "bucket": bucket,
            "prefix": prefix,
            "profile": profile.id,
            "state": JobState.WATCHING if kind is JobKind.WATCH else JobState.LISTING,
            "queue": queue,
            "idempotency_key": idempotency_key,
            "request_hash": request_hash,
        },
    ).one_or_none()
    if row is not None:
        if keys:
            c.execute(_ADD, {"job_id": row.id, "keys": list(dict.fromkeys(keys))})
        return to_job(row)
    first = c.execute(_BY_KEY, {"key": idempotency_key}).one_or_none()
    if first is None:
        raise Conflict(f"s3://{bucket}/{prefix} is watched already under {profile.id}", hint="see `dpiqa jobs`")
    if first.request_hash != request_hash:
        raise Conflict(
            f"the idempotency key {idempotency_key!r} came with another request before",
            hint="use a new key for a new request",
        )
    return to_job(first)


def _digest(request: list[object]) -> str:
    """Return what two requests with one idempotency key must have in common: hex of 256 bits."""
    return hashlib.sha256(json.dumps(request, separators=(",", ":")).encode()).hexdigest()


def read_job(c: Connection, job_id: UUID | str) -> Job:
    """Return one job. Raises `NotFound`."""
    row = c.execute(_BY_ID, {"id": job_uuid(job_id)}).one_or_none()
    if row is None:
        raise NotFound(f"no job {job_id}", hint="see `dpiqa jobs`")
    return to_job(row)


def job_uuid(job_id: UUID | str) -> UUID:
    """Return the id as a UUID. Raises `NotFound` where it cannot be one."""
    if isinstance(job_id, UUID):
        return job_id
    try:
        return UUID(job_id)
    except ValueError:
        raise NotFound(f"no job {job_id!r}", hint="a job id is a UUID; see `dpiqa jobs`") from None


def lock_jobs(c: Connection, job_ids: Iterable[UUID]) -> dict[UUID, Job]:
    """Hold the jobs' rows until the transaction ends; references to them stay possible."""
    rows = c.execute(_LOCK, {"ids": sorted(set(job_ids))})
    return {row.id: to_job(row) for row in rows}


def finish_jobs(c: Connection, job_ids: Iterable[UUID] | None = None) -> list[UUID]:
    """Complete the running jobs (among `job_ids`, if given) without a queued or leased item. Returns their ids."""
    ids = None if job_ids is None else sorted(set(job_ids))
    return list(c.execute(_FINISH, {"ids": ids}).scalars())


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


def read_keys(c: Connection, job_id: UUID, *, after: int, limit: int) -> list[tuple[int, str]]:
    """Return the next keys with their positions, from 1; `after` is the last position seen, at first 0."""
    rows = c.execute(_READ, {"job_id": job_id, "after": after, "limit": limit})
    return [(row.position, row.key) for row in rows]


_START_LISTING = text(
    """
    UPDATE jobs SET listing_attempt = listing_attempt + 1,
        listing_lease_until = clock_timestamp() + make_interval(secs => :seconds)
    WHERE id = :id AND state = 'listing' AND (listing_lease_until IS NULL OR listing_lease_until < clock_timestamp())
    RETURNING *
    """
)
_HELD = "WHERE id = :id AND state = 'listing' AND listing_attempt = :fence RETURNING id"
_SAVE_CURSOR = text(
    f"""
    UPDATE jobs SET cursor = :cursor, listing_lease_until = clock_timestamp() + make_interval(secs => :seconds)
    {_HELD}
    """  # noqa: S608 (a constant)
)
_FINISH_LISTING = text(
    f"UPDATE jobs SET state = 'running', listed_at = clock_timestamp(), listing_lease_until = NULL {_HELD}"  # noqa: S608
)
_FAIL_LISTING = text(
    f"""
    UPDATE jobs SET state = 'failed', error = :error, finished_at = clock_timestamp(), listing_lease_until = NULL
    {_HELD}
    """  # noqa: S608
)
_UNLISTED = text(
    """
    SELECT id FROM jobs WHERE state = 'listing'
    AND (listing_lease_until IS NULL OR listing_lease_until < clock_timestamp()) ORDER BY created_at, id
    """
)


def start_listing(c: Connection, job_id: UUID | str, lease_seconds: float) -> Job | None:
    """Take the job for listing. None if it is listed, or somebody is at it. Resume after `job.cursor`."""
    row = c.execute(_START_LISTING, {"id": job_uuid(job_id), "seconds": lease_seconds}).one_or_none()
    return None if row is None else to_job(row)


def save_cursor(c: Connection, job: Job, cursor: str, lease_seconds: float = 60) -> None:
    """Note the last key of a page, in the transaction that added it, and renew the lease. Raises `LeaseLost`."""
    _held(c.execute(_SAVE_CURSOR, {**_fence(job), "cursor": cursor, "seconds": lease_seconds}).one_or_none(), job)


def finish_listing(c: Connection, job: Job) -> None:
    """Say that all items of the job are known. A job without open items is complete at once. Raises `LeaseLost`."""
    _held(c.execute(_FINISH_LISTING, _fence(job)).one_or_none(), job)
    finish_jobs(c, [job.id])


def fail_listing(c: Connection, job: Job, error: str) -> None:
    """End the job as failed: its objects cannot be listed, whoever tries. Raises `LeaseLost`."""
    _held(c.execute(_FAIL_LISTING, {**_fence(job), "error": error}).one_or_none(), job)


def unlisted_jobs(c: Connection) -> list[UUID]:
    """Return the jobs that wait to be listed and that nobody is at."""
    return list(c.execute(_UNLISTED).scalars())


def _fence(job: Job) -> dict[str, object]:
    return {"id": job.id, "fence": job.listing_attempt}


def _held(row: object, job: Job) -> None:
    if row is None:
        raise LeaseLost(f"job {job.id} is listed by somebody else")
