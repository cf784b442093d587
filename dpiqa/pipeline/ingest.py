"""Ingestion: from parsed events to items. Shared by the listener and the API's `POST /v1/events`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from dpiqa.addresses import probe_id
from dpiqa.doorbell import Doorbell, ring_score
from dpiqa.events import Parsed
from dpiqa.profiles import Profile
from dpiqa.settings import Settings
from dpiqa.sources.names import is_no_image
from dpiqa.storage.access_news import find_readable
from dpiqa.storage.engine import transaction
from dpiqa.storage.feed import ring_now
from dpiqa.storage.images import add_images, known_keys, remove_objects
from dpiqa.storage.jobs import Job, ensure_watch, find_watches
from dpiqa.storage.watches import record_events, record_probes, was_ended
from dpiqa.types import Delivery, ImageRef, Removal


@dataclass(frozen=True, slots=True)
class Ingested:
    """Changes that a batch of events made."""

    items: list[int] = field(default_factory=list)  #: ids of new items, which wait for a worker
    removed: int = 0  #: objects that existed and are removed
    unwatched: int = 0  #: images that no watch covers
    passed_over: int = 0  #: objects that are by name no image
    warning: str | None = None  #: the work is recorded, but the broker was unavailable


def ingest(
    engine: Engine,
    doorbell: Doorbell,
    events: Sequence[Parsed],
    settings: Settings,
    profile: Profile,
    via: Delivery = Delivery.QUEUE,
) -> Ingested:
    """Record the events in one transaction, then ring. `profile`: of watches that are started here.

    When this returns, the events may be deleted: every image that a watch covers has an item. Others are only counted
    without `auto_watch`, and where the watch that covered them was removed. Objects that are by name no image, as in a
    listing, are passed over and counted, unless the ledger has an image of that key. News of access open the items
    again whose bytes could not be had. Ignored records never have a row, and events of probe objects are recorded as
    such.

    Raises `DatabaseUnavailable`; an unavailable broker is not an error.
    """
    images_of_job: dict[UUID, tuple[Job, list[ImageRef]]] = {}
    objects_of_watch: Counter[UUID] = Counter()
    unwatched = 0
    images, created = _without_probes([ref for event in events for ref in event.images])
    removals, removed = _without_probes([removal for event in events for removal in event.removals])
    with transaction(engine) as c:
        readable = find_readable(c, [one for event in events for one in event.access])
        images, passed_over = _without_names(c, images + readable)
        for ref in images:
            watches = find_watches(c, ref.bucket, ref.key)
            if not watches and settings.auto_watch and not was_ended(c, ref.bucket, ref.key):
                watches = [ensure_watch(c, ref.bucket, "", profile)]
            unwatched += not watches
            for job in watches:
                images_of_job.setdefault(job.id, (job, []))[1].append(ref)
        items = [item for job, refs in images_of_job.values() for item in add_images(c, job, refs)]
        n_removed = remove_objects(c, removals) if removals else 0
        passed_over_of_watch = Counter(job.id for ref in passed_over for job in find_watches(c, ref.bucket, ref.key))
        objects_of_watch.update({job.id: len(refs) for job, refs in images_of_job.values()})
        objects_of_watch.update(passed_over_of_watch)
        objects_of_watch.update(job.id for removal in removals for job in find_watches(c, removal.bucket, removal.key))
        record_events(c, objects_of_watch, passed_over_of_watch, via)
        record_probes(c, created=created, removed=removed, via=via)
        rings = ring_now(c, items, window=settings.window_items, chunk=settings.chunk_items) if items else []
    return Ingested(items, n_removed, unwatched, len(passed_over), ring_score(doorbell, rings))


def _without_names(c: Connection, refs: Sequence[ImageRef]) -> tuple[list[ImageRef], list[ImageRef]]:
    """Return the refs that may be images, and those that are by name none and have no image in the ledger."""
    named = [ref for ref in refs if is_no_image(ref.key)]
    known = known_keys(c, [(ref.bucket, ref.key) for ref in named]) if named else set()
    passed_over = [ref for ref in named if (ref.bucket, ref.key) not in known]
    return [ref for ref in refs if ref not in passed_over], passed_over


_Change = TypeVar("_Change", ImageRef, Removal)


def _without_probes(changes: Sequence[_Change]) -> tuple[list[_Change], list[UUID]]:
    """Return the changes of objects that are not probes, and the ids of the others."""
    ids = [probe_id(change.key) for change in changes]
    kept = [change for change, probe in zip(changes, ids, strict=True) if probe is None]
    return kept, [probe for probe in ids if probe is not None]
