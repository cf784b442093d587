"""Progress of a job as server-sent events."""

from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

from dpiqa.http_api.common import JobName
from dpiqa.storage import job_queries
from dpiqa.storage.engine import transaction

from ..dependencies import EngineDep, ProgressFeedsDep, ReaderDep
from ..progress import Snapshot

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

#: An event of the stream, as JSON Schema.
EVENT = {
    "type": "object",
    "required": ["event", "data", "id"],
    "properties": {
        "event": {"type": "string", "enum": ["progress", "end"]},
        "data": {"type": "string", "description": "The job and its progress, as JSON."},
        "id": {"type": "string"},
        "retry": {"type": "integer", "description": "Milliseconds before a browser connects again."},
    },
}
LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", max_length=64, description="Id of the last event that was received."),
]


@router.get(
    "/{job_id}/events",
    operation_id="follow_job",
    summary="Progress of a job, live",
    response_class=StreamingResponse,  # FastAPI takes a route of `EventSourceResponse` for a generator
    responses={
        200: {
            "description": "Events named `progress`, each with the body of `GET /v1/jobs/{job_id}`, when something "
            "changed, at most one a second; the last is named `end`, and the stream ends with the job.",
            "content": {"text/event-stream": {"schema": EVENT}},
        },
        204: {"description": "The job has ended, and `Last-Event-ID` names its last event: do not connect again."},
        404: {"description": "No such job."},
    },
)
def job_events(
    caller: ReaderDep, job_id: JobName, engine: EngineDep, feeds: ProgressFeedsDep, last_event_id: LastEventId = None
) -> Response:
    """Follow a job: server-sent events (`EventSource` in a browser, `curl -N`)."""
    with transaction(engine) as connection:
        report = job_queries.get_job(connection, job_id, caller.grants)
    first = Snapshot.of(report)
    if first.ended and first.id == last_event_id:
        return Response(status_code=204)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would hold events back
    return EventSourceResponse(feeds.events(first, report.job.id, last_event_id), headers=headers)
