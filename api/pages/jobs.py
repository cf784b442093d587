"""Pages of jobs: the list, one job with progress that moves, and its steering."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dpiqa.errors import DpiqaError, NotFound
from dpiqa.http_api.common import Cursor, JobName
from dpiqa.pipeline import steering as pipeline
from dpiqa.storage import steering
from dpiqa.storage.engine import reading, transaction
from dpiqa.storage.job_queries import JobFilter, JobReport, get_job, job_items, list_jobs
from dpiqa.types import ENDED_JOB_STATES, ItemState, JobState, Reason

from ..dependencies import DoorbellDep, EngineDep, ReaderDep, SubmitterDep
from .rendering import PageRoute, error_text, render

router = APIRouter(prefix="/jobs", route_class=PageRoute, include_in_schema=False)

_PAGE = 50  #: jobs, or items, of one page


@router.get("")
def show_jobs(
    request: Request,
    caller: ReaderDep,
    engine: EngineDep,
    state: Annotated[str | None, Query(max_length=20)] = None,
    cursor: Cursor | None = None,
) -> HTMLResponse:
    """List jobs, newest first."""
    states = (JobState(state),) if state in set(JobState) else ()
    with reading(engine) as c:
        page = list_jobs(c, JobFilter(states=states, grants=caller.grants), limit=_PAGE, cursor=cursor or None)
    chosen = states[0] if states else None
    return render(
        request, "jobs.html", jobs=page.items, next_cursor=page.next_cursor, state=chosen, states=list(JobState)
    )


@router.get("/{job_id}")
def show_job(
    request: Request,
    caller: ReaderDep,
    job_id: JobName,
    engine: EngineDep,
    part: Annotated[bool, Query(description="Only what moves, for htmx.")] = False,
) -> HTMLResponse:
    """Show a job and its progress; `app.js` asks for the moving part again when the job's event stream says so."""
    with reading(engine) as c:
        report = get_job(c, job_id, caller.grants)
    return _page(request, report, "job_progress.html" if part else "job.html")


@router.get("/{job_id}/items")
def show_items(
    request: Request,
    caller: ReaderDep,
    job_id: JobName,
    engine: EngineDep,
    reason: Reason | None = None,
    state: ItemState | None = None,
    cursor: Cursor | None = None,
) -> HTMLResponse:
    """List images of a job that ended for one reason, or are in one state."""
    with reading(engine) as c:
        report = get_job(c, job_id, caller.grants)
        page = job_items(c, job_id, state, reason=reason, grants=caller.grants, limit=_PAGE, cursor=cursor or None)
    return render(request, "job_items.html", job=report.job, page=page, reason=reason, state=state)


@router.post("/{job_id}/{action}")
def steer(
    request: Request,
    caller: SubmitterDep,
    job_id: JobName,
    action: str,
    engine: EngineDep,
    doorbell: DoorbellDep,
    reason: Annotated[str | None, Form()] = None,
    priority: Annotated[int, Form()] = 0,
) -> Response:
    """Do what a button says, and show the job again; an answer to htmx holds only what moves."""
    try:
        if action == "retry":
            reasons = [Reason(reason)] if reason in set(Reason) else []
            report = pipeline.retry(engine, job_id, doorbell, reasons=reasons, grants=caller.grants).report
        elif action == "delete":
            with transaction(engine) as c:
                steering.delete_job(c, get_job(c, job_id, caller.grants).job.id)
            return Response(status_code=204, headers={"HX-Redirect": f"{request.scope.get('root_path', '')}/jobs"})
        else:
            changes: dict[str, pipeline.Change] = {
                "pause": steering.pause_job,
                "resume": steering.resume_job,
                "cancel": steering.cancel_job,
                "priority": partial(steering.set_priority, priority=priority),
            }
            if action not in changes:
                raise NotFound(f"there is no action {action!r} of jobs")
            report = pipeline.steer(engine, job_id, changes[action], doorbell, grants=caller.grants).report
    except DpiqaError as error:
        if "hx-request" not in request.headers:
            raise
        with reading(engine) as c:
            report = get_job(c, job_id, caller.grants)
        return _page(request, report, "job_progress.html", message=error_text(error))
    if "hx-request" not in request.headers:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/jobs/{report.job.id}", 303)
    return _page(request, report, "job_progress.html")


def _page(request: Request, report: JobReport, template: str, message: str = "") -> HTMLResponse:
    job = report.job
    ended = job.state in ENDED_JOB_STATES
    actions = [
        name
        for name, is_offered in {
            "pause": job.state in {JobState.LISTING, JobState.RUNNING, JobState.WATCHING},
            "resume": job.state is JobState.PAUSED,
            "cancel": not ended,
            "retry": bool(report.failures),
            "delete": ended,
        }.items()
        if is_offered
    ]
    return render(request, template, report=report, job=job, ended=ended, actions=actions, message=message)
