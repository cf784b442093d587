"""Jobs: created once per idempotency key, listed by one worker at a time, finished when their last item ends."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, Text, Uuid, any_, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert

from dpiqa.access import EVERYTHING, Caller, Grants
from dpiqa.addresses import object_address
from dpiqa.doorbell import Queue
from dpiqa.errors import Conflict, InvalidRequest, LimitExceeded, NotFound
from dpiqa.profiles import Profile
from dpiqa.sources.spec import SourceSpec, Tally
from dpiqa.storage.audit import audited
from dpiqa.storage.columns import array, arrays, constant, constants
from dpiqa.storage.engine import Lock, lock_names
from dpiqa.storage.granted import visible_jobs
from dpiqa.storage.job_profiles import allow_several_profiles
from dpiqa.storage.profiles import remember_profile
from dpiqa.storage.tables import OPEN_JOB_STATES, jobs
from dpiqa.text import shorten
from dpiqa.types import AuditAction, JobKind, JobState

LATEST = "latest"  #: names the job that was submitted last
SHORT_ID_DIGITS = 8  #: of an id, in tables
MAX_CANDIDATES = 5  #: ids named where the beginning of an id is that of several
_ID_BEGINNING = re.compile("[0-9a-f]{6,32}")
_ID_HINT = f"a job is named by its id, by the first 6 or more digits of its id, or by `{LATEST}`; see `dpiqa jobs`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A row of `jobs`. `listing_attempt` is the fence of its lister."""

    id: UUID
    kind: JobKind
    bucket: str
    prefix: str
    profile: str  #: id, e.g. `default@1`
    further_profiles: list[str]  #: ids of the other profiles that score its images
    state: JobState
    queue: Queue  #: of its student items: live or bulk
    created_at: datetime
    listed_at: datetime | None
    finished_at: datetime | None
    cursor: str | None  #: listing resumes after it; see `dpiqa.sources`
    listing_lease_until: datetime | None
    listing_attempt: int
    idempotency_key: str | None
    request_hash: str | None
    scored_by_student: int  #: of its images
    escalated: int  #: of those
    error: str | None  #: why it failed
    pause_reason: str | None  #: why it was paused by itself
    priority: int  #: -10 to 10; each step doubles its share of a window
    active_since: datetime | None  #: when it was started, resumed or reopened last
    active_seconds: float  #: of work before `active_since`
    deleted_at: datetime | None
    pruned_at: datetime | None  #: when the removal of its ended items was last requested
    client: str | None  #: name of the API key that submitted it
    grants: list[str] | None  #: what that key is limited to; None: no limit
    details: bool  #: whether its pictures are measured
    source: SourceSpec = field(default_factory=SourceSpec)
    tally: Tally = field(default_factory=Tally)  #: of its source, up to `cursor`

    @property
    def address(self) -> str:
        """Where its images are: `s3://bucket/prefix`, `file:///folder`, or the address of a manifest or inventory."""
        return self.source.address or object_address(self.bucket, self.prefix)

    def worked_seconds(self, now: datetime) -> float:
        """Return how long it was worked on, without pauses: to its end, or to `now`. 0 before a worker began."""
        current = 0.0 if self.active_since is None else ((self.finished_at or now) - self.active_since).total_seconds()
        return self.active_seconds + max(current, 0.0)

    @property
    def short_id(self) -> str:
        """The beginning of the id, as tables show it."""
        return self.id.hex[:SHORT_ID_DIGITS]

    def seen_within(self, grants: Grants) -> Self:
        """Return the job without the address of its source where that is beyond the grants of who looks at it."""
        if self.source.address is None or grants.cover_address(self.source.address):
            return self
        return replace(self, source=self.source.model_copy(update={"address": None}))

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `jobs`, all columns of it."""
        values = dict(row._mapping)
        values["source"] = SourceSpec.from_stored(values["source"])
        values["tally"] = Tally.model_validate(values["tally"] or {})
        return cls(**values)

    @property
    def profiles(self) -> list[str]:
        """Ids of all profiles that score its images, the job's own first."""
        return [self.profile, *self.further_profiles]


