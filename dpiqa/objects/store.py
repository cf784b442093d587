"""The interface of object stores."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dpiqa.types import ImageRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An object's bytes, and the identity of exactly these bytes."""

    data: bytes
    etag: str  #: without quotes
    version_id: str | None
    last_modified: datetime | None


class ObjectStore(Protocol):
    """A store of objects in buckets. Thread-safe."""

    def list(self, bucket: str, prefix: str, start_after: str | None = None) -> Iterator[list[ImageRef]]:
        """Yield pages of at most 1000 objects below a prefix, in the order of their keys, without folder markers.

        To resume, pass the last key seen as `start_after`. Raises `ConfigurationError` when the bucket does not exist
        or may not be listed, `StoreUnavailable`.
        """

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """Read a whole object; with `ref.version_id` that version. An ETag of "" accepts any.

        Raises `ObjectGone`, `ObjectChanged` (with the current object) when the ETag differs, `ImageRejected` with
        `EMPTY`, `TOO_MANY_BYTES` (without reading), `ACCESS_DENIED` or `ARCHIVED`, and `StoreUnavailable`.
        """

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ImageRef:
        """Look up the current object. Raises as `get` does, except for bytes and ETag."""
