"""The interface of object stores, and the part of it that reads local files."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dpiqa.errors import ImageRejected, ObjectGone
from dpiqa.types import ImageRef, Reason


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
        """Yield pages of at most 1000 objects below a prefix, in the order of their keys' bytes in UTF-8.

        Folder markers and probes are left out. To resume, pass the last key seen as `start_after`. Raises
        `ConfigurationError` when the bucket does not exist or may not be listed, `StoreUnavailable`.
        """

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """Read a whole object; with `ref.version_id` that version. An ETag of "" accepts any.

        Raises `ObjectGone`, `ObjectChanged` (with the current object) when the ETag differs, `ImageRejected` with
        `EMPTY`, `TOO_MANY_BYTES` (without reading), `ACCESS_DENIED` or `ARCHIVED`, and `StoreUnavailable`.
        """

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ImageRef:
        """Look up the current object. Raises as `get` does, except for bytes and ETag."""

    def read_part(self, ref: ImageRef, start: int, n_bytes: int) -> bytes:
        """Read a part of an object that has more than `start` bytes. Raises as `get` does, except for bytes."""


class LocalFiles:
    """The `get` of an object store for files: the key is a path."""

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """Read one file. Raises `ImageRejected`, `ObjectGone`: one unreadable file must not end the run."""
        try:
            with Path(ref.key).open("rb") as file:
                data = file.read(max_bytes + 1)
        except FileNotFoundError as error:
            is_link = Path(ref.key).is_symlink()
            what = "is a link that leads nowhere" if is_link else "does not exist"
            raise ObjectGone(f"{ref.key} {what}", hint="check the path") from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ObjectGone(f"{ref.key} is a link that leads in a circle") from error
            raise ImageRejected(Reason.ACCESS_DENIED, f"the file cannot be read: {error.strerror}") from error
        if not data:
            raise ImageRejected(Reason.EMPTY, "the file has no bytes")
        if len(data) > max_bytes:
            raise ImageRejected(Reason.TOO_MANY_BYTES, f"more than {max_bytes} bytes")
        return Fetched(data=data, etag="", version_id=None, last_modified=None)
