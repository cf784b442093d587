"""Jobs: submit, list, follow."""

import tempfile
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Header, Query, Response
from fastapi import Request as HTTPRequest
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from dpiqa.access import Caller
from dpiqa.doorbell import Doorbell, ring_expand
from dpiqa.errors import ConfigurationError, Conflict, LeaseLost, NotFound
from dpiqa.exports.formats import Format
from dpiqa.exports.rows import item_batches
from dpiqa.exports.schemas import FAILURES, ITEMS, Schema
from dpiqa.http_api.common import Bucket, Cursor, ItemPage, JobName, Limit, Time
from dpiqa.http_api.job_requests import (
    FolderJob,
    JobRequest,
    ListJob,
    ManifestParameters,
    PlannedRequest,
    ScoringRequest,
)
from dpiqa.http_api.jobs import JobAccepted, JobPage, JobStatus
from dpiqa.objects.folder import FolderStore
from dpiqa.pipeline.callbacks import check_callback
from dpiqa.pipeline.submission import Request as Submission
from dpiqa.pipeline.submission import upload
from dpiqa.profiles import Profile
from dpiqa.settings import Settings
from dpiqa.sources.manifest import FileSource
from dpiqa.sources.spec import ManifestFormat
from dpiqa.storage import job_queries
from dpiqa.storage.audit import audited
from dpiqa.storage.engine import reading, transaction
from dpiqa.storage.jobs import Job, read_job, submit_job
from dpiqa.storage.profiles import profile_for
from dpiqa.storage.reports import plan_job
from dpiqa.types import ENDED_JOB_STATES, AuditAction, ItemState, JobKind, JobState, Reason

from ..dependencies import (
    BacklogDep,
    DoorbellDep,
    EngineDep,
    PageReplyDep,
    ReaderDep,
    SettingsDep,
    StoreDep,
    SubmitterDep,
    profile_named,
)
from ..errors import as_invalid_request
from ..exports import RESPONSES, export_response
from ..manners import REVALIDATED, matches

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

#: Media types of uploaded manifests, and the formats that they say; None: found by name and content.
MANIFEST_TYPES: dict[str, ManifestFormat | None] = {
    "text/csv": ManifestFormat.CSV,
    "application/x-ndjson": ManifestFormat.NDJSON,
    "application/jsonl": ManifestFormat.NDJSON,
    "application/vnd.apache.parquet": ManifestFormat.PARQUET,
    "text/plain": None,
    "application/gzip": None,
    "application/octet-stream": None,
}

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
    operation_id="submit_job",
    status_code=202,
    summary="Submit a job",
    responses={409: {"description": "The key came with another request before."}},
)
def submit(  # noqa: PLR0913, PLR0917 - what FastAPI passes to it
    caller: SubmitterDep,
    submission: JobRequest,
    response: Response,
    settings: SettingsDep,
    engine: EngineDep,
    doorbell: DoorbellDep,
    store: StoreDep,
    backlog: BacklogDep,
    idempotency_key: IdempotencyKey = None,
) -> JobAccepted:
    """Submit a job. It is recorded once this answers; follow it at the `Location`.

    A bucket that does not exist is refused, if S3 can be asked.
    """
    backlog.check()
    submission.check(caller.grants)
    if isinstance(submission, PlannedRequest) and submission.callback is not None:
        with as_invalid_request(ConfigurationError):
            check_callback(settings, submission.callback)
    with as_invalid_request(ConfigurationError):
        if isinstance(submission, FolderJob):
            FolderStore(settings.folder_paths).check(submission.address.bucket)
        elif submission.address.bucket:  # a manifest may name several
            store.require_bucket(submission.address.bucket)
    with transaction(engine) as connection:
        job = submit_job(
            connection,
            kind=JobKind(submission.kind),
            bucket=submission.address.bucket,
            prefix=submission.address.key,
            profile=_profiles(connection, settings, submission, caller),
            source=submission.spec,
            keys=submission.keys if isinstance(submission, ListJob) else (),
            idempotency_key=idempotency_key,
            caller=caller,
        )
        if isinstance(submission, PlannedRequest):
            job = _plan(connection, settings, submission, job)
        elif submission.details:
            job = plan_job(connection, job, auto_pause=settings.auto_pause_share, details=True)
    return _accepted(job, response, doorbell)