INSERT_JOB = insert(jobs).on_conflict_do_nothing().returning(jobs)
_IS_VISIBLE = jobs.c.deleted_at.is_(None)
JOB_BY_ID = select(jobs).where(jobs.c.id == bindparam("job_id"), _IS_VISIBLE)
_OF_KIND = func.coalesce(bindparam("of_kind", type_=Text), jobs.c.kind) == jobs.c.kind
JOBS_BY_ID_RANGE = (
    select(jobs)
    .where(jobs.c.id.between(bindparam("first_id"), bindparam("last_id")), _IS_VISIBLE, _OF_KIND)
    .order_by(jobs.c.id)
    .limit(MAX_CANDIDATES + 1)
)
LATEST_JOB = select(jobs).where(_IS_VISIBLE, _OF_KIND).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(1)
JOB_BY_IDEMPOTENCY_KEY = select(jobs).where(jobs.c.idempotency_key == bindparam("key"))
COUNT_OPEN_JOBS = (
    select(func.count())
    .select_from(jobs)
    .where(jobs.c.client == bindparam("of_client"), jobs.c.client.is_not(None), jobs.c.finished_at.is_(None))
    .where(_IS_VISIBLE)
)
OPEN_JOB_OF_REQUEST = (
    select(jobs)
    .where(jobs.c.request_hash == bindparam("hash"), jobs.c.idempotency_key.is_(None))
    .where(jobs.c.state.in_(constants((*OPEN_JOB_STATES, JobState.PAUSED))), _IS_VISIBLE)
    .order_by(jobs.c.created_at.desc())
)
LOCK_JOBS = (
    select(jobs).where(jobs.c.id == any_(array("ids", Uuid))).order_by(jobs.c.id).with_for_update(key_share=True)
)
# Completes running jobs without a queued or leased item and returns their ids. Raw, because each subquery must be
# ordered as its partial index: for an EXISTS the planner reads the whole table in hope of an early match.
# SKIP LOCKED: a job that is just being recorded is finished by that transaction, or by the next sweep.
FINISH_JOBS = text(
    """
    UPDATE jobs SET state = 'complete', finished_at = clock_timestamp() WHERE id IN (
        SELECT j.id FROM jobs j
        WHERE j.state = 'running' AND (:ids IS NULL OR j.id = ANY (:ids))
        AND NOT EXISTS (SELECT FROM sweeps s WHERE s.job_id = j.id)
        AND (SELECT i.id FROM items i WHERE i.job_id = j.id AND i.state = 'queued' AND i.rung_at IS NULL
             ORDER BY i.queue, i.id LIMIT 1) IS NULL
        AND (SELECT i.id FROM items i WHERE i.job_id = j.id AND i.state = 'queued' AND i.rung_at IS NOT NULL
             ORDER BY i.queue, i.rung_at LIMIT 1) IS NULL
        AND (SELECT i.id FROM items i WHERE i.job_id = j.id AND i.state = 'leased'
             ORDER BY i.lease_until LIMIT 1) IS NULL
        ORDER BY j.id FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING id
    """
).bindparams(*arrays(ids=Uuid))


def create_job(  # noqa: PLR0913 - the columns of a job
    c: Connection,
    *,
    kind: JobKind,
    bucket: str,
    prefix: str,
    profile: Profile | Sequence[Profile],
    queue: Queue,
    source: SourceSpec = SourceSpec(),  # noqa: B008 - immutable
    tally: Tally | None = None,
    keys: Sequence[str] = (),
    content: str | None = None,
    idempotency_key: str | None = None,
    caller: Caller | None = None,
) -> Job:
    """Create a job, or return the one that the same idempotency key and request made before.

    `source`: of the objects, beside bucket and prefix. `keys`: of a job of kind `list`, each stored once, in order.
    `profile`: several score each of its images, the job's own first.
    `content`: digest of the objects of an upload, and `tally` of what was passed over there. Without a key, the job
    that the same content and request made is returned while it is open.
    `caller`: whose grants bound the job, and whose open jobs are limited; None: trusted.

    Raises `Conflict` for the same key with another request, `ConfigurationError` for a profile that was changed
    without a new version, `InvalidRequest` for one that is named twice, `LimitExceeded` for too many open jobs.
    """
    profiles = [profile] if isinstance(profile, Profile) else profile
    own, *further = ids = [named.id for named in profiles]
    if len(set(ids)) < len(ids):
        raise InvalidRequest("a profile is named twice", hint="name each profile of a job once")
    if further:
        allow_several_profiles(c)
    for named in profiles:
        remember_profile(c, named)
    stored = {name: value for name, value in source.stored().items() if name != "upload"}
    client, grants = None if caller is None else caller.client, None if caller is None else caller.grants.stored()
    more: list[Any] = [part for part in (stored, content, grants) if part]  # none in requests of earlier releases
    request = json.dumps([kind, bucket, prefix, list(keys), *ids, *more], separators=(",", ":"))
    request_hash = hashlib.sha256(request.encode()).hexdigest() if idempotency_key or content else None
    if content and not idempotency_key:
        same = c.execute(OPEN_JOB_OF_REQUEST, {"hash": request_hash}).first()
        if same is not None:
            return Job.from_row(same)
    if client is not None and idempotency_key is not None:
        idempotency_key = f"{client} {idempotency_key}"  # a client's keys are its own; no key has a space
    values = {
        "id": uuid4(),
        "kind": kind,
        "bucket": bucket,
        "prefix": prefix,
        "profile": own,
        "further_profiles": further,
        "state": JobState.WATCHING if kind is JobKind.WATCH else JobState.LISTING,
        "queue": queue,
        "source": source.stored(),
        "tally": None if tally is None else tally.model_dump(exclude_defaults=True),
        "idempotency_key": idempotency_key,
        "request_hash": request_hash,
        "client": client,
        "grants": grants,
    }
    row = c.execute(INSERT_JOB, values).one_or_none()
    if row is None:
        return _earlier_job(c, values)
    if keys:
        c.execute(INSERT_KEYS, {"job_id": row.id, "keys": list(dict.fromkeys(keys))})
    job = Job.from_row(row)
    _check_open_jobs(c, caller)
    audited(c, AuditAction.SUBMIT, job.id, kind=kind, address=job.address, profiles=ids)
    return job


