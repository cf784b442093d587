"""Jobs: submit, list, follow."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from dpiqa.doorbell import ring_expand
from dpiqa.errors import ConfigurationError, NotFound
from dpiqa.exports.formats import Format
from dpiqa.exports.rows import item_batches
from dpiqa.exports.schemas import FAILURES, ITEMS
from dpiqa.storage import job_queries
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import read_job, submit_job
from dpiqa.storage.profiles import profile_for
from dpiqa.types import ItemState, JobKind

from ..dependencies import DoorbellDep, EngineDep, PageReplyDep, SettingsDep, profile_named
from ..errors import as_invalid_request
from ..exports import RESPONSES, export_response
from ..schemas import Cursor, ItemOut, JobAccepted, JobName, JobOut, JobRequest, JobStatus, Limit, ListJob, Page

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
    submission: JobRequest,
    response: Response,
    settings: SettingsDep,
    engine: EngineDep,
    doorbell: DoorbellDep,
    idempotency_key: IdempotencyKey = None,
) -> JobAccepted:
    """Submit a job. It is recorded once this answers; follow it at the `Location`."""
    with transaction(engine) as connection:
        if submission.requirement is None:
            profiles = [profile_named(settings, name) for name in submission.profile_names]
        else:
            with as_invalid_request(NotFound, ConfigurationError):
                profiles = [profile_for(connection, submission.requirement)]
        job = submit_job(
            connection,
            kind=JobKind(submission.kind),
            bucket=submission.address.bucket,
            prefix=submission.address.key,
            profile=profiles,
            keys=submission.keys if isinstance(submission, ListJob) else (),
            idempotency_key=idempotency_key,
        )
    warning = None if job.kind is JobKind.WATCH else ring_expand(doorbell, str(job.id))
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobAccepted.model_validate(job).model_copy(update={"warning": warning})


@router.get("", summary="List jobs, newest first", response_model=Page[JobOut])
def list_jobs(engine: EngineDep, reply: PageReplyDep, limit: Limit = 100, cursor: Cursor | None = None) -> Response:
    """List jobs, newest first."""
    with transaction(engine) as connection:
        page = job_queries.list_jobs(connection, limit=limit, cursor=cursor)
    return reply(Page[JobOut], page)


@router.get("/{job_id}", summary="Progress of a job", responses={404: {"description": "No such job."}})
def get_job(job_id: JobName, engine: EngineDep) -> JobStatus:
    """Report the progress of a job: counts by state, rate, time left, failures by reason, missing workers."""
    with transaction(engine) as connection:
        report = job_queries.get_job(connection, job_id)
    return JobStatus.model_validate(report)


@router.get(
    "/{job_id}/items",
    summary="Images of a job",
    response_model=Page[ItemOut],
    responses={404: {"description": "No such job."}},
)
def job_items(
    job_id: JobName,
    engine: EngineDep,
    reply: PageReplyDep,
    state: Annotated[ItemState | None, Query(description="Only items in this state.")] = None,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> Response:
    """List the images of a job, each with its state and, where it ended unscored, the reason."""
    with transaction(engine) as connection:
        page = job_queries.job_items(connection, job_id, state=state, limit=limit, cursor=cursor)
    return reply(Page[ItemOut], page)


@router.get(
    "/{job_id}/report",
    summary="Report of a job, as a file",
    response_class=StreamingResponse,
    responses=RESPONSES | {404: {"description": "No such job."}},
)
def report(
    job_id: JobName,
    engine: EngineDep,
    format: Annotated[Format, Query(description="Format of the rows.")] = Format.CSV,  # noqa: A002 - its name
    *,
    failures: Annotated[bool, Query(description="Only the images that ended unscored, each with the reason.")] = False,
) -> StreamingResponse:
    """Stream the images of a job, of the schema `items@1` or `failures@1` (`docs/exports.md`)."""
    schema = FAILURES if failures else ITEMS
    with transaction(engine) as connection:
        job = read_job(connection, job_id)
    return export_response(schema, format, item_batches(engine, job.id, schema))
