"""Jobs: created once per idempotency key, finished when their last item ends."""

from collections.abc import Iterable
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from dpiqa.errors import ConfigurationError, Conflict, NotFound
from dpiqa.messages import Queue
from dpiqa.profiles import Profile
from dpiqa.storage.requirements import read_requirement
from dpiqa.storage.rows import Job, to_job
from dpiqa.types import Direction, JobKind, JobState, RequirementState

_INSERT = text(
    """
    INSERT INTO jobs (id, kind, bucket, prefix, profile, state, queue, idempotency_key, request_hash)
    VALUES (:id, :kind, :bucket, :prefix, :profile, :state, :queue, :idempotency_key, :request_hash)
    ON CONFLICT DO NOTHING RETURNING *
    """
)
_BY_KEY = text("SELECT * FROM jobs WHERE idempotency_key = :key")
_BY_ID = text("SELECT * FROM jobs WHERE id = :id")
_INSERT_PROFILE = text(
    "INSERT INTO profiles (id, definition) VALUES (:id, CAST(:definition AS jsonb)) ON CONFLICT DO NOTHING"
)
_PROFILE = text("SELECT definition FROM profiles WHERE id = :id")
_SAME_PROFILE = text("SELECT definition = CAST(:definition AS jsonb) FROM profiles WHERE id = :id")
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
    idempotency_key: str | None = None,
    request_hash: str | None = None,
) -> Job:
    """Create a job, or return the one that the same idempotency key and request made before.

    Raises `Conflict` for the same key with another request, `ConfigurationError` for a profile that was changed
    without a new version.
    """
    remember_profile(c, profile)
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
        return to_job(row)
    first = c.execute(_BY_KEY, {"key": idempotency_key}).one_or_none()
    if first is None:
        raise Conflict(f"s3://{bucket}/{prefix} is watched already under {profile.id}", cure="see `dpiqa jobs`")
    if first.request_hash != request_hash:
        raise Conflict(
            f"the idempotency key {idempotency_key!r} came with another request before",
            cure="use a new key for a new request",
        )
    return to_job(first)


def read_job(c: Connection, job_id: UUID | str) -> Job:
    """Return one job. Raises `NotFound`."""
    row = c.execute(_BY_ID, {"id": job_uuid(job_id)}).one_or_none()
    if row is None:
        raise NotFound(f"no job {job_id}", cure="see `dpiqa jobs`")
    return to_job(row)


def job_uuid(job_id: UUID | str) -> UUID:
    """Return the id as a UUID. Raises `NotFound` where it cannot be one."""
    if isinstance(job_id, UUID):
        return job_id
    try:
        return UUID(job_id)
    except ValueError:
        raise NotFound(f"no job {job_id!r}", cure="a job id is a UUID; see `dpiqa jobs`") from None


def lock_jobs(c: Connection, job_ids: Iterable[UUID]) -> dict[UUID, Job]:
    """Hold the jobs' rows until the transaction ends; references to them stay possible."""
    rows = c.execute(_LOCK, {"ids": sorted(set(job_ids))})
    return {row.id: to_job(row) for row in rows}


def finish_jobs(c: Connection, job_ids: Iterable[UUID] | None = None) -> list[UUID]:
    """Complete the running jobs (among `job_ids`, if given) without a queued or leased item. Returns their ids."""
    ids = None if job_ids is None else sorted(set(job_ids))
    return list(c.execute(_FINISH, {"ids": ids}).scalars())


def read_profile(c: Connection, profile_id: str) -> Profile:
    """Return the profile as it was when it was first used. Raises `NotFound`."""
    definition = c.execute(_PROFILE, {"id": profile_id}).scalar_one_or_none()
    if definition is None:
        raise NotFound(f"no job used profile {profile_id}", cure="see `dpiqa jobs`")
    return Profile.model_validate(definition)


def remember_profile(c: Connection, profile: Profile) -> None:
    """Store the definition behind the profile's id.

    Raises `ConfigurationError` if the id had another one, it needs a requirement that is not ready, or the scales of
    its models run against each other.
    """
    _check_requirements(c, profile)
    values = {"id": profile.id, "definition": profile.model_dump_json()}
    c.execute(_INSERT_PROFILE, values)
    if not c.execute(_SAME_PROFILE, values).scalar_one():
        raise ConfigurationError(
            f"profile {profile.id} is not what it was when it was first used",
            cure="give the changed file a new version",
        )


def _check_requirements(c: Connection, profile: Profile) -> None:
    directions = {
        stage: _direction(c, profile, choice.requirement) if choice.requirement else Direction.HIGHER
        for stage, choice in profile.choices.items()
    }
    if len(set(directions.values())) > 1:
        said = ", ".join(f"{stage}: {direction}" for stage, direction in directions.items())
        raise ConfigurationError(
            f"the scores of profile {profile.id} cannot be compared ({said})",
            cure="choose models whose scales run the same way",
        )


def _direction(c: Connection, profile: Profile, name: str) -> Direction:
    try:
        requirement = read_requirement(c, name)
    except NotFound as error:
        raise ConfigurationError(f"profile {profile.id}: {error.message}", cure=error.cure) from None
    if requirement.state is not RequirementState.READY:
        raise ConfigurationError(
            f"profile {profile.id}: requirement {requirement.id} is {requirement.state}",
            cure=f"see `dpiqa requirements show {requirement.id}`",
        )
    return requirement.direction