def _earlier_job(c: Connection, values: dict[str, Any]) -> Job:
    """Return the job that the same key and request made before. Raises `Conflict`."""
    key: str = values["idempotency_key"] or ""
    earlier = c.execute(JOB_BY_IDEMPOTENCY_KEY, {"key": key}).one_or_none()
    if earlier is None:
        address = object_address(values["bucket"], values["prefix"])
        raise Conflict(f"{address} is watched already under {values['profile']}", hint="see `dpiqa jobs`")
    if earlier.request_hash != values["request_hash"]:
        raise Conflict(
            f"the idempotency key {key.rpartition(' ')[2]!r} came with another request before",
            hint="use a new key for a new request",
        )
    return Job.from_row(earlier)


def _check_open_jobs(c: Connection, caller: Caller | None) -> None:
    """Raise `LimitExceeded` where a client has more open jobs than it may have, that of this transaction included."""
    if caller is None or caller.client is None or caller.max_open_jobs is None:
        return
    lock_names(c, Lock.API_KEY, [caller.client])  # others of this client wait: they count this job, too
    n_open = c.execute(COUNT_OPEN_JOBS, {"of_client": caller.client}).scalar_one()
    if n_open > caller.max_open_jobs:
        raise LimitExceeded(
            f"{caller.client} has {caller.max_open_jobs} jobs that have not ended, as many as it may have",
            hint="wait until one has ended, cancel one, or ask for a larger number (`dpiqa keys create`)",
        )


def check_job_name(name: str) -> str:
    """Return text that may name a job. Raises `InvalidRequest` for any other."""
    if name.lower() != LATEST and not _ID_BEGINNING.fullmatch(name.replace("-", "").lower()):
        raise InvalidRequest(f"{shorten(name, 80)!r} is not a job id", hint=_ID_HINT)
    return name


def read_job(c: Connection, name: UUID | str, grants: Grants = EVERYTHING, *, kind: JobKind | None = None) -> Job:
    """Return the job of this id, of the only id that begins with `name` (6 or more hex digits), or the `latest` one.

    `grants`: jobs beyond them do not exist.
    `kind`: of the jobs among which the beginning of an id and `latest` choose; None: all.

    Raises `NotFound`, and `InvalidRequest` for text that cannot name a job and for the beginning of several ids.
    """
    visible = visible_jobs(grants)
    if isinstance(name, UUID):
        rows = c.execute(JOB_BY_ID.where(*visible), {"job_id": name}).all()
    elif name.lower() == LATEST:
        rows = c.execute(LATEST_JOB.where(*visible), {"of_kind": kind}).all()
    else:
        digits = check_job_name(name).replace("-", "").lower()
        id_range = {"first_id": UUID(digits.ljust(32, "0")), "last_id": UUID(digits.ljust(32, "f"))}
        rows = c.execute(JOBS_BY_ID_RANGE.where(*visible), id_range | {"of_kind": kind}).all()
    if not rows:
        noun, plural = ("watch", "watches") if kind is JobKind.WATCH else ("job", "jobs")
        raise NotFound(f"no {noun} {name}", hint=f"`dpiqa {plural}` or GET /v1/{plural} lists them")
    if len(rows) > 1:
        ids = [str(row.id) for row in rows]
        candidates = ", ".join(ids[:MAX_CANDIDATES]) + (", ..." if len(ids) > MAX_CANDIDATES else "")
        raise InvalidRequest(f"several job ids begin with {name}: {candidates}", hint="name more of the id")
    return Job.from_row(rows[0]).seen_within(grants)


