"""Rows of manifests and inventories as objects: names of columns, and checks of every value. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from dpiqa.addresses import BUCKET_PATTERN, is_s3, split_s3
from dpiqa.text import shorten
from dpiqa.types import ImageRef

MAX_KEY_BYTES = 1024  #: of an object key in UTF-8, by S3
_MAX_ETAG = 255
_MAX_SIZE = 2**63 - 1

#: What a column may hold -> its names, without case, spaces and punctuation. The first that is there counts.
NAMES: dict[str, tuple[str, ...]] = {
    "key": (
        "key", "objectkey", "s3key", "sourceref", "url", "uri", "s3uri", "s3url", "s3path", "address",
        "path", "filepath", "file", "filename", "image", "imageurl", "imageuri", "imagepath", "imageref",
    ),
    "bucket": ("bucket", "bucketname", "s3bucket"),
    "etag": ("etag",),
    "size": ("size", "contentlength", "filesize", "bytes"),
    "version_id": ("versionid", "version", "objectversion"),
    "last_modified": ("lastmodified", "lastmodifieddate", "modified", "mtime"),
    "is_latest": ("islatest",),
    "is_delete_marker": ("isdeletemarker",),
}  # fmt: skip
FIELDS = tuple(NAMES)

_is_bucket = re.compile(BUCKET_PATTERN).fullmatch
#: Makes an object of the first six values of a row, in the order of `FIELDS`. Raises `ValueError`, which says what is
#: wrong.
RefMaker = Callable[[Any, Any, Any, Any, Any, Any], ImageRef]


def positions(columns: Sequence[str]) -> dict[str, int]:
    """Return where the columns that we know are, by field. Without `key`, they do not describe objects."""
    squeezed = [re.sub(r"[\W_]+", "", column).lower() for column in columns]
    found = {}
    for field, names in NAMES.items():
        for name in names:
            if name in squeezed:
                found[field] = squeezed.index(name)
                break
    return found


def ref_maker(bucket: str = "", *, url_encoded: bool = False) -> RefMaker:
    """Return the function that makes objects of rows. `bucket`: of keys whose row names none."""

    def make(key: Any, row_bucket: Any, etag: Any, size: Any, version_id: Any, last_modified: Any) -> ImageRef:
        if not isinstance(key, str) or not key:
            raise ValueError(
                "there is no key" if key in (None, "") else f"the key is not text: {shorten(repr(key), 60)}"
            )
        if is_s3(key):
            row_bucket, key = _split(key)
        elif "://" in key[:10]:
            raise ValueError(f"{shorten(key, 80)} is not an S3 address")
        else:
            row_bucket = row_bucket or bucket
        if url_encoded:
            key = unquote_plus(key, errors="strict")
        return checked_ref(row_bucket, key, etag, size, version_id, last_modified)

    return make


def _split(text: str) -> tuple[str, str]:
    address = split_s3(text)
    if not address.key:
        raise ValueError(f"{shorten(text, 80)} names a bucket, not an object")
    return address.bucket, address.key


def checked_ref(bucket: Any, key: str, etag: Any, size: Any, version_id: Any, last_modified: Any) -> ImageRef:
    """Make an object of what a row says. Raises `ValueError`, whose text says what is wrong."""
    if len(key) > MAX_KEY_BYTES or not key.isascii():
        try:
            if len(key.encode()) > MAX_KEY_BYTES:
                raise ValueError(f"the key {shorten(key, 40)} has more than {MAX_KEY_BYTES} bytes")
        except UnicodeEncodeError:
            raise ValueError("the key is not UTF-8") from None
    if "\0" in key:
        raise ValueError(f"the key {shorten(key, 60)} has a NUL character")
    if not isinstance(bucket, str) or not _is_bucket(bucket):
        raise ValueError(
            f"{shorten(str(bucket), 60)!r} is not a bucket" if bucket else f"no bucket is named for {shorten(key, 60)}"
        )
    return ImageRef(
        bucket=bucket,
        key=key,
        etag=_text(etag, "ETag").strip('"'),
        version_id=version_of(version_id),
        size=_size(size),
        last_modified=time_of(last_modified),
    )


def version_of(value: Any) -> str | None:
    """Return a version id; None where the bucket was not versioned when the object was written."""
    text = _text(value, "version id", MAX_KEY_BYTES)
    return None if text in ("", "null") else text


def _text(value: Any, name: str, limit: int = _MAX_ETAG) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > limit or not value.isascii() or "\0" in value:
        raise ValueError(f"{shorten(repr(value), 60)} is not the {name} of an object")
    return value


def _size(value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        size = int(value)
    except (ValueError, TypeError, OverflowError):
        size = -1
    if isinstance(value, bool) or not 0 <= size <= _MAX_SIZE:
        raise ValueError(f"{shorten(repr(value), 60)} is not a size in bytes")
    return size


def time_of(value: Any) -> datetime | None:
    """Return a time with a zone: that of ISO 8601 text, or a `datetime`; without a zone it is UTC."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, datetime):
        raise ValueError("the time of the last modification is not ISO 8601")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def values_of(record: Mapping[str, Any], known: dict[tuple[str, ...], list[str | None]]) -> list[Any]:
    """Return the values of a JSON object in the order of `FIELDS`. `known`: names of earlier objects, for speed."""
    names = tuple(record)
    fields = known.get(names)
    if fields is None:
        at = positions(names)
        fields = [names[at[field]] if field in at else None for field in FIELDS]
        if len(known) < 1000:
            known[names] = fields
    return [None if name is None else record[name] for name in fields]
