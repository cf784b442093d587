"""Storage events over HTTP: MinIO and Ceph webhooks, SNS, EventBridge API destinations."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from dpiqa.doorbell import ring_score
from dpiqa.events import parse
from dpiqa.pipeline.ingest import ingest_within

from ..deps import ServicesDep
from ..schemas import EventsAccepted

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
    """Return the body whatever its content type: SNS says `text/plain` of its JSON."""
    return await request.body()


@router.post(
    "",
    status_code=202,
    summary="Take in storage events",
    openapi_extra=_BODY,
    responses={413: {"description": "The body is larger than 1 MiB."}},
)
def receive(body: Annotated[bytes, Depends(_read)], services: ServicesDep) -> EventsAccepted:
    """Take in events. Once this answers, each image they name has a row; send again if it does not."""
    parsed = parse(body)
    profile = services.profile(None)
    with services.transaction() as connection:
        ingested = ingest_within(connection, [parsed], services.settings, profile)
    return EventsAccepted(
        images=len(parsed.images),
        removals=len(parsed.removals),
        queued=len(ingested.items),
        unwatched=ingested.unwatched,
        ignored=parsed.ignored,
        warning=ring_score(services.doorbell, ingested.rings),
    )
