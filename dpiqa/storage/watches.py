"""Standing watches: what is known of each beside its job: events, back-fill, probes, schedule of reconciliations.

A watch without a row here, from a submission or an event, is as good as one with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, Select, Text, Uuid, any_, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from dpiqa.access import EVERYTHING, Caller, Grants
from dpiqa.addresses import S3Address, is_s3, parse_s3, probe_key
from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.profiles import Profile
from dpiqa.storage.audit import audited
from dpiqa.storage.columns import NOW, array, constant, constants
from dpiqa.storage.engine import is_pooled
from dpiqa.storage.granted import visible_jobs
from dpiqa.storage.jobs import Job, ensure_watch, read_job, submit_job
from dpiqa.storage.measures import request_details
from dpiqa.storage.tables import jobs
from dpiqa.storage.watch_tables import probes, watches
from dpiqa.types import AuditAction, Delivery, JobKind, JobState

LISTENER = "dpiqa-listener"  #: name of the listeners' connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A row of `probes`: one test of whether a bucket's events arrive."""

    id: UUID
    job_id: UUID
    bucket: str
    key: str
    sent_at: datetime
    created_seen_at: datetime | None
    removed_seen_at: datetime | None
    seen_via: Delivery | None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `probes`."""
        return cls(**row._mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A job of kind watch, and what is known of it beside."""

    job: Job
    backfill_job_id: UUID | None
    events: int  #: objects that events announced, created and removed
    passed_over: int  #: objects that events announced as created and that are by name no image
    last_event_at: datetime | None
    last_event_via: Delivery | None
    reconcile_seconds: int | None  #: between scheduled reconciliations; None: no schedule
    reconcile_due_at: datetime | None

    @classmethod
    def of(cls, job: Job, facts: Row[Any] | None) -> Self:
        """Put a job and its row of `watches`, if it has one, together."""
        return cls(
            job=job,
            backfill_job_id=facts and facts.backfill_job_id,
            events=facts.events if facts else 0,
            passed_over=facts.passed_over if facts else 0,
            last_event_at=facts and facts.last_event_at,
            last_event_via=facts and facts.last_event_via,
            reconcile_seconds=facts and facts.reconcile_seconds,
            reconcile_due_at=facts and facts.reconcile_due_at,
        )

    @property
    def address(self) -> S3Address:
        """Bucket and prefix."""
        return S3Address(self.job.bucket, self.job.prefix)


_WATCH_JOBS = (
    select(jobs)
    .where(jobs.c.kind == constant(JobKind.WATCH), jobs.c.deleted_at.is_(None))
    .order_by(jobs.c.created_at, jobs.c.id)
)
_STANDING = jobs.c.state.in_(constants([JobState.WATCHING, JobState.PAUSED]))
FACTS = select(watches).where(watches.c.job_id == any_(array("ids", Uuid)))
ENDED_WATCH = (
    select(jobs.c.id)
    .where(jobs.c.kind == constant(JobKind.WATCH), jobs.c.state == constant(JobState.CANCELLED))
    .where(jobs.c.bucket == bindparam("in_bucket"))
    .where(func.starts_with(bindparam("key", type_=Text), jobs.c.prefix))
    .limit(1)
)
INSERT_WATCH = insert(watches).on_conflict_do_nothing()
LOCK_WATCH = select(watches.c.job_id).where(watches.c.job_id == bindparam("watch")).with_for_update()
SET_BACKFILL = (
    update(watches).where(watches.c.job_id == bindparam("watch")).values(backfill_job_id=bindparam("listing"))
)
SET_SCHEDULE = (
    update(watches)
    .where(watches.c.job_id == bindparam("watch"))
    .values(
        reconcile_seconds=bindparam("seconds"),
        # The first one is due a whole interval from now: adding a watch lists what is there.
        reconcile_due_at=NOW + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("seconds")),
    )
)
_NEW = insert(watches)
RECORD_EVENTS = _NEW.values(last_event_at=NOW).on_conflict_do_update(
    index_elements=[watches.c.job_id],
    set_={
        "events": watches.c.events + _NEW.excluded.events,
        "passed_over": watches.c.passed_over + _NEW.excluded.passed_over,
        "last_event_at": _NEW.excluded.last_event_at,
        "last_event_via": _NEW.excluded.last_event_via,
    },
)


