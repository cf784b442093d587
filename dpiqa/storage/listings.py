"""Listing a job's objects: one lister at a time, page by page, resumable."""

from uuid import UUID

from sqlalchemy import Connection, text

from dpiqa.errors import DpiqaError
from dpiqa.storage.jobs import Job, finish_jobs, job_uuid, to_job


class LeaseLost(DpiqaError):
    """Somebody else lists this job by now: stop, and let the transaction roll back."""


_START = text(
    """
    UPDATE jobs SET listing_attempt = listing_attempt + 1,
        listing_lease_until = clock_timestamp() + make_interval(secs => :seconds)
    WHERE id = :id AND state = 'listing' AND (listing_lease_until IS NULL OR listing_lease_until < clock_timestamp())
    RETURNING *
    """
)
_HELD = "WHERE id = :id AND state = 'listing' AND listing_attempt = :fence RETURNING id"
_SAVE = text(
    f"""
    UPDATE jobs SET cursor = :cursor, listing_lease_until = clock_timestamp() + make_interval(secs => :seconds)
    {_HELD}
    """  # noqa: S608 (a constant)
)
_FINISH = text(
    f"UPDATE jobs SET state = 'running', listed_at = clock_timestamp(), listing_lease_until = NULL {_HELD}"  # noqa: S608
)
_FAIL = text(
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
    row = c.execute(_START, {"id": job_uuid(job_id), "seconds": lease_seconds}).one_or_none()
    return None if row is None else to_job(row)


def save_cursor(c: Connection, job: Job, cursor: str, lease_seconds: float = 60) -> None:
    """Note the last key of a page, in the transaction that added it, and renew the lease. Raises `LeaseLost`."""
    _held(c.execute(_SAVE, {**_fence(job), "cursor": cursor, "seconds": lease_seconds}).one_or_none(), job)


def finish_listing(c: Connection, job: Job) -> None:
    """Say that all items of the job are known. A job without open items is complete at once. Raises `LeaseLost`."""
    _held(c.execute(_FINISH, _fence(job)).one_or_none(), job)
    finish_jobs(c, [job.id])


def fail_listing(c: Connection, job: Job, error: str) -> None:
    """End the job as failed: its objects cannot be listed, whoever tries. Raises `LeaseLost`."""
    _held(c.execute(_FAIL, {**_fence(job), "error": error}).one_or_none(), job)


def unlisted_jobs(c: Connection) -> list[UUID]:
    """Return the jobs that wait to be listed and that nobody is at."""
    return list(c.execute(_UNLISTED).scalars())


def _fence(job: Job) -> dict[str, object]:
    return {"id": job.id, "fence": job.listing_attempt}


def _held(row: object, job: Job) -> None:
    if row is None:
        raise LeaseLost(f"job {job.id} is listed by somebody else")
