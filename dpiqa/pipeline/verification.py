"""Events over HTTP are not trusted: the objects that they name are looked up in the store.

A sender with a key may be mistaken, old or malicious: it must not be able to mark objects as gone that are there, to
have bytes scored as others, or to date news into the future, so that later news counts as old. What the store says now
takes the place of what the event says; the event's time is kept where it lies between the object's and now.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from dpiqa.addresses import probe_id
from dpiqa.errors import ConfigurationError, ImageRejected, ObjectGone
from dpiqa.events import Parsed
from dpiqa.objects.store import ObjectStore
from dpiqa.types import ImageRef, Removal

THREADS = 16  #: that look objects up at once, for one body of events
SKEW = timedelta(seconds=5)  #: between our clock and the store's
_UNKNOWN = "{} could not be looked up: the event of its removal is not used"


def verified(store: ObjectStore, events: Parsed) -> Parsed:
    """Return what the store says about the objects that events name. Raises `StoreUnavailable`.

    An object that may not be read here is kept, without what the event claims: a worker will say why. The events of
    probe objects, which are gone soon, and news of access, after which a worker reads the object, are kept as they are.
    """
    changes: Sequence[ImageRef | Removal] = [*events.images, *events.removals]
    with ThreadPoolExecutor(min(THREADS, max(1, len(changes))), thread_name_prefix="verify") as pool:
        found = list(pool.map(partial(_look_up, store), changes))
    images = {(ref.bucket, ref.key): ref for ref in found if isinstance(ref, ImageRef)}
    removals = [removal for removal in found if isinstance(removal, Removal)]
    ignored = [reason for reason in found if isinstance(reason, str)]
    return Parsed(list(images.values()), removals, [*events.ignored, *ignored], events.access)


def _look_up(store: ObjectStore, change: ImageRef | Removal) -> ImageRef | Removal | str:
    """Return the object as it is, its removal, or the reason why the event is not used."""
    if probe_id(change.key) is not None:
        return change
    said = change.last_modified if isinstance(change, ImageRef) else change.occurred_at
    of_version = change.version_id if isinstance(change, Removal) else None
    try:
        current = store.head(change.bucket, change.key, of_version)
    except ObjectGone:
        # Gone as of now, by the store's clock, which may be some seconds behind: what is written after this is newer.
        now = datetime.now(UTC)
        at = min(max(said or now - SKEW, now - SKEW), now + SKEW)
        sequencer = change.sequencer if at == said else None
        return Removal(bucket=change.bucket, key=change.key, version_id=of_version, occurred_at=at, sequencer=sequencer)
    except (ImageRejected, ConfigurationError):
        if isinstance(change, Removal):
            return _UNKNOWN.format(change.key[:100])
        return ImageRef(bucket=change.bucket, key=change.key, etag="")
    if of_version is not None:
        return f"version {of_version[:100]} of {change.key[:100]} is still there"
    return replace(current, last_modified=_time(said, current.last_modified))


def _time(said: datetime | None, written: datetime | None) -> datetime | None:
    """Return the event's time where it may be true: not before the object was written, and not in the future."""
    if said is None or written is None:
        return written
    return said if written - SKEW <= said <= datetime.now(UTC) + SKEW else written
