"""Listing of a job's objects: page by page, by one worker at a time, resumable; the keys of jobs of kind `list`."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, bindparam, func, select

from dpiqa.sources.spec import Tally
from dpiqa.storage.columns import NOW, after, constant
from dpiqa.storage.jobs import Job, finish_jobs
from dpiqa.storage.leases import RowLease
from dpiqa.storage.sweeps import sweep
from dpiqa.storage.tables import job_keys, jobs
from dpiqa.types import JobState, SweepAction

NEXT_KEYS = (
    select(job_keys.c.position, job_keys.c.key)
    .where(job_keys.c.job_id == bindparam("of_job"), job_keys.c.position > bindparam("after"))
    .order_by(job_keys.c.position)
    .limit(bindparam("n"))
)


def read_keys(c: Connection, job_id: UUID, *, after: int, limit: int) -> list[tuple[int, str]]:
    """Return the next keys with their positions, from 1; `after` is the last position seen, at first 0."""
    rows = c.execute(NEXT_KEYS, {"of_job": job_id, "after": after, "n": limit})
    return [(row.position, row.key) for row in rows]


LISTING = RowLease(
    table=jobs,
    noun="the listing of job",
    until=jobs.c.listing_lease_until,
    fence=jobs.c.listing_attempt,
    is_open=jobs.c.state == constant(JobState.LISTING),
)
START_LISTING = LISTING.start_statement(active_since=func.coalesce(jobs.c.active_since, NOW))
SAVE_CURSOR = LISTING.write_statement(
    cursor=bindparam("last"), tally=bindparam("read", type_=jobs.c.tally.type), listing_lease_until=after("lease")
)
FINISH_LISTING = LISTING.write_statement(state=JobState.RUNNING, listed_at=NOW)
FAIL_LISTING = LISTING.write_statement(state=JobState.FAILED, error=bindparam("why"), finished_at=NOW)
UNLISTED_JOBS = LISTING.free_rows()


def start_listing(c: Connection, job_id: UUID | str, lease_seconds: float) -> Job | None:
    """Take the job for listing; resume after `job.cursor`. None if it is listed, or another worker lists it."""
    row = LISTING.start(c, START_LISTING, UUID(str(job_id)), lease_seconds)
    return None if row is None else Job.from_row(row)


def save_cursor(c: Connection, job: Job, cursor: str | None, tally: Tally, lease_seconds: float = 60) -> None:
    """Store how far the listing is, in the transaction that adds its page, and renew the lease. Raises `LeaseLost`."""
    lease, read = timedelta(seconds=lease_seconds), tally.model_dump(exclude_defaults=True)
    LISTING.write(c, SAVE_CURSOR, job.id, job.listing_attempt, last=cursor, read=read, lease=lease)


def finish_listing(c: Connection, job: Job) -> None:
    """Record that all items of the job are known. A job without open items is then complete. Raises `LeaseLost`."""
    LISTING.write(c, FINISH_LISTING, job.id, job.listing_attempt)
    finish_jobs(c, [job.id])


def fail_listing(c: Connection, job: Job, error: str) -> None:
    """End the job as failed, and what it has listed as cancelled: no worker can list the rest. Raises `LeaseLost`."""
    LISTING.write(c, FAIL_LISTING, job.id, job.listing_attempt, why=error)
    sweep(c, job.id, SweepAction.CANCEL)


def unlisted_jobs(c: Connection) -> list[UUID]:
    """Return the jobs that wait to be listed and that no worker lists."""
    return list(c.execute(UNLISTED_JOBS).scalars())