def _profiles(connection: Connection, settings: Settings, submission: ScoringRequest, caller: Caller) -> list[Profile]:
    """Return the profiles that a request names, or makes of its requirement. Raises `InvalidRequest`."""
    if submission.requirement is None:
        return [profile_named(connection, settings, name, caller) for name in submission.profile_names]
    with as_invalid_request(NotFound, ConfigurationError):
        return [profile_for(connection, submission.requirement, caller.grants)]


def _plan(connection: Connection, settings: Settings, request: PlannedRequest, job: Job) -> Job:
    """Store when the job pauses by itself and where its report goes; return the job as it is now."""
    auto_pause = settings.auto_pause_share if request.auto_pause is None else request.auto_pause
    return plan_job(
        connection,
        job,
        auto_pause=auto_pause,
        report=request.report,
        failures=request.report_failures,
        callback=request.callback,
        details=request.details,
    )


def _accepted(job: Job, response: Response, doorbell: Doorbell) -> JobAccepted:
    """Ring for a recorded job, and describe it."""
    warning = None if job.kind is JobKind.WATCH else ring_expand(doorbell, str(job.id))
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobAccepted.model_validate(job).model_copy(update={"warning": warning})


@router.post(
    "/manifest",
    operation_id="submit_manifest",
    status_code=202,
    summary="Upload a manifest and submit it",
    responses={
        409: {"description": "The key came with another request before, or another request uploads the same."},
        413: {"description": "The manifest is larger than `DPIQA_MAX_MANIFEST_BYTES`."},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MANIFEST_TYPES},
        }
    },
)
async def submit_manifest(  # noqa: PLR0913, PLR0917 - what FastAPI passes to it
    caller: SubmitterDep,
    request: HTTPRequest,
    parameters: Annotated[ManifestParameters, Query()],
    response: Response,
    settings: SettingsDep,
    engine: EngineDep,
    doorbell: DoorbellDep,
    objects: StoreDep,
    backlog: BacklogDep,
    idempotency_key: IdempotencyKey = None,
) -> JobAccepted:
    """Submit the objects that the body names: CSV, JSON lines, Parquet, ORC, or a key per line; also compressed.

    `curl -T keys.csv -X POST 'http://127.0.0.1:8000/v1/jobs/manifest?bucket=photos&name=keys.csv'`. The job is recorded
    once this answers; a body that cannot be read, or that breaks off, submits nothing.
    """
    await run_in_threadpool(backlog.check)
    parameters.check_report(caller.grants)
    if parameters.callback is not None:
        with as_invalid_request(ConfigurationError):
            check_callback(settings, parameters.callback)
    spec = parameters.spec
    if spec.format is None:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        spec = spec.model_copy(update={"format": MANIFEST_TYPES.get(media_type)})

    def store(body: BinaryIO) -> Job:
        if parameters.bucket is not None:
            with as_invalid_request(ConfigurationError):
                objects.require_bucket(parameters.bucket)
        with transaction(engine) as connection:
            profiles = _profiles(connection, settings, parameters, caller)
        source = FileSource(body, parameters.name, spec, parameters.bucket or "")
        job = Submission(
            kind=JobKind.MANIFEST,
            bucket=parameters.bucket or "",
            spec=spec,
            profiles=profiles,
            plan=lambda connection, job: _plan(connection, settings, parameters, job),
            idempotency_key=idempotency_key,
            caller=caller,
        )
        try:
            return upload(engine, source, job)
        except LeaseLost as error:
            raise Conflict(error.message, hint=error.hint) from None

    with tempfile.TemporaryFile(prefix="dpiqa-") as body:
        async for part in request.stream():
            await run_in_threadpool(body.write, part)
        job = await run_in_threadpool(store, body)
    return await run_in_threadpool(_accepted, job, response, doorbell)


class JobParameters(BaseModel):
    """The query of `GET /v1/jobs`."""

    model_config = ConfigDict(extra="forbid")

    state: Annotated[list[JobState] | None, Field(max_length=len(JobState))] = Field(
        None, description="Only jobs in this state; may be repeated."
    )
    kind: JobKind | None = None
    bucket: Bucket | None = None
    created_since: Time | None = Field(None, description="Only jobs submitted at this time or later.")
    created_before: Time | None = Field(None, description="Only jobs submitted before this time.")
    limit: Limit = 100
    cursor: Cursor | None = None


