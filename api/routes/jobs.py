"""Jobs: submit, list, follow."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy import Connection

from dpiqa.doorbell import Queue, ring_expand
from dpiqa.profiles import Profile
from dpiqa.storage import job_queries
from dpiqa.storage.jobs import Job, create_job, ensure_watch
from dpiqa.types import ItemState, JobKind

from ..deps import ServicesDep
from ..job_schemas import JobRequest, ListJob, WatchJob
from ..paging import link_next
from ..schemas import Cursor, ItemOut, JobAccepted, JobOut, JobStatus, Limit, Page

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Of your choice, e.g. a UUID. The same request with the same key gives the same job again.",
    ),
]


@router.post(
    "",
    status_code=202,
    summary="Submit a job",
    responses={409: {"description": "The key came with another request before."}},
)
def submit(
    wanted: JobRequest, services: ServicesDep, response: Response, idempotency_key: IdempotencyKey = None
) -> JobAccepted:
    """Submit a job. It is safe once this answers; follow it at the `Location`."""
    with services.transaction() as connection:
        named = wanted.requirement
        profile = services.requirement(connection, named) if named else services.profile(wanted.profile)
        job = _create(connection, wanted, profile, idempotency_key)
    warning = None if job.kind is JobKind.WATCH else ring_expand(services.doorbell, str(job.id))
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    accepted = JobAccepted.model_validate(job, from_attributes=True)
    return accepted.model_copy(update={"warning": warning})


def _create(connection: Connection, wanted: JobRequest, profile: Profile, key: str | None) -> Job:
    if isinstance(wanted, WatchJob):
        return ensure_watch(connection, *wanted.place(), profile)
    keys = wanted.keys if isinstance(wanted, ListJob) else []
    bucket, prefix = (wanted.bucket, "") if isinstance(wanted, ListJob) else wanted.place()
    return create_job(
        connection,
        kind=JobKind(wanted.kind),
        bucket=bucket,
        prefix=prefix,
        profile=profile,
        queue=Queue.BULK,
        keys=keys,
        idempotency_key=key,
    )


@router.get("", summary="List jobs, newest first")
def list_jobs(
    request: Request, response: Response, services: ServicesDep, limit: Limit = 100, cursor: Cursor | None = None
) -> Page[JobOut]:
    """List jobs, newest first."""
    with services.transaction() as connection:
        page = job_queries.list_jobs(connection, limit=limit, cursor=cursor)
    link_next(request, response, page.next_cursor)
    return Page[JobOut].model_validate(page, from_attributes=True)


@router.get("/{job_id}", summary="How far a job is", responses={404: {"description": "No such job."}})
def get_job(job_id: UUID, services: ServicesDep) -> JobStatus:
    """Say how far a job is: counts by state, rate, time left, failures by reason, what it waits for."""
    with services.transaction() as connection:
        report = job_queries.get_job(connection, job_id)
    return JobStatus(
        **_fields(report.job),
        total=report.total,
        done=report.done,
        counts=report.by_state,
        open_by_stage=report.open_by_stage,
        failures=report.failures,
        rate_per_second=report.rate,
        eta_seconds=report.eta_seconds,
        waiting_for=report.waiting_for,
    )


@router.get("/{job_id}/items", summary="Images of a job", responses={404: {"description": "No such job."}})
def job_items(
    request: Request,
    response: Response,
    job_id: UUID,
    services: ServicesDep,
    state: Annotated[ItemState | None, Query(description="Only items in this state.")] = None,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> Page[ItemOut]:
    """List the images of a job, each with its state and, where it ended unscored, the reason."""
    with services.transaction() as connection:
        page = job_queries.job_items(connection, job_id, state=state, limit=limit, cursor=cursor)
    link_next(request, response, page.next_cursor)
    return Page[ItemOut].model_validate(page, from_attributes=True)


def _fields(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in JobOut.model_fields}
