"""Steering of jobs by a user: pause, resume, cancel, retry, delete, priority.

Each locks the job's row with FOR UPDATE, the only lock that also excludes the FOR KEY SHARE of ingest
(`jobs.find_watches`): once a watch is cancelled, no event adds to it. The job's state changes at once; workers and
feeders read it. What follows for its items is a row of `sweeps`; its first batch is made here, the others by the
sweeper.
"""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    delete,
    func,
    null,
    select,
    update,
)

from dpiqa.errors import Conflict, InvalidRequest
from dpiqa.storage.audit import audited
from dpiqa.storage.callbacks import repeat_callback
from dpiqa.storage.columns import NOW, constant
from dpiqa.storage.counts import read_counts
from dpiqa.storage.jobs import Job, finish_jobs, read_job
from dpiqa.storage.sweeps import sweep
from dpiqa.storage.tables import MAX_PRIORITY, OPEN_ITEM_STATES, items, jobs, sweeps
from dpiqa.types import (
    ENDED_JOB_STATES,
    REASONS_OF,
    AuditAction,
    ItemState,
    JobKind,
    JobState,
    Reason,
    SweepAction,
)

#: States of items that `retry_job` reopens. Deleted and superseded ones are added again by submitting their prefix.
RETRYABLE = (ItemState.REJECTED, ItemState.DEAD, ItemState.CANCELLED)

LOCK_JOB = select(jobs).where(jobs.c.id == bindparam("job_id"), jobs.c.deleted_at.is_(None)).with_for_update()
SET_PRIORITY = update(jobs).where(jobs.c.id == bindparam("job_id")).values(priority=bindparam("new_priority"))
#: Seconds of work up to the end of the job, or up to now.
_WORKED = jobs.c.active_seconds + func.coalesce(
    func.extract("epoch", func.coalesce(jobs.c.finished_at, NOW) - jobs.c.active_since), 0
)
PAUSE_JOB = (
    update(jobs)
    .where(jobs.c.id == bindparam("job_id"))
    .values(state=JobState.PAUSED, active_seconds=_WORKED, active_since=None, listing_lease_until=None)
)
_RESUMED: ColumnElement[str] = case(
    (jobs.c.kind == constant(JobKind.WATCH), JobState.WATCHING.value),
    (jobs.c.listed_at.is_not(None), JobState.RUNNING.value),
    else_=JobState.LISTING.value,
)
#: A job that is still to be listed becomes active when a worker begins.
_ACTIVE_SINCE = case((jobs.c.listed_at.is_(None) & (jobs.c.kind != constant(JobKind.WATCH)), null()), else_=NOW)
RESUME_JOB = (
    update(jobs)
    .where(jobs.c.id == bindparam("job_id"))
    .values(state=_RESUMED, active_since=_ACTIVE_SINCE, pause_reason=None)
)
REOPEN_JOB = RESUME_JOB.values(active_seconds=_WORKED, finished_at=None, error=None)
CANCEL_JOB = (
    update(jobs)
    .where(jobs.c.id == bindparam("job_id"))
    .values(state=JobState.CANCELLED, finished_at=NOW, listing_lease_until=None, pause_reason=None)
)
#: The idempotency key may be used again.
DELETE_JOB = update(jobs).where(jobs.c.id == bindparam("job_id")).values(deleted_at=NOW, idempotency_key=None)
#: What was rung while it was paused was refused by the workers. At most a window of items per queue.
_RUNG = (
    select(items.c.id)
    .where(items.c.job_id == bindparam("of_job"), items.c.state == constant(ItemState.QUEUED))
    .where(items.c.rung_at.is_not(None))
    .order_by(items.c.id)
    .with_for_update(key_share=True, skip_locked=True)
)
CLEAR_RINGS = update(items).where(items.c.id.in_(_RUNG)).values(rung_at=None)
DROP_SWEEPS = delete(sweeps).where(sweeps.c.job_id == bindparam("of_job"))
DROP_CANCEL = DROP_SWEEPS.where(sweeps.c.action == constant(SweepAction.CANCEL))
PENDING_SWEEPS = select(sweeps).where(sweeps.c.job_id == bindparam("of_job")).order_by(sweeps.c.id)