def list_watches(c: Connection, *, ended: bool = False, grants: Grants = EVERYTHING) -> list[Watch]:
    """Return the watches within the grants, oldest first; `ended`: also those that were removed."""
    watches_within = _WATCH_JOBS.where(*visible_jobs(grants))
    return _read(c, watches_within if ended else watches_within.where(_STANDING))


def read_watch(c: Connection, job_id: UUID) -> Watch:
    """Return the watch with this job. Raises `NotFound`."""
    found = _read(c, _WATCH_JOBS.where(jobs.c.id == job_id))
    if not found:
        raise NotFound(f"no watch {job_id}", hint="see `dpiqa watches list`")
    return found[0]


def watches_of(c: Connection, address: S3Address) -> list[Watch]:
    """Return the standing watches of exactly this bucket and prefix, under any profile, oldest first."""
    return _read(c, _WATCH_JOBS.where(_STANDING, jobs.c.bucket == address.bucket, jobs.c.prefix == address.key))


@dataclass(frozen=True, slots=True)
class AddedWatch:
    """The outcome of `add_watch`."""

    watch: Watch
    is_new: bool
    backfill: Job | None  #: the job that lists what is there, if it was made now: ring for it


def add_watch(
    c: Connection,
    address: S3Address,
    profile: Profile | Sequence[Profile],
    *,
    backfill: bool = True,
    details: bool = False,
    caller: Caller | None = None,
) -> AddedWatch:
    """Watch a bucket's prefix under one profile or several, and list what is there. May be repeated: both exist once.

    `details`: measure the pictures of both; a watch that exists measures those that come from now on. A back-fill that
    failed or was cancelled is made again. Raises as `create_job`.
    """
    before = {watch.job.id for watch in watches_of(c, address)}
    job = ensure_watch(c, address.bucket, address.key, profile, caller)
    remember_watch(c, job.id)
    c.execute(LOCK_WATCH, {"watch": job.id})  # those who add it at the same time see the back-fill
    earlier = read_watch(c, job.id).backfill_job_id
    listing = None
    if backfill and (earlier is None or _state(c, earlier) in (None, JobState.FAILED, JobState.CANCELLED)):
        bucket, prefix = address.bucket, address.key
        listing = submit_job(c, kind=JobKind.PREFIX, bucket=bucket, prefix=prefix, profile=profile, caller=caller)
        c.execute(SET_BACKFILL, {"watch": job.id, "listing": listing.id})
    if details:
        for one in (job, *([] if listing is None else [listing])):
            request_details(c, one.id)
    return AddedWatch(read_watch(c, job.id), job.id not in before, listing)


def _state(c: Connection, job_id: UUID) -> JobState | None:
    """Return the state of a job; None for one that was deleted."""
    try:
        return read_job(c, job_id).state
    except NotFound:
        return None


def find_watch(c: Connection, name: str) -> Watch:
    """Return the watch that a user names, by its address or by its job. Raises `NotFound`, `InvalidRequest`."""
    if not is_s3(name):
        return read_watch(c, read_job(c, name, kind=JobKind.WATCH).id)
    address = parse_s3(name)
    found = watches_of(c, address)
    if not found:
        raise NotFound(f"{address} is not watched", hint="see `dpiqa watches list`")
    if len(found) > 1:
        ids = ", ".join(f"{watch.job.short_id} ({watch.job.profile})" for watch in found)
        raise InvalidRequest(f"{address} is watched under several profiles: {ids}", hint="name the job of one")
    return found[0]


def was_ended(c: Connection, bucket: str, key: str) -> bool:
    """Return whether a watch that covered the key was removed: its events start no watch of the whole bucket."""
    return c.execute(ENDED_WATCH, {"in_bucket": bucket, "key": key}).first() is not None


