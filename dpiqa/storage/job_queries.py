"""Job queries: pages of jobs and items, and progress reports."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Uuid, bindparam, func, literal, not_, select, tuple_, union_all

from dpiqa.access import EVERYTHING, Grants
from dpiqa.addresses import object_address
from dpiqa.storage.callbacks import CallbackStatus, read_callback_status
from dpiqa.storage.columns import constant
from dpiqa.storage.counts import Count, read_counts, read_rate
from dpiqa.storage.examples import IS_UNSCORED, read_examples
from dpiqa.storage.granted import visible_jobs
from dpiqa.storage.items import Item
from dpiqa.storage.job_profiles import Routed, read_all_routed
from dpiqa.storage.jobs import Job, read_job
from dpiqa.storage.pages import MAX_READ, Page, check_limit, decode, encode, malformed_cursor
from dpiqa.storage.postponed_buckets import PostponedBucket, read_postponed
from dpiqa.storage.reports import Report, read_report
from dpiqa.storage.tables import OPEN_JOB_STATES, images, items, jobs
from dpiqa.storage.workers import LiveWorker, live_workers
from dpiqa.text import iso_minute
from dpiqa.types import ENDED_JOB_STATES, REASONS_OF, TERMINAL_STATES, ItemState, JobKind, JobState, Reason, Stage

#: What is shown of a row of `jobs`, in this order; the names are those of the API.
JOB_FIELDS = (
    "id",
    "kind",
    "state",
    "bucket",
    "prefix",
    "profile",
    "profiles",
    "priority",
    "created_at",
    "listed_at",
    "finished_at",
    "pruned_at",
    "scored_by_student",
    "escalated",
    "error",
    "pause_reason",
    "source",
    "details",
    "tally",
)


#: What is shown of its progress: the name of the API, and the field of `JobReport`.
PROGRESS_FIELDS = {
    "total": "total",
    "done": "done",
    "counts": "by_state",
    "open_by_stage": "open_by_stage",
    "counts_by_profile": "by_profile",
    "scored_by_student": "scored_by_student",
    "escalated": "escalated",
    "reused": "reused",
    "failures": "failures",
    "examples": "examples",
    "rate_per_second": "rate",
    "eta_seconds": "eta_seconds",
    "duration_seconds": "duration_seconds",
    "mean_rate_per_second": "mean_rate",
    "waiting_for": "waiting_for",
    "report": "written",
    "callback": "callback",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Conditions on jobs; None and () are none."""

    states: tuple[JobState, ...] = ()  #: any of these
    kind: JobKind | None = None
    bucket: str | None = None
    since: datetime | None = None  #: submitted at this time or later
    before: datetime | None = None  #: submitted earlier
    grants: Grants = EVERYTHING  #: within these

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions, that a job is not deleted among them."""
        conditions: list[ColumnElement[bool]] = [jobs.c.deleted_at.is_(None), *visible_jobs(self.grants)]
        if self.states:
            conditions.append(jobs.c.state.in_(self.states))
        if self.kind is not None:
            conditions.append(jobs.c.kind == self.kind)
        if self.bucket is not None:
            conditions.append(jobs.c.bucket == self.bucket)
        if self.since is not None:
            conditions.append(jobs.c.created_at >= self.since)
        if self.before is not None:
            conditions.append(jobs.c.created_at < self.before)
        return conditions


EVERY_JOB = JobFilter()


def list_jobs(
    c: Connection, chosen: JobFilter = EVERY_JOB, *, limit: int = 100, cursor: str | None = None
) -> Page[Job]:
    """Return jobs, newest first. Raises `InvalidRequest` for a bad cursor or a limit outside 1-1000."""
    newest_first = jobs.c.created_at.desc(), jobs.c.id.desc()
    query = select(jobs).where(*chosen.conditions()).order_by(*newest_first).limit(check_limit(limit) + 1)
    if cursor is not None:
        created_at, job_id = decode(chosen, cursor, [str, str])
        try:
            position = datetime.fromisoformat(str(created_at)), UUID(str(job_id))
        except ValueError:
            raise malformed_cursor() from None
        last = tuple_(literal(position[0], jobs.c.created_at.type), literal(position[1], jobs.c.id.type))
        query = query.where(tuple_(jobs.c.created_at, jobs.c.id) < last)
    rows = [Job.from_row(row).seen_within(chosen.grants) for row in c.execute(query)]
    return Page.cut(rows, limit, lambda job: encode(chosen, [job.created_at.isoformat(), str(job.id)]))


def job_items(
    c: Connection,
    name: UUID | str,
    state: ItemState | None = None,
    *,
    reason: Reason | None = None,
    grants: Grants = EVERYTHING,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[Item]:
    """Return a job's items, those in one state or with one reason if asked. Raises as `read_job` and `list_jobs`.

    The page is partial where it had to read `MAX_READ` items to check their state or reason.
    """
    job = read_job(c, name, grants)
    query_id = ("items", str(job.id), state, reason)
    sorted_by = (items.c.image_id, items.c.profile)
    bounds = [items.c.job_id == job.id]
    if state in REASONS_OF:
        bounds += [IS_UNSCORED, items.c.state == state]  # an index of their own
    if cursor is not None:
        bounds.append(_beyond(decode(query_id, cursor, [int, str])))
    checks_rows = reason is not None or (state is not None and state not in REASONS_OF)

    def read(rows: int, max_read: int | None) -> list[Row[Any]]:
        of_job = select(items).where(*bounds).order_by(*sorted_by).limit(max_read if checks_rows else rows)
        walked = of_job.subquery("walked")
        query = (
            select(*walked.c, images.c.bucket, images.c.key, images.c.etag, images.c.version_id)
            .join_from(walked, images, images.c.id == walked.c.image_id)
            .order_by(walked.c.image_id, walked.c.profile)
            .limit(rows)
        )
        query = query if state is None else query.where(walked.c.state == state)
        query = query if reason is None else query.where(walked.c.reason == reason)
        return list(c.execute(query))

    rows, end = read(check_limit(limit) + 1, MAX_READ), None
    if checks_rows and len(rows) <= limit:  # as `list_scores` does
        last = select(*sorted_by).where(*bounds).order_by(*sorted_by).offset(MAX_READ - 1).limit(1)
        end = c.execute(last).one_or_none()
        if end is not None:
            bounds.append(not_(_beyond(list(end))))
        rows = read(limit + 1, None)
    page = Page.cut(rows, limit, lambda row: encode(query_id, [row.image_id, row.profile]))
    found = [Item.from_row(row, job.profile) for row in page.items]
    if end is not None and page.next_cursor is None:
        return Page(found, encode(query_id, list(end)), partial=True)
    return Page(found, page.next_cursor)


def _beyond(position: Sequence[Any]) -> ColumnElement[bool]:
    """Build "after this image and profile"."""
    image_id, profile = position
    last = tuple_(literal(image_id, items.c.image_id.type), literal(profile, items.c.profile.type))
    return tuple_(items.c.image_id, items.c.profile) > last


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """A job and how far it is, counted in the database."""

    job: Job
    by_state: dict[ItemState, int]  #: items; states without items are left out
    open_by_stage: dict[Stage, int]  #: items that have not ended, by the model they wait for
    by_profile: dict[str, dict[ItemState, int]]  #: `by_state` of each profile, by id; the job's own first
    scored_by_student: int  #: items that a student scored in this job, under any of its profiles
    escalated: int  #: of those, the items that were sent to the teacher
    reused: int  #: scored items whose score was known before: nothing was computed for them
    failures: dict[Reason, int]  #: items that ended unscored, most frequent reason first; `dpiqa.types` has its state
    examples: dict[Reason, list[str]] = field(default_factory=dict)  #: some of their keys, by reason
    total: int  #: items known so far; final once the job is listed
    done: int  #: items that have ended, scored or not
    rate: float  #: items ended per second, over the last minute; 0 when the job has ended
    eta_seconds: float | None  #: at this rate; None where that cannot be said
    duration_seconds: float | None  #: of work so far, without pauses; None before a worker began
    mean_rate: float | None  #: items ended per second of that, without cancelled ones
    waiting_for: str | None  #: what holds the job up, if anything does
    written: Report | None = None  #: the report that was asked for with the job
    callback: CallbackStatus | None = None  #: the callback that was asked for with the job


#: Each part is read by a partial index: those of a job that wait, and all that workers hold at the moment.
_open_items = union_all(
    *(
        select(items.c.id, items.c.image_id, items.c.attempt, items.c.created_at, items.c.detail).where(
            items.c.job_id == bindparam("of_job", type_=Uuid), items.c.detail.is_not(None), *are_open
        )
        for are_open in (
            (items.c.state == constant(ItemState.QUEUED), items.c.rung_at.is_(None)),
            (items.c.state == constant(ItemState.QUEUED), items.c.rung_at.is_not(None)),
            (items.c.state == constant(ItemState.LEASED),),
        )
    )
).subquery("open")
#: The open items of a job whose latest try failed, the oldest first, with their number.
FAILING_ITEMS = (
    select(
        images.c.bucket,
        images.c.key,
        _open_items.c.attempt,
        _open_items.c.created_at,
        _open_items.c.detail,
        func.count().over(),
    )
    .join_from(_open_items, images, images.c.id == _open_items.c.image_id)
    .order_by(_open_items.c.created_at, _open_items.c.id)
    .limit(1)
)
MOST_FAILING = 1000  #: open items of a job among which the failing ones are looked for


@dataclass(frozen=True, slots=True)
class FailingItems:
    """The open items of a job whose latest try failed, and the one that waits longest."""

    bucket: str
    key: str
    tries: int
    added_at: datetime
    error: str
    n: int  #: of all

    def __str__(self) -> str:
        """Say in one line what is the case."""
        which = "an image" if self.n == 1 else f"{self.n} images"
        address = object_address(self.bucket, self.key)
        tried = f"tried {self.tries} time{'s' if self.tries > 1 else ''} since {iso_minute(self.added_at)}"
        first = address if self.n == 1 else f"the first {address}"
        return f"{which} of which every try fails: {first}, {tried}: {self.error[:200]}"


def describe_job(job: Job) -> dict[str, Any]:
    """Return what is shown of a job, by the names of the API."""
    return {name: getattr(job, name) for name in JOB_FIELDS}


def describe(report: JobReport) -> dict[str, Any]:
    """Return what is shown of a job and its progress, by the names of the API."""
    return describe_job(report.job) | {name: getattr(report, own) for name, own in PROGRESS_FIELDS.items()}


def get_job(c: Connection, name: UUID | str, grants: Grants = EVERYTHING) -> JobReport:
    """Report on a job. Raises as `read_job`."""
    job = read_job(c, name, grants)
    routed = read_all_routed(c, job.id) if job.further_profiles else []
    rate = read_rate(c, job.id)
    postponed = [row for row in read_postponed(c) if row.bucket == job.bucket]
    counts = read_counts(c, job.id)
    n_open = sum(count.n for count in counts if count.state not in TERMINAL_STATES)
    failing = c.execute(FAILING_ITEMS, {"of_job": job.id}).one_or_none() if 0 < n_open <= MOST_FAILING else None
    made = report(
        job,
        counts,
        rate,
        live_workers(c),
        now=datetime.now(UTC),
        routed=routed,
        postponed=postponed[0] if postponed else None,
        failing=FailingItems(*failing) if failing else None,
    )
    if made.failures:
        made = replace(made, examples=read_examples(c, job.id))
    written = read_report(c, job.id)
    if written is not None and not grants.cover_address(written.output):
        written = None
    return replace(made, written=written, callback=read_callback_status(c, job.id))


def report(
    job: Job,
    counts: Sequence[Count],
    rate: float,
    alive: Sequence[LiveWorker],
    *,
    now: datetime,
    routed: Sequence[Routed] = (),
    postponed: PostponedBucket | None = None,
    failing: FailingItems | None = None,
) -> JobReport:
    """Put a report together; `postponed`: its bucket, where workers do not read it at the moment. Pure."""
    by_state: Counter[ItemState] = Counter()
    by_profile: dict[str, Counter[ItemState]] = {profile: Counter() for profile in job.profiles}
    open_by_stage: Counter[Stage] = Counter()
    failures: Counter[Reason] = Counter()
    for count in counts:
        by_state[count.state] += count.n
        by_profile.setdefault(count.profile or job.profile, Counter())[count.state] += count.n
        if count.state not in TERMINAL_STATES:
            open_by_stage[count.stage] += count.n
        if count.reason is not None:
            failures[count.reason] += count.n
    total, left = by_state.total(), open_by_stage.total()
    eta_seconds = None
    if (job.state is JobState.RUNNING and (left == 0 or rate > 0)) or job.state is JobState.COMPLETE:
        eta_seconds = left / rate if left else 0.0
    duration = job.worked_seconds(now) or None
    if duration is None and job.finished_at is not None and total:  # from before durations were kept
        duration = (job.finished_at - job.created_at).total_seconds()
    n_worked = total - left - by_state[ItemState.CANCELLED]
    return JobReport(
        job=job,
        by_state=dict(by_state),
        open_by_stage=dict(open_by_stage),
        by_profile={profile: dict(states) for profile, states in by_profile.items()},
        scored_by_student=job.scored_by_student + sum(further.scored_by_student for further in routed),
        escalated=job.escalated + sum(further.escalated for further in routed),
        reused=sum(count.reused for count in counts if count.state is ItemState.SCORED),
        failures=dict(failures.most_common()),
        total=total,
        done=total - left,
        rate=0.0 if job.state in ENDED_JOB_STATES else rate,
        eta_seconds=eta_seconds,
        duration_seconds=duration,
        mean_rate=n_worked / duration if duration and n_worked else None,
        waiting_for=_waiting_for(job, open_by_stage, {worker.stage for worker in alive}, postponed, failing),
    )


def _waiting_for(
    job: Job,
    open_by_stage: Counter[Stage],
    alive: set[Stage],
    postponed: PostponedBucket | None,
    failing: FailingItems | None,
) -> str | None:
    if job.state is JobState.PAUSED:
        return f"`dpiqa jobs resume {job.short_id}`"
    left = open_by_stage.total()
    if job.state in (JobState.CANCELLED, JobState.FAILED) and left and not alive:
        return f"a worker of any stage to cancel {left} item{'s' if left > 1 else ''}"
    if job.state not in OPEN_JOB_STATES:
        return None
    missing = [
        f"a {stage} worker: {n} item{'s' if n > 1 else ''}"
        for stage, n in sorted(open_by_stage.items())
        if n and stage not in alive
    ]
    if job.state is JobState.LISTING and not alive:
        missing.insert(0, "a worker to list its objects")
    if postponed is not None and (left or job.state is JobState.LISTING):
        missing.append(str(postponed))
    if failing is not None and failing.n == left:
        end = f"; `dpiqa jobs cancel {job.short_id}` ends the job without {'it' if left == 1 else 'them'}"
        missing.append(f"{failing}{'' if job.kind is JobKind.WATCH else end}")
    return ", ".join(missing) or None
