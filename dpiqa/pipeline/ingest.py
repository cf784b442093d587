"""Ingestion: from parsed events to items. Shared by the listener and the API's `POST /v1/events`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine

from dpiqa.doorbell import Doorbell, ring_score
from dpiqa.events import Parsed
from dpiqa.profiles import Profile
from dpiqa.settings import Settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.feed import ring_now
from dpiqa.storage.images import add_images, remove_objects
from dpiqa.storage.jobs import Job, ensure_watch, find_watches
from dpiqa.types import ImageRef


@dataclass(frozen=True, slots=True)
class Ingested:
    """Changes that a batch of events made."""

    items: list[int] = field(default_factory=list)  #: ids of new items, which wait for a worker
    removed: int = 0  #: objects that existed and are removed
    unwatched: int = 0  #: images that no watch covers
    warning: str | None = None  #: the work is recorded, but the broker was unavailable


def ingest(
    engine: Engine, doorbell: Doorbell, events: Sequence[Parsed], settings: Settings, profile: Profile
) -> Ingested:
    """Record the events in one transaction, then ring. `profile`: of watches that are started here.

    When this returns, the events may be deleted: every image that a watch covers has an item. Without `auto_watch`,
    others are only counted, and ignored records never have a row. Raises `DatabaseUnavailable`; an unavailable broker
    is not an error.
    """
    images_of_job: dict[object, tuple[Job, list[ImageRef]]] = {}
    unwatched = 0
    removals = [removal for event in events for removal in event.removals]
    with transaction(engine) as c:
        for ref in (ref for event in events for ref in event.images):
            watches = find_watches(c, ref.bucket, ref.key)
            if not watches and settings.auto_watch:
                watches = [ensure_watch(c, ref.bucket, "", profile)]
            unwatched += not watches
            for job in watches:
                images_of_job.setdefault(job.id, (job, []))[1].append(ref)
        items = [item for job, images in images_of_job.values() for item in add_images(c, job, images)]
        removed = remove_objects(c, removals) if removals else 0
        rings = ring_now(c, items, window=settings.window_items, chunk=settings.chunk_items) if items else []
    return Ingested(items, removed, unwatched, ring_score(doorbell, rings))
