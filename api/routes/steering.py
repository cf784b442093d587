"""Steering of jobs: pause, resume, cancel, retry, priority, delete. Each acts within seconds, and may be repeated."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Body, Query

from dpiqa.http_api.common import JobName
from dpiqa.http_api.jobs import JobChange, JobRetried, JobStatus, RetryRequest
from dpiqa.pipeline import steering as pipeline
from dpiqa.storage import steering
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import read_job
from dpiqa.types import ItemState

from ..dependencies import DoorbellDep, EngineDep, SubmitterDep

router = APIRouter(
    prefix="/v1/jobs",
    tags=["jobs"],
    responses={404: {"description": "No such job."}, 409: {"description": "The job's state does not allow it."}},
)

Force = Annotated[bool, Query(description="Cancel the job first if it has not ended.")]


@router.post("/{job_id}/pause", operation_id="pause_job", summary="Pause a job")
def pause(caller: SubmitterDep, job_id: JobName, engine: EngineDep) -> JobStatus:
    """Pause a job: nothing more of it is listed or started. A paused watch still records events."""
    return JobStatus.model_validate(pipeline.steer(engine, job_id, steering.pause_job, grants=caller.grants).report)


@router.post("/{job_id}/resume", operation_id="resume_job", summary="Resume a paused job")
def resume(caller: SubmitterDep, job_id: JobName, engine: EngineDep, doorbell: DoorbellDep) -> JobStatus:
    """Resume a paused job where it was."""
    return JobStatus.model_validate(
        pipeline.steer(engine, job_id, steering.resume_job, doorbell, grants=caller.grants).report
    )


@router.post("/{job_id}/cancel", operation_id="cancel_job", summary="Cancel a job, or end a watch")
def cancel(caller: SubmitterDep, job_id: JobName, engine: EngineDep) -> JobStatus:
    """End a job now. What has been scored stays; its other items end as `cancelled`, by and by if they are many."""
    return JobStatus.model_validate(pipeline.steer(engine, job_id, steering.cancel_job, grants=caller.grants).report)


@router.post("/{job_id}/retry", operation_id="retry_job", summary="Open rejected, dead and cancelled items again")
def retry(
    caller: SubmitterDep,
    job_id: JobName,
    engine: EngineDep,
    doorbell: DoorbellDep,
    chosen: Annotated[RetryRequest | None, Body()] = None,
) -> JobRetried:
    """Open items again that ended unscored. A job that has ended is open again; where none fits, nothing changes."""
    chosen = chosen or RetryRequest()
    states = [ItemState(state) for state in chosen.states]
    steered = pipeline.retry(engine, job_id, doorbell, states=states, reasons=chosen.reasons, grants=caller.grants)
    return JobRetried.model_validate(steered.report).model_copy(update={"retried": steered.n_retried})


@router.patch("/{job_id}", operation_id="change_job", summary="Change a job's priority")
def change(caller: SubmitterDep, job_id: JobName, new: JobChange, engine: EngineDep) -> JobStatus:
    """Change a job's priority: jobs that wait for the same workers share them by it."""
    set_priority = partial(steering.set_priority, priority=new.priority)
    return JobStatus.model_validate(pipeline.steer(engine, job_id, set_priority, grants=caller.grants).report)


@router.delete("/{job_id}", operation_id="delete_job", status_code=204, summary="Delete a job")
def delete(caller: SubmitterDep, job_id: JobName, engine: EngineDep, force: Force = False) -> None:
    """Delete a job that has ended, and its items. Its results and scores stay."""
    with transaction(engine) as connection:
        steering.delete_job(connection, read_job(connection, job_id, caller.grants).id, force=force)
