"""A folder of the local disk as an object store, for tests of the pipeline that need no S3."""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from dpiqa.errors import ConfigurationError, DpiqaError, ImageRejected, ObjectChanged, ObjectGone, StoreUnavailable
from dpiqa.objects.store import Fetched
from dpiqa.types import ImageRef, Reason

_PAGE = 1000


class FolderStore:
    """The `ObjectStore` of the files below a folder. The bucket's name is only a label.

    Keys are paths relative to the folder, with `/`. Files and folders whose name begins with a dot are not listed,
    and links out of the folder are not followed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def list(self, bucket: str, prefix: str, start_after: str | None = None) -> Iterator[list[ImageRef]]:
        """See `ObjectStore.list`. Files that vanish meanwhile are left out."""
        if not self._root.is_dir():
            raise ConfigurationError(f"{self._root} is not a folder", hint="check the path")
        keys = sorted(key for key in self._keys() if key.startswith(prefix) and key > (start_after or ""))
        for start in range(0, len(keys), _PAGE):
            page = [self._look(bucket, key) for key in keys[start : start + _PAGE]]
            if refs := [ref for ref in page if ref]:
                yield refs

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `ObjectStore.get`."""
        now = self.head(ref.bucket, ref.key)
        if ref.etag and ref.etag != now.etag:
            raise ObjectChanged(f"{ref.key} was overwritten", current=now)
        if not now.size:
            raise ImageRejected(Reason.EMPTY, "the file has no bytes")
        if now.size > max_bytes:
            raise ImageRejected(Reason.TOO_MANY_BYTES, f"{now.size} bytes, at most {max_bytes}")
        data = self._read(ref.key)
        after = self.head(ref.bucket, ref.key)
        if after.etag != now.etag:
            raise ObjectChanged(f"{ref.key} was overwritten while it was read", current=after)
        return Fetched(data=data, etag=now.etag, version_id=None, last_modified=now.last_modified)

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ImageRef:
        """See `ObjectStore.head`."""
        ref = self._look(bucket, key)
        if ref is None:
            raise ObjectGone(f"{key} is gone")
        return ref

    def _keys(self) -> Iterator[str]:
        for folder, folders, files in os.walk(self._root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = Path(folder).relative_to(self._root)
            yield from ((below / name).as_posix() for name in files if not name.startswith("."))

    def _look(self, bucket: str, key: str) -> ImageRef | None:
        """Describe the file as it is now; None if it does not exist, or lies outside the folder."""
        path = self._path(key)
        try:
            status = path.stat() if path else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _mapped(error, key) from None
        if status is None or not stat.S_ISREG(status.st_mode):
            return None
        return ImageRef(
            bucket=bucket,
            key=key,
            etag=f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}",
            size=status.st_size,
            last_modified=datetime.fromtimestamp(status.st_mtime, UTC),
        )

    def _path(self, key: str) -> Path | None:
        path = (self._root / key).resolve()
        return path if path.is_relative_to(self._root) else None

    def _read(self, key: str) -> bytes:
        try:
            return (self._root / key).read_bytes()
        except OSError as error:
            raise _mapped(error, key) from None


def _mapped(error: OSError, key: str) -> DpiqaError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ObjectGone(f"{key} is gone")
    if isinstance(error, PermissionError):
        return ImageRejected(Reason.ACCESS_DENIED, "the file may not be read")
    return StoreUnavailable(f"{key} cannot be read: {error.strerror}")
