"""Callbacks: asked for with a job, delivered at least once when the job has ended, whatever dies meanwhile."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, bindparam, exists, func, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from dpiqa.callbacks.addresses import shown
from dpiqa.storage.callback_tables import callbacks
from dpiqa.storage.columns import NOW, after, constant, constants
from dpiqa.storage.counts import read_counts
from dpiqa.storage.jobs import Job
from dpiqa.storage.leases import RowLease
from dpiqa.storage.tables import jobs, sweeps
from dpiqa.types import ENDED_JOB_STATES, CallbackState

LEASE_SECONDS = 120.0  #: longer than an attempt may take
MAX_DUE = 16  #: callbacks looked at in one round, which is over before those that came meanwhile are
MAX_DUE_OF_RECEIVER = 4  #: of those, callbacks to one host, which may be slow: fewer than a worker sends at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A row of `callbacks`. `attempt` is the fence of the worker that delivers it."""

    id: int
    job_id: UUID
    url: str
    message_id: str
    state: CallbackState
    attempts: int
    status: int | None
    error: str | None
    due_at: datetime
    created_at: datetime
    finished_at: datetime | None
    lease_until: datetime | None
    attempt: int

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `callbacks`, all columns of it."""
        return cls(**row._mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackStatus:
    """A callback as it is shown."""

    url: str  #: scheme and host alone: path and query may hold a secret of the receiver
    state: CallbackState
    attempts: int  #: how often it was tried
    status: int | None  #: HTTP status of the last attempt; None: there was no answer
    error: str | None  #: why the last attempt failed
    next_attempt_at: datetime | None  #: None before the first attempt and after the last
    finished_at: datetime | None  #: when it was delivered or given up


#: A cancelled job has ended when the sweeper has ended its items; one that was deleted has ended.
_JOB_HAS_ENDED = exists().where(
    jobs.c.id == callbacks.c.job_id,
    or_(
        jobs.c.deleted_at.is_not(None),
        jobs.c.state.in_(constants(sorted(ENDED_JOB_STATES)))
        & ~exists().where(sweeps.c.job_id == jobs.c.id).correlate(jobs),
    ),
)
_IS_PENDING = callbacks.c.state == constant(CallbackState.PENDING)
DELIVERING = RowLease(
    table=callbacks,
    noun="the callback",
    until=callbacks.c.lease_until,
    fence=callbacks.c.attempt,
    is_open=_IS_PENDING & (callbacks.c.due_at <= NOW) & _JOB_HAS_ENDED,
)
START_DELIVERY = DELIVERING.start_statement()
_OUTCOME: dict[str, Any] = {
    "attempts": callbacks.c.attempts + 1,
    "status": bindparam("http_status", type_=callbacks.c.status.type),
    "error": bindparam("why", type_=callbacks.c.error.type),
}
POSTPONE = DELIVERING.write_statement(**_OUTCOME, due_at=after("pause"))
FINISH = DELIVERING.write_statement(
    **_OUTCOME, state=bindparam("new_state", type_=callbacks.c.state.type), finished_at=NOW
)
_RECEIVER = func.substring(callbacks.c.url, literal_column("'^[^:]+://([^/?#]*)'"))
_is_retry = callbacks.c.attempts > 0
_due = (
    select(
        callbacks.c.id,
        callbacks.c.due_at,
        _is_retry.label("is_retry"),
        func.row_number()
        .over(partition_by=_RECEIVER, order_by=(_is_retry, callbacks.c.due_at, callbacks.c.id))
        .label("turn"),
    )
    .where(DELIVERING.is_free)
    .subquery("due")
)
DUE_CALLBACKS = (
    select(_due.c.id)
    .where(_due.c.turn <= MAX_DUE_OF_RECEIVER)
    .order_by(_due.c.is_retry, _due.c.turn, _due.c.due_at, _due.c.id)
    .limit(MAX_DUE)
)
CALLBACK_OF_JOB = select(callbacks).where(callbacks.c.job_id == bindparam("of_job"))
JOB_OF_CALLBACK = select(jobs).where(jobs.c.id == bindparam("of_job"))
#: A job that is open again tells of its next end, too, by a message of its own.
AGAIN = (
    update(callbacks)
    .where(callbacks.c.job_id == bindparam("of_job"), ~_IS_PENDING)
    .values(
        state=CallbackState.PENDING,
        message_id=bindparam("new_id"),
        attempts=0,
        status=None,
        error=None,
        due_at=NOW,
        finished_at=None,
    )
)


def request_callback(c: Connection, job_id: UUID, url: str) -> None:
    """Ask for a callback of a job that has none yet. `url`: one that `CallbackRules.parse` permits."""
    values = {"job_id": job_id, "url": url, "message_id": _new_id(), "state": CallbackState.PENDING}
    c.execute(insert(callbacks).on_conflict_do_nothing(), values)


def repeat_callback(c: Connection, job_id: UUID) -> None:
    """Have a job that was opened again tell of its next end, if it told of the last one."""
    c.execute(AGAIN, {"of_job": job_id, "new_id": _new_id()})


def read_callback(c: Connection, job_id: UUID) -> Callback | None:
    """Return the callback of a job; None if none was asked for."""
    row = c.execute(CALLBACK_OF_JOB, {"of_job": job_id}).one_or_none()
    return None if row is None else Callback.from_row(row)


def read_callback_status(c: Connection, job_id: UUID) -> CallbackStatus | None:
    """Return how the callback of a job stands; None if none was asked for."""
    row = read_callback(c, job_id)
    if row is None:
        return None
    waits = row.attempts and row.state is CallbackState.PENDING
    return CallbackStatus(
        url=shown(row.url),
        state=row.state,
        attempts=row.attempts,
        status=row.status,
        error=row.error,
        next_attempt_at=row.due_at if waits else None,
        finished_at=row.finished_at,
    )


def due_callbacks(c: Connection) -> Sequence[int]:
    """Return the ids of some callbacks that are due and that no worker delivers: first attempts, then the oldest.

    Receivers take turns, so that a slow one holds up no other by the number of its callbacks.
    """
    return list(c.execute(DUE_CALLBACKS).scalars())


@dataclass(frozen=True, slots=True)
class Delivery:
    """A callback that a worker holds, and what it tells."""

    callback: Callback
    job: Job
    counts: dict[str, int]  #: items by state; none of a job that was deleted


def start_delivery(c: Connection, callback_id: int) -> Delivery | None:
    """Take a callback for one attempt. None if it is not due, or another worker delivers it."""
    row = DELIVERING.start(c, START_DELIVERY, callback_id, LEASE_SECONDS)
    if row is None:
        return None
    callback = Callback.from_row(row)
    job = Job.from_row(c.execute(JOB_OF_CALLBACK, {"of_job": callback.job_id}).one())
    counts: Counter[str] = Counter()
    for count in read_counts(c, job.id):
        counts[count.state.value] += count.n
    return Delivery(callback, job, dict(sorted(counts.items())))


def postpone_delivery(c: Connection, held: Callback, seconds: float, *, status: int | None, error: str | None) -> None:
    """Record an attempt that failed, and when the next one is due. Raises `LeaseLost`."""
    pause = timedelta(seconds=seconds)
    DELIVERING.write(c, POSTPONE, held.id, held.attempt, http_status=status, why=error, pause=pause)


def finish_delivery(c: Connection, held: Callback, *, status: int | None, error: str | None) -> None:
    """Record the last attempt: delivered, or given up with an error. Raises `LeaseLost`."""
    state = CallbackState.DELIVERED if error is None else CallbackState.FAILED
    DELIVERING.write(c, FINISH, held.id, held.attempt, http_status=status, why=error, new_state=state)


def _new_id() -> str:
    return f"msg_{uuid4().hex}"