@router.get("", operation_id="list_jobs", summary="List jobs, newest first", response_model=JobPage)
def list_jobs(
    caller: ReaderDep, parameters: Annotated[JobParameters, Query()], engine: EngineDep, reply: PageReplyDep
) -> Response:
    """List jobs, newest first."""
    chosen = job_queries.JobFilter(
        states=tuple(parameters.state or ()),
        kind=parameters.kind,
        bucket=parameters.bucket,
        since=parameters.created_since,
        before=parameters.created_before,
        grants=caller.grants,
    )
    with transaction(engine) as connection:
        page = job_queries.list_jobs(connection, chosen, limit=parameters.limit, cursor=parameters.cursor)
    return reply(JobPage, page)


@router.get(
    "/{job_id}", operation_id="get_job", summary="Progress of a job", responses={404: {"description": "No such job."}}
)
def get_job(caller: ReaderDep, job_id: JobName, engine: EngineDep, response: Response) -> JobStatus:
    """Report the progress of a job: counts by state, rate, time left, failures by reason, missing workers."""
    with transaction(engine) as connection:
        report = job_queries.get_job(connection, job_id, caller.grants)
    if report.job.state in ENDED_JOB_STATES:
        response.headers["Cache-Control"] = REVALIDATED
    return JobStatus.model_validate(report)


@router.get(
    "/{job_id}/items",
    operation_id="list_job_items",
    summary="Images of a job",
    response_model=ItemPage,
    responses={404: {"description": "No such job."}},
)
def job_items(
    caller: ReaderDep,
    job_id: JobName,
    engine: EngineDep,
    reply: PageReplyDep,
    state: Annotated[ItemState | None, Query(description="Only items in this state.")] = None,
    reason: Annotated[Reason | None, Query(description="Only items that ended unscored for this reason.")] = None,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> Response:
    """List the images of a job, each with its state and, where it ended unscored, the reason."""
    with reading(engine) as connection:
        page = job_queries.job_items(
            connection, job_id, state, reason=reason, grants=caller.grants, limit=limit, cursor=cursor
        )
    return reply(ItemPage, page)


@router.get(
    "/{job_id}/report",
    operation_id="get_job_report",
    summary="Report of a job, as a file",
    response_class=StreamingResponse,
    responses=RESPONSES | {404: {"description": "No such job."}},
)
def report(
    caller: ReaderDep,
    job_id: JobName,
    engine: EngineDep,
    format: Annotated[Format, Query(description="Format of the rows.")] = Format.CSV,  # noqa: A002 - its name
    *,
    failures: Annotated[bool, Query(description="Only the images that ended unscored, each with the reason.")] = False,
    if_none_match: Annotated[str | None, Header(description="The `ETag` of a report that the client has.")] = None,
) -> Response:
    """Stream the images of a job, of the schema `items@1` or `failures@1` (`docs/exports.md`).

    The report of a job that is complete has an `ETag`, until the job is retried or its items are removed.
    """
    with transaction(engine) as connection:
        job = read_job(connection, job_id, caller.grants)
        schema = FAILURES if failures else ITEMS.with_details() if job.details else ITEMS
        etag = _etag_of(job, schema, format)
        if matches(if_none_match, etag):
            return Response(status_code=304, headers={"ETag": etag or "", "Cache-Control": REVALIDATED})
        audited(connection, AuditAction.EXPORT, job.id, schema=schema.id, format=format)
    return export_response(schema, format, item_batches(engine, job.id, schema), etag=etag)


def _etag_of(job: Job, schema: Schema, kind: Format) -> str | None:
    """Return the ETag of a report that does not change any more; None where it may."""
    if job.state is not JobState.COMPLETE or job.finished_at is None:
        return None
    pruned = job.pruned_at.timestamp() if job.pruned_at else 0
    columns = "-details" if job.details else ""
    return f'W/"{job.id}-{job.finished_at.timestamp()}-{pruned}-{schema.id}{columns}-{kind}"'
