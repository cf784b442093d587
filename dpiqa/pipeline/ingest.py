"""From parsed events to items. Shared by the listener and the API's `POST /v1/events`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine

from dpiqa.doorbell import Doorbell, Ring, ring_score
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
    """What became of the events."""

    items: list[int] = field(default_factory=list)  #: new items that wait for a worker
    removed: int = 0  #: items that ended because their object is gone
    unwatched: int = 0  #: images that no watch owns
    rings: list[Ring] = field(default_factory=list)  #: to be rung after the commit


def ingest(
    engine: Engine, doorbell: Doorbell, parsed: Sequence[Parsed], settings: Settings, profile: Profile
) -> Ingested:
    """Write the events down in one transaction, then ring. `profile`: of watches that are started here.

    When this returns, every image has a row: the events may be forgotten. Raises `DatabaseUnavailable`; the broker's
    absence is no error.
    """
    with transaction(engine) as c:
        ingested = ingest_within(c, parsed, settings, profile)
    ring_score(doorbell, ingested.rings)
    return ingested


def ingest_within(c: Connection, parsed: Sequence[Parsed], settings: Settings, profile: Profile) -> Ingested:
    """Do as `ingest` does, within the caller's transaction; the caller rings `rings` after its commit."""
    refs = [ref for one in parsed for ref in one.images]
    removals = [removal for one in parsed for removal in one.removals]
    items, unwatched = _add(c, refs, settings, profile)
    removed = remove_objects(c, removals) if removals else 0
    rings = ring_now(c, items, window=settings.window_items, chunk=settings.chunk_items) if items else []
    return Ingested(items, removed, unwatched, rings)


def _add(c: Connection, refs: Sequence[ImageRef], settings: Settings, profile: Profile) -> tuple[list[int], int]:
    """Add the images to every watch that owns them. Return the new items, and how many images nobody watches."""
    by_job: dict[object, tuple[Job, list[ImageRef]]] = {}
    unwatched = 0
    for ref in refs:
        jobs = find_watches(c, ref.bucket, ref.key)
        if not jobs and settings.auto_watch:
            jobs = [ensure_watch(c, ref.bucket, "", profile)]
        unwatched += not jobs
        for job in jobs:
            by_job.setdefault(job.id, (job, []))[1].append(ref)
    items = [item for job, owned in by_job.values() for item in add_images(c, job, owned)]
    return items, unwatched
