"""Storage events -> images, removals and news of access. Pure: no network, no database, no clock.

| source | shape | key |
|---|---|---|
| AWS S3 (SQS), moto | `{"Records": [...]}`, `eventSource` `aws:s3` | form-encoded |
| MinIO | the same, `minio:s3`, event names begin with `s3:` | form-encoded |
| StorageGRID | the same, `sgws:s3` | form-encoded |
| Ceph | the same, `ceph:s3` and suffixes of it | literal |
| EventBridge | `{"source": "aws.s3", "detail-type": ..., "detail": {...}}` | literal |

Each may be in an envelope: `dpiqa.envelopes`. An event is a hint: the bytes that the store returns later are scored. So
an event of another kind is ignored and counted, and one bad record never affects the others. Only a body of which
nothing is understood is refused, so that its queue keeps it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from dpiqa.access import Grants
from dpiqa.envelopes import NotUnderstoodError, opened
from dpiqa.errors import InvalidRequest
from dpiqa.text import bare_etag
from dpiqa.types import ImageRef, Removal

MAX_BODY_BYTES = 1024 * 1024  #: the largest SQS message
MAX_KEY = 1024  #: bytes of an object key in UTF-8, and of a version id
MAX_NAME = 255  #: bytes of a bucket's name, an ETag, a sequencer
MAX_SIZE = 2**63 - 1  #: bytes; the largest number that the database can hold
_FIRST_YEAR, _LAST_YEAR = 1970, 9000
_HINT = "send the body of an S3, MinIO, Ceph, StorageGRID or EventBridge event unchanged"
_DECODED_SOURCES = ("ceph:s3",)
_ENCODED_SOURCES = ("aws:s3", "minio:s3", "sgws:s3")
_ORDERED_SOURCES = ("aws:s3", "sgws:s3")  #: whose sequencers order the events of a key
_CREATED = "ObjectCreated:"
#: Event names whose `versionId` is the version that is gone for good; without one, the object is.
_GONE = frozenset(
    {
        "ObjectRemoved:Delete",
        "LifecycleExpiration:Delete",
        "ObjectLifecycle:Expiration:NonCurrent",  # Ceph
    }
)
#: Event names that hide the whole object; their `versionId`, if any, is the delete marker's.
_HIDDEN = frozenset(
    {
        "ObjectRemoved:DeleteMarkerCreated",
        "LifecycleExpiration:DeleteMarkerCreated",
        "ObjectRemoved:DeleteAllVersions",  # MinIO
        "ObjectLifecycle:Expiration:Current",  # Ceph
    }
)
#: Event names, also those of EventBridge, after which an object whose bytes could not be had may be had: restored from
#: an archive, or with other permissions, which tags may decide too.
_ACCESS = frozenset(
    {
        "ObjectRestore:Completed",
        "ObjectAcl:Put",
        "ObjectTagging:Put",
        "ObjectTagging:Delete",
        "Object Restore Completed",
        "Object ACL Updated",
        "Object Tags Added",
        "Object Tags Deleted",
    }
)
_RESTORED = frozenset({"ObjectRestore:Completed", "Object Restore Completed"})
_EVENTBRIDGE = _ACCESS | {"Object Created", "Object Deleted"}  #: what is read of EventBridge's events of S3


@dataclass(frozen=True, slots=True)
class Access:
    """An object, perhaps an old version of it, whose bytes may be had now."""

    bucket: str
    key: str
    etag: str  #: "" where the event has none
    is_restored: bool  #: from an archive; otherwise its permissions changed


@dataclass(frozen=True, slots=True)
class Parsed:
    """The images, removals and news of access of one body."""

    images: list[ImageRef] = field(default_factory=list)  #: created or overwritten; ETag "" where the event has none
    removals: list[Removal] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)  #: one reason per record that was not used
    access: list[Access] = field(default_factory=list)

    def within(self, grants: Grants) -> "Parsed":
        """Return the same without what is beyond the grants of its sender, which counts as ignored."""
        images = [ref for ref in self.images if grants.cover(ref.bucket, ref.key)]
        removals = [removal for removal in self.removals if grants.cover(removal.bucket, removal.key)]
        access = [news for news in self.access if grants.cover(news.bucket, news.key)]
        n_all = len(self.images) + len(self.removals) + len(self.access)
        n_left = n_all - len(images) - len(removals) - len(access)
        reasons = ["not within the buckets and prefixes of the key"] * n_left
        return Parsed(images, removals, [*self.ignored, *reasons], access)


class _IgnoredError(Exception):
    """This record is not used; the message says why."""


def parse(body: bytes | str | Mapping[str, Any]) -> Parsed:
    """Parse an event body.

    Raises `InvalidRequest` for one of which nothing is understood, and for one larger than `MAX_BODY_BYTES`.
    """
    images: dict[tuple[str, str, str, str | None], ImageRef] = {}
    parsed = Parsed()
    not_understood: list[str] = []
    n_events = 0
    for event in opened(_load(body)):
        n_events += 1
        try:
            change = _change(event)
        except _IgnoredError as reason:
            parsed.ignored.append(str(reason))
        except NotUnderstoodError as reason:
            not_understood.append(str(reason))
        except (KeyError, TypeError, ValueError, AttributeError):
            not_understood.append("malformed record")
        else:
            if isinstance(change, ImageRef):
                images[change.bucket, change.key, change.etag, change.version_id] = change
            elif change is not None:
                (parsed.removals if isinstance(change, Removal) else parsed.access).append(change)  # type: ignore[arg-type]
    if not n_events or len(not_understood) == n_events:
        raise InvalidRequest(not_understood[0] if not_understood else "the event is empty", hint=_HINT)
    parsed.images.extend(images.values())
    parsed.ignored.extend(not_understood)
    return parsed


def _change(event: Mapping[str, Any] | NotUnderstoodError) -> ImageRef | Removal | Access | None:
    """Return what an event says; None for one without records. Raises `_IgnoredError`, and as `opened` yields."""
    if isinstance(event, NotUnderstoodError):
        raise event
    if event.get("Event") == "s3:TestEvent":
        raise _IgnoredError("s3:TestEvent")
    if "detail-type" in event:
        return _eventbridge(event)
    return _record(event["Records"][0]) if event["Records"] else None


def compare_sequencers(a: str, b: str) -> int:
    """Compare two sequencers of AWS events of one key: -1, 0 or 1, by the rule of AWS.

    They are hexadecimal strings of differing length; the shorter is padded on the right with zeros. They order
    nothing across keys, and nothing at all on MinIO and Ceph, whose sequencers `parse` drops.
    """
    width = max(len(a), len(b))
    left, right = a.upper().ljust(width, "0"), b.upper().ljust(width, "0")
    return (left > right) - (left < right)


def _load(body: bytes | str | Mapping[str, Any]) -> Any:
    if isinstance(body, Mapping):
        return body
    if len(body) > MAX_BODY_BYTES:
        raise InvalidRequest(f"the event has {len(body)} bytes, at most {MAX_BODY_BYTES}", hint=_HINT)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("the event is not JSON", hint=_HINT) from None


def _record(record: Mapping[str, Any]) -> ImageRef | Removal | Access:
    """Read one of `Records`."""
    source = str(record.get("eventSource", ""))
    name = str(record["eventName"]).removeprefix("s3:")
    version = str(record.get("eventVersion", "2"))
    if not source.startswith(_ENCODED_SOURCES + _DECODED_SOURCES):
        raise NotUnderstoodError(f"unknown source {source[:64]!r}")
    if version.partition(".")[0] != "2":
        raise NotUnderstoodError(f"unknown event version {version[:16]!r}")
    item = record["s3"]["object"]
    key = item["key"] if source.startswith(_DECODED_SOURCES) else unquote_plus(item["key"], errors="strict")
    is_ordered = source in _ORDERED_SOURCES
    subject = _Subject(record["s3"]["bucket"]["name"], key, item, _time(record.get("eventTime")), is_ordered)
    if name.startswith(_CREATED):
        return subject.image(item.get("eTag"), item.get("versionId"))
    if name in _GONE or name in _HIDDEN:
        return subject.removal(item.get("versionId") if name in _GONE else None)
    if name in _ACCESS:
        return subject.access(item.get("eTag"), is_restored=name in _RESTORED)
    raise _IgnoredError(f"event {name[:64]!r}")


def _eventbridge(event: Mapping[str, Any]) -> ImageRef | Removal | Access:
    """Read the whole body of an EventBridge event."""
    kind = str(event["detail-type"])
    if event.get("source") != "aws.s3":
        raise NotUnderstoodError(f"an EventBridge event of source {str(event.get('source'))[:64]!r}")
    if kind not in _EVENTBRIDGE:
        raise _IgnoredError(f"event {kind[:64]!r}")
    detail = event["detail"]
    item = detail["object"]
    subject = _Subject(detail["bucket"]["name"], item["key"], item, _time(event.get("time")), is_ordered=True)
    if kind == "Object Created":
        return subject.image(item.get("etag"), item.get("version-id"))
    if kind == "Object Deleted":
        is_hidden = detail.get("deletion-type") == "Delete Marker Created"
        return subject.removal(None if is_hidden else item.get("version-id"))
    return subject.access(item.get("etag"), is_restored=kind in _RESTORED)


class _Subject:
    """The object that a record is about; the same in both shapes of event."""

    def __init__(self, bucket: Any, key: Any, item: Mapping[str, Any], time: datetime | None, is_ordered: bool) -> None:
        if not _is_text(bucket, MAX_NAME) or not _is_text(key, MAX_KEY):
            raise _IgnoredError("no usable bucket or key")
        if key.endswith("/") and not item.get("size"):
            raise _IgnoredError("a folder marker")
        self._bucket, self._key, self._time = bucket, key, time
        size, sequencer = item.get("size"), item.get("sequencer")
        self._size = size if isinstance(size, int) and 0 <= size <= MAX_SIZE else None
        self._sequencer = sequencer if is_ordered and _is_text(sequencer, MAX_NAME) else None

    def image(self, etag: str | None, version_id: str | None) -> ImageRef:
        return ImageRef(
            bucket=self._bucket,
            key=self._key,
            etag=_etag(etag),
            version_id=_version(version_id),
            size=self._size,
            last_modified=self._time,
            sequencer=self._sequencer,
        )

    def access(self, etag: str | None, *, is_restored: bool) -> Access:
        return Access(bucket=self._bucket, key=self._key, etag=_etag(etag), is_restored=is_restored)

    def removal(self, version_id: str | None) -> Removal:
        return Removal(
            bucket=self._bucket,
            key=self._key,
            version_id=_version(version_id),
            occurred_at=self._time,
            sequencer=self._sequencer,
        )


def _is_text(value: Any, max_bytes: int) -> bool:
    """Return whether Postgres and S3 can store it: not empty, not too long, without NUL and lone surrogates."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    try:
        return len(value.encode()) <= max_bytes
    except UnicodeEncodeError:
        return False


def _etag(value: Any) -> str:
    """Return the ETag without quotes; "" where the event has none."""
    if not value:
        return ""
    if not _is_text(value, MAX_NAME):
        raise _IgnoredError("no usable ETag")
    return bare_etag(value)


def _version(version_id: Any) -> str | None:
    """Return the version id; None for "null" (S3), "" (Ceph) or none, which mean an unversioned bucket."""
    if not version_id or version_id == "null":
        return None
    if not _is_text(version_id, MAX_KEY):
        raise _IgnoredError("no usable version id")
    return str(version_id)


def _time(text: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        return None  # a mistake, and at the ends of the calendar it cannot even be converted
    return time if time.tzinfo else time.replace(tzinfo=UTC)