@dataclass(frozen=True, slots=True)
class Retried:
    """A job after `retry_job`."""

    job: Job
    n_items: int  #: that are, or soon will be, open again


def pause_job(c: Connection, name: UUID | str) -> Job:
    """Pause a job: nothing more of it is listed, announced or claimed; what a worker has claimed is finished.

    A paused watch still records events. Pausing a paused job changes nothing. Raises as `read_job`, and `Conflict` for
    a job that has ended.
    """
    job = _lock(c, name)
    if job.state in ENDED_JOB_STATES:
        raise Conflict(f"job {job.short_id} is {job.state}: there is nothing to pause", hint=_retry_hint(job))
    if job.state is not JobState.PAUSED:
        c.execute(PAUSE_JOB, {"job_id": job.id})
        audited(c, AuditAction.PAUSE, job.id)
    return read_job(c, job.id)


def resume_job(c: Connection, name: UUID | str) -> Job:
    """Resume a paused job where it was. A job that is not paused goes on unchanged.

    Ring for the listing of the returned job where it waits for that. Raises as `read_job`, and `Conflict` for a job
    that has ended.
    """
    job = _lock(c, name)
    if job.state in ENDED_JOB_STATES:
        raise Conflict(f"job {job.short_id} is {job.state}, not paused", hint=_retry_hint(job))
    if job.state is JobState.PAUSED:
        c.execute(RESUME_JOB, {"job_id": job.id})
        audited(c, AuditAction.RESUME, job.id)
        c.execute(CLEAR_RINGS, {"of_job": job.id})
        finish_jobs(c, [job.id])  # its last items may have ended while it was paused
    return read_job(c, job.id)


def cancel_job(c: Connection, name: UUID | str) -> Job:
    """End a job, or a watch: what has been scored stays, and its open items end as `cancelled`.

    Cancelling a cancelled job changes nothing. Raises as `read_job`, and `Conflict` for a job that has ended otherwise.
    """
    job = _lock(c, name)
    if job.state in (JobState.COMPLETE, JobState.FAILED):
        hint = f"`dpiqa jobs delete {job.short_id}` removes it from the lists"
        raise Conflict(f"job {job.short_id} is {job.state}: there is nothing to cancel", hint=hint)
    if job.state is not JobState.CANCELLED:
        c.execute(CANCEL_JOB, {"job_id": job.id})
        c.execute(DROP_SWEEPS, {"of_job": job.id})
        sweep(c, job.id, SweepAction.CANCEL)
        audited(c, AuditAction.CANCEL, job.id, address=job.address)
    return read_job(c, job.id)


def delete_job(c: Connection, name: UUID | str, *, force: bool = False) -> Job:
    """Delete a job that has ended: it is hidden at once and its items are removed. Its results and scores stay.

    `force`: cancel it first if it has not ended. Raises as `read_job`, and `Conflict` for a job that has not ended.
    """
    job = _lock(c, name)
    if job.state not in ENDED_JOB_STATES:
        if not force:
            hint = f"cancel it first: `dpiqa jobs cancel {job.short_id}`, or delete it with force"
            raise Conflict(f"job {job.short_id} is {job.state}: only a job that has ended can be deleted", hint=hint)
        c.execute(CANCEL_JOB, {"job_id": job.id})
    c.execute(DELETE_JOB, {"job_id": job.id})
    c.execute(DROP_SWEEPS, {"of_job": job.id})
    sweep(c, job.id, SweepAction.PRUNE)
    audited(c, AuditAction.DELETE, job.id, address=job.address)
    return job