def lock_jobs(c: Connection, job_ids: Iterable[UUID]) -> dict[UUID, Job]:
    """Lock the jobs' rows until the transaction ends; rows that refer to them can still be added."""
    rows = c.execute(LOCK_JOBS, {"ids": sorted(set(job_ids))})
    return {row.id: Job.from_row(row) for row in rows}


def finish_jobs(c: Connection, job_ids: Iterable[UUID] | None = None) -> list[UUID]:
    """Complete the running jobs (among `job_ids`, if given) without an open item or a sweep. Returns their ids."""
    ids = None if job_ids is None else sorted(set(job_ids))
    return list(c.execute(FINISH_JOBS, {"ids": ids}).scalars())


# Watches


# A paused watch still records events. As in the index `jobs_one_watch`.
_IS_WATCH = (jobs.c.kind == constant(JobKind.WATCH)) & jobs.c.state.in_(constants([JobState.WATCHING, JobState.PAUSED]))
WATCHES_OF_KEY = (
    select(jobs)
    .where(_IS_WATCH, jobs.c.bucket == bindparam("in_bucket"))
    .where(func.starts_with(bindparam("key", type_=Text), jobs.c.prefix))
    .order_by(jobs.c.created_at, jobs.c.id)
    .with_for_update(read=True, key_share=True)
)
WATCH_OF_PREFIX = select(jobs).where(
    _IS_WATCH,
    jobs.c.bucket == bindparam("in_bucket"),
    jobs.c.prefix == bindparam("of_prefix"),
    jobs.c.profile == bindparam("under"),
)


def find_watches(c: Connection, bucket: str, key: str) -> list[Job]:
    """Return the watches whose bucket and prefix fit the key, oldest first; none of them ends in this transaction."""
    return [Job.from_row(row) for row in c.execute(WATCHES_OF_KEY, {"in_bucket": bucket, "key": key})]


def ensure_watch(
    c: Connection, bucket: str, prefix: str, profile: Profile | Sequence[Profile], caller: Caller | None = None
) -> Job:
    """Return the watch of exactly this bucket, prefix and profile; create it if it does not exist.

    Raises `Conflict` if it exists and its further profiles are others; as `create_job`.
    """
    ids = [named.id for named in ([profile] if isinstance(profile, Profile) else profile)]
    exact = {"in_bucket": bucket, "of_prefix": prefix, "under": ids[0]}
    row = c.execute(WATCH_OF_PREFIX, exact).one_or_none()
    if row is None:
        try:
            return create_job(
                c,
                kind=JobKind.WATCH,
                bucket=bucket,
                prefix=prefix,
                profile=profile,
                queue=Queue.LIVE,
                caller=caller,
            )
        except Conflict:  # another transaction was faster
            row = c.execute(WATCH_OF_PREFIX, exact).one()
    watch = Job.from_row(row)
    if watch.profiles != ids:
        raise Conflict(
            f"s3://{bucket}/{prefix} is watched already under {', '.join(watch.profiles)}",
            hint=f"end the watch {watch.id} first, or name another profile first",
        )
    return watch


def submit_job(  # noqa: PLR0913 - the columns of a job
    c: Connection,
    *,
    kind: JobKind,
    bucket: str,
    prefix: str,
    profile: Profile | Sequence[Profile],
    source: SourceSpec = SourceSpec(),  # noqa: B008 - immutable
    keys: Sequence[str] = (),
    idempotency_key: str | None = None,
    caller: Caller | None = None,
) -> Job:
    """Create the job that a user submits; a watch that exists is returned. Arguments and errors as `create_job`."""
    if kind is JobKind.WATCH:
        return ensure_watch(c, bucket, prefix, profile, caller)
    return create_job(
        c,
        kind=kind,
        bucket=bucket,
        prefix=prefix,
        profile=profile,
        queue=Queue.BULK,
        source=source,
        keys=keys,
        idempotency_key=idempotency_key,
        caller=caller,
    )


# Keys of jobs of kind `list`


# Numbers keys from 1 in their order; returns nothing. Raw, because unnest takes any number of keys in one statement.
INSERT_KEYS = text(
    """
    INSERT INTO job_keys (job_id, position, key)
    SELECT :job_id, position, key FROM unnest(:keys) WITH ORDINALITY AS named (key, position)
    """
).bindparams(*arrays(keys=Text))
