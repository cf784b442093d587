"""Storage events over HTTP: MinIO and Ceph webhooks, SNS, EventBridge API destinations."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from dpiqa.errors import NotFound
from dpiqa.events import parse
from dpiqa.http_api.common import EventsAccepted
from dpiqa.pipeline.ingest import ingest
from dpiqa.pipeline.verification import verified
from dpiqa.profiles import load_profile
from dpiqa.types import Delivery

from ..dependencies import DoorbellDep, EngineDep, EventSourceDep, SettingsDep, StoreDep
from ..errors import as_invalid_request

_MAX_REASONS = 20  #: in the answer, of records that were not used

router = APIRouter(prefix="/v1/events", tags=["events"])

_BODY = {
    "requestBody": {
        "required": True,
        "description": "The body of an S3, MinIO, Ceph or EventBridge event, or an SNS notification with one in it.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "anyOf": [{"required": ["Records"]}, {"required": ["detail-type"]}, {"required": ["Message"]}],
                }
            }
        },
    }
}


async def _read(request: Request) -> bytes:
    """Return the body whatever its content type: SNS sends its JSON as `text/plain`."""
    return await request.body()


@router.post(
    "",
    operation_id="send_events",
    status_code=202,
    summary="Record storage events",
    openapi_extra=_BODY,
    responses={413: {"description": "The body is larger than 1 MiB."}},
)
def receive(
    caller: EventSourceDep,
    body: Annotated[bytes, Depends(_read)],
    settings: SettingsDep,
    engine: EngineDep,
    doorbell: DoorbellDep,
    store: StoreDep,
) -> EventsAccepted:
    """Record events. If this does not answer, send them again.

    Once it answers, each image that a watch covers is recorded. Without automatic watches, other images are only
    counted (`unwatched`), as are objects that are by name no image, such as `._a.jpg` and `Thumbs.db` (`passed_over`);
    records that cannot be used are counted (`n_ignored`), the first of them with the reason.
    """
    events = parse(body).within(caller.grants)
    if settings.verify_events:
        events = verified(store, events)
    with as_invalid_request(NotFound):
        profile = load_profile(settings.profile, settings.profiles_dir)
    ingested = ingest(engine, doorbell, [events], settings, profile, Delivery.HTTP)
    return EventsAccepted(
        images=len(events.images),
        removals=len(events.removals),
        queued=len(ingested.items),
        unwatched=ingested.unwatched,
        passed_over=ingested.passed_over,
        n_ignored=len(events.ignored),
        ignored=events.ignored[:_MAX_REASONS],
        warning=ingested.warning,
    )
