"""Counts of a job's items, kept by triggers (migration 0002) and folded together by the sweeper."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Self
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Date,
    Interval,
    Row,
    Select,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal,
    null,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert

from dpiqa.storage.columns import NOW, constant, constants
from dpiqa.storage.tables import OPEN_ITEM_STATES, OPEN_JOB_STATES, count_changes, job_counts, jobs
from dpiqa.types import ItemState, JobKind, Reason, Stage

#: Changes younger than this stay apart: the rate is read from them. Seconds.
RATE_WINDOW = 60.0
#: Jobs that figures of all jobs look at, the newest first, so that their queries stay short.
RECENT_JOBS = 2000

_GROUP = ("profile", "stage", "state", "reason")
_OLD = NOW - bindparam("age", type_=Interval)


def _sums(of_counts: ColumnElement[bool], of_changes: ColumnElement[bool]) -> Select[Any]:
    """Return the query for the number of items by profile, stage, state and reason, where there are any."""
    parts = union_all(
        *(
            select(*(table.c[name] for name in _GROUP), table.c.n, table.c.reused).where(condition)
            for table, condition in ((job_counts, of_counts), (count_changes, of_changes))
        )
    ).subquery("changes")
    group, n = [parts.c[name] for name in _GROUP], func.sum(parts.c.n)
    sums = cast(n, BigInteger).label("n"), cast(func.sum(parts.c.reused), BigInteger).label("reused")
    return select(*group, *sums).group_by(*group).having(n != 0).order_by(*group)


COUNTS_OF_JOB = _sums(job_counts.c.job_id == bindparam("of_job"), count_changes.c.job_id == bindparam("of_job"))
COUNTS_OF_ALL_JOBS = _sums(true(), true())
_OPEN_JOBS = select(jobs.c.id).where(jobs.c.state.in_(constants(OPEN_JOB_STATES)))
WAITING_ITEMS = select(
    sum(
        (
            select(cast(func.coalesce(func.sum(table.c.n), 0), BigInteger))
            .where(table.c.job_id.in_(_OPEN_JOBS), table.c.state.in_(constants(OPEN_ITEM_STATES)))
            .scalar_subquery()
            for table in (job_counts, count_changes)
        ),
        start=literal(0),
    )
)
JOBS_BY_STATE = select(jobs.c.state, func.count().label("n")).where(jobs.c.deleted_at.is_(None)).group_by(jobs.c.state)
#: The items that ended within the window, and the seconds since the first of them.
RECENTLY_ENDED = select(
    cast(func.coalesce(func.sum(count_changes.c.n), 0), BigInteger).label("n"),
    func.extract("epoch", NOW - func.min(count_changes.c.at)).label("age"),
).where(
    count_changes.c.job_id == bindparam("of_job"),
    count_changes.c.state.not_in(constants(OPEN_ITEM_STATES)),
    count_changes.c.at > _OLD,
)


def _fold_statement() -> Any:
    columns = ("job_id", *_GROUP)
    taken = delete(count_changes).where(count_changes.c.at < _OLD)
    values = ("n", "reused")
    old = taken.returning(*(count_changes.c[name] for name in (*columns, *values))).cte("old")
    group = [old.c[name] for name in columns]
    sums = select(*group, *(func.sum(old.c[name]) for name in values)).group_by(*group).order_by(*group)
    added = insert(job_counts).from_select([*columns, *values], sums)
    new = {name: job_counts.c[name] + added.excluded[name] for name in values}
    return added.on_conflict_do_update(index_elements=columns, set_=new)


def _failures_statement() -> Select[Any]:
    recent = select(jobs.c.id, jobs.c.kind, jobs.c.created_at).where(jobs.c.deleted_at.is_(None))
    recent = recent.where((jobs.c.created_at > _OLD) | (jobs.c.kind == constant(JobKind.WATCH)))
    of_jobs = recent.order_by(jobs.c.created_at.desc()).limit(bindparam("recent")).subquery("recent")
    day = case(
        (of_jobs.c.kind == constant(JobKind.WATCH), null()),
        else_=cast(func.timezone("UTC", of_jobs.c.created_at), Date),
    ).label("day")
    parts = union_all(
        *(
            select(day, table.c.reason, table.c.n)
            .join(of_jobs, of_jobs.c.id == table.c.job_id)
            .where(table.c.reason != "")
            for table in (job_counts, count_changes)
        )
    ).subquery("parts")
    total = cast(func.sum(parts.c.n), BigInteger).label("n")
    return select(parts.c.day, parts.c.reason, total).group_by(parts.c.day, parts.c.reason)


FAILURES_BY_DAY = _failures_statement()
_NEWEST = (
    select(jobs.c.escalated, jobs.c.scored_by_student)
    .where(jobs.c.deleted_at.is_(None))
    .order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
    .limit(bindparam("recent"))
    .subquery("newest")
)
ESCALATED = select(
    cast(func.coalesce(func.sum(_NEWEST.c.escalated), 0), BigInteger).label("escalated"),
    cast(func.coalesce(func.sum(_NEWEST.c.scored_by_student), 0), BigInteger).label("scored"),
)
FOLD_OLD_CHANGES = _fold_statement()


@dataclass(frozen=True, slots=True)
class Count:
    """A number of items that are alike in profile, stage, state and reason."""

    stage: Stage
    state: ItemState
    reason: Reason | None
    n: int
    profile: str = ""  #: id of a further profile of the job; empty: its own
    reused: int = 0  #: of these, the items whose scores were known before

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of counts, in which no reason is empty text."""
        reason = Reason(row.reason) if row.reason else None
        return cls(row.stage, row.state, reason, row.n, row.profile, row.reused)