def retry_job(
    c: Connection, name: UUID | str, *, states: Collection[ItemState] = (), reasons: Collection[Reason] = ()
) -> Retried:
    """Reopen items of a job that ended unscored: those in `states` (`RETRYABLE` if none) with one of `reasons`, if any.

    A job that has ended is open again; one that failed or was cancelled while it was listed is listed to the end.
    Without an item to reopen, and with nothing left to list, nothing changes. Ring for the listing of the returned job
    where it waits for that. Raises as `read_job`, `InvalidRequest` for states and reasons that cannot be retried or
    contradict each other, `Conflict` for a watch that was ended, a job that is still being cancelled, and a job whose
    items were removed.
    """
    of_states = _retried_states(states, reasons)
    job = _lock(c, name)
    if job.kind is JobKind.WATCH and job.state in ENDED_JOB_STATES:
        raise Conflict(f"the watch {job.short_id} was ended", hint=f"watch {job.address} again")
    if job.pruned_at is not None and job.kind is not JobKind.WATCH:
        raise Conflict(
            f"the items of job {job.short_id} were removed: there is nothing to retry",
            hint=f"submit {job.address} again; what has a score is not scored again",
        )
    pending = [(row.action, row.state, row.reasons) for row in c.execute(PENDING_SWEEPS, {"of_job": job.id})]
    if (SweepAction.CANCEL, None, None) in pending:
        if reasons or ItemState.CANCELLED not in of_states:
            hint = "try again in a moment, or retry all of it"
            raise Conflict(f"the items of job {job.short_id} are still being cancelled", hint=hint)
        c.execute(DROP_CANCEL, {"of_job": job.id})
    counts = read_counts(c, job.id)
    chosen = [k for k in counts if k.state in of_states and (not reasons or k.reason in reasons)]
    n_items = sum(count.n for count in chosen)
    n_open = sum(count.n for count in counts if count.state in OPEN_ITEM_STATES)
    is_unlisted = job.listed_at is None and job.kind is not JobKind.WATCH
    if job.state in ENDED_JOB_STATES and (n_items or n_open or is_unlisted):
        c.execute(REOPEN_JOB, {"job_id": job.id})
        repeat_callback(c, job.id)
    asked = sorted(reasons) or None
    for state in sorted({count.state for count in chosen}):
        if (SweepAction.RETRY, state, asked) not in pending:
            sweep(c, job.id, SweepAction.RETRY, state=state, reasons=asked)
    audited(c, AuditAction.RETRY, job.id, items=n_items, states=sorted(states), reasons=sorted(reasons))
    return Retried(read_job(c, job.id), n_items)


def set_priority(c: Connection, name: UUID | str, priority: int) -> Job:
    """Change a job's priority, -10 to 10: each step up doubles its share of the windows.

    Raises as `read_job`, `InvalidRequest` for another number, `Conflict` for a job that has ended.
    """
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        hint = "each step doubles a job's share; 0 is normal"
        raise InvalidRequest(f"a priority is from -{MAX_PRIORITY} to {MAX_PRIORITY}, not {priority}", hint=hint)
    job = _lock(c, name)
    if job.state in ENDED_JOB_STATES:
        raise Conflict(f"job {job.short_id} is {job.state}: its priority has no effect", hint=_retry_hint(job))
    c.execute(SET_PRIORITY, {"job_id": job.id, "new_priority": priority})
    audited(c, AuditAction.PRIORITY, job.id, priority=priority)
    return read_job(c, job.id)


def _lock(c: Connection, name: UUID | str) -> Job:
    """Return the job, locked until the transaction ends."""
    job = read_job(c, name)
    row = c.execute(LOCK_JOB, {"job_id": job.id}).one_or_none()
    return read_job(c, job.id) if row is None else Job.from_row(row)  # None: deleted meanwhile, which is not found


def _retry_hint(job: Job) -> str:
    if job.kind is JobKind.WATCH:
        return f"watch {job.address} again"
    return f"`dpiqa jobs retry {job.short_id}` reopens what was not scored"


def _retried_states(states: Collection[ItemState], reasons: Collection[Reason]) -> set[ItemState]:
    """Return the states to retry. Raises `InvalidRequest`."""
    names = ", ".join(RETRYABLE)
    for state in states:
        if state not in RETRYABLE:
            hint = f"only {names}; submitting their prefix again adds the others, where they exist"
            raise InvalidRequest(f"items that are {state} cannot be retried", hint=hint)
    allowed = {reason: state for state in RETRYABLE for reason in REASONS_OF[state]}
    for reason in reasons:
        if reason not in allowed:
            hint = f"its items are not {names}; submitting their prefix again adds them, where they exist"
            raise InvalidRequest(f"items with the reason {reason} cannot be retried", hint=hint)
        if states and allowed[reason] not in states:
            hint = f"its items are {allowed[reason]}: leave the state out, or name that"
            raise InvalidRequest(f"no item that is {' or '.join(states)} has the reason {reason}", hint=hint)
    return set(states) or {allowed[reason] for reason in reasons} or set(RETRYABLE)