def remember_watch(c: Connection, job_id: UUID) -> None:
    """Make the row of a watch, unless it has one."""
    c.execute(INSERT_WATCH, {"job_id": job_id})


def set_schedule(c: Connection, watch_id: UUID, seconds: int | None) -> None:
    """Have the watch reconciled every so many seconds from now on; None: no more."""
    remember_watch(c, watch_id)
    c.execute(SET_SCHEDULE, {"watch": watch_id, "seconds": seconds})
    audited(c, AuditAction.WATCH, watch_id, reconcile_seconds=seconds)


def record_events(
    c: Connection, objects_of_watch: Mapping[UUID, int], passed_over: Mapping[UUID, int], via: Delivery
) -> None:
    """Count the objects that events announced to each watch, in the transaction that records them.

    `passed_over`: those of them that are by name no image. Call it last: it locks rows of `watches`, by id.
    """
    rows = [
        {"job_id": job_id, "events": n, "passed_over": passed_over.get(job_id, 0), "last_event_via": via}
        for job_id, n in sorted(objects_of_watch.items())
        if n
    ]
    if rows:
        c.execute(RECORD_EVENTS, rows)


def _read(c: Connection, query: Select[Any]) -> list[Watch]:
    """Return the watches of some jobs, in their order."""
    found = [Job.from_row(row) for row in c.execute(query)]
    facts = {row.job_id: row for row in c.execute(FACTS, {"ids": [job.id for job in found]})}
    return [Watch.of(job, facts.get(job.id)) for job in found]


# Probes


INSERT_PROBE = insert(probes).returning(probes)
PROBE_BY_ID = select(probes).where(probes.c.id == bindparam("probe"))
LAST_PROBE = select(probes).where(probes.c.job_id == bindparam("watch")).order_by(probes.c.sent_at.desc()).limit(1)
_NAMED = probes.c.id == any_(array("ids", Uuid))
CREATED_SEEN = (
    update(probes)
    .where(_NAMED)
    .values(created_seen_at=func.coalesce(probes.c.created_seen_at, NOW), seen_via=bindparam("via"))
)
REMOVED_SEEN = (
    update(probes)
    .where(_NAMED)
    .values(removed_seen_at=func.coalesce(probes.c.removed_seen_at, NOW), seen_via=bindparam("via"))
)
# By the name of its connections: a listener leaves no other trace in the database before an event comes. Raw, because
# this is a view of the server's, none of our tables.
LISTENER_IS_CONNECTED = text(
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = :name)"
)


def new_probe(c: Connection, watch: Watch) -> Probe:
    """Record a probe that is about to be sent."""
    probe_uuid = uuid4()
    values = {
        "id": probe_uuid,
        "job_id": watch.job.id,
        "bucket": watch.job.bucket,
        "key": probe_key(watch.job.prefix, probe_uuid),
    }
    return Probe.from_row(c.execute(INSERT_PROBE, values).one())


def listener_is_connected(c: Connection) -> bool | None:
    """Return whether a listener holds a connection to this database; None where a pooler hides it."""
    found = bool(c.execute(LISTENER_IS_CONNECTED, {"name": LISTENER}).scalar_one())
    return None if not found and is_pooled(c) else found


def read_probe(c: Connection, probe_id: UUID) -> Probe:
    """Return a probe that was recorded."""
    return Probe.from_row(c.execute(PROBE_BY_ID, {"probe": probe_id}).one())


def last_probe(c: Connection, watch_id: UUID) -> Probe | None:
    """Return the probe of a watch that was sent last."""
    row = c.execute(LAST_PROBE, {"watch": watch_id}).one_or_none()
    return None if row is None else Probe.from_row(row)


def record_probes(c: Connection, *, created: Sequence[UUID], removed: Sequence[UUID], via: Delivery) -> None:
    """Record that events of probe objects arrived. Ids that no probe has are ignored: anyone may use such a key."""
    if created:
        c.execute(CREATED_SEEN, {"ids": sorted(created), "via": via})
    if removed:
        c.execute(REMOVED_SEEN, {"ids": sorted(removed), "via": via})