def read_counts(c: Connection, job_id: UUID) -> list[Count]:
    """Return the counts of a job, exact at any moment."""
    return [Count.from_row(row) for row in c.execute(COUNTS_OF_JOB, {"of_job": job_id})]


def read_rate(c: Connection, job_id: UUID) -> float:
    """Return the items ended per second over the last minute, or since the first of them if that is less long ago."""
    row = c.execute(RECENTLY_ENDED, {"of_job": job_id, "age": timedelta(seconds=RATE_WINDOW)}).one()
    return row.n / max(float(row.age), 1.0) if row.n > 0 else 0.0


def fold_counts(c: Connection, older_than: float = RATE_WINDOW) -> None:
    """Fold changes older than some seconds into `job_counts`. The caller holds the feeder's lock."""
    c.execute(FOLD_OLD_CHANGES, {"age": timedelta(seconds=older_than)})


def totals(c: Connection) -> dict[tuple[str, str, str], int]:
    """Return the items of all jobs: (stage, state, reason or "") -> number."""
    items: Counter[tuple[str, str, str]] = Counter()
    for row in c.execute(COUNTS_OF_ALL_JOBS):
        items[row.stage, row.state, row.reason] += row.n
    return dict(items)


def failures_by_day(c: Connection, days: int) -> dict[tuple[date | None, str], int]:
    """Return the items that ended unscored in the newest jobs: (day of the job's submission in UTC, reason) -> number.

    The day of watches, which go on for long, is None. Of the last `days` days, and of at most `RECENT_JOBS` jobs.
    """
    failures: Counter[tuple[date | None, str]] = Counter()
    for row in c.execute(FAILURES_BY_DAY, {"age": timedelta(days=days), "recent": RECENT_JOBS}):
        failures[row.day, row.reason] += row.n
    return {key: n for key, n in failures.items() if n > 0}


def escalated_share(c: Connection) -> float | None:
    """Return the share, 0 to 1, of what students scored that was sent to the teacher, in the newest `RECENT_JOBS` jobs.

    None: they have scored nothing.
    """
    row = c.execute(ESCALATED, {"recent": RECENT_JOBS}).one()
    return row.escalated / row.scored if row.scored else None


def waiting_items(c: Connection) -> int:
    """Return how many items of jobs that have not ended wait for a worker, or are with one."""
    return int(c.execute(WAITING_ITEMS).scalar_one())


def jobs_by_state(c: Connection) -> dict[str, int]:
    """Return how many jobs are in each state."""
    return {row.state: row.n for row in c.execute(JOBS_BY_STATE)}
