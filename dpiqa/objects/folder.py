"""Folders of this machine as buckets, read in place. The bucket of a folder is its address: `file:///srv/photos`.

Only folders that the setting `folders` names, and those below them, may be read: otherwise a request to the API could
read any file of the workers' machine. Links out of the folder are refused, wherever they are met.
"""

import errno
import heapq
import os
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from dpiqa.addresses import folder_path
from dpiqa.errors import ConfigurationError, DpiqaError, ImageRejected, ObjectChanged, ObjectGone, StoreUnavailable
from dpiqa.files import expanded
from dpiqa.objects.store import Fetched
from dpiqa.types import ImageRef, Reason

_PAGE = 1000
_APPLES = ("._", ".DS_Store")  #: beginnings of hidden files that filters count
_MAX_NAMES = 200_000  #: of one folder that are held in memory; a larger folder is read several times


class FolderStore:
    """The `ObjectStore` of folders. Keys are paths below the folder, with `/`; the ETag is made of time and size.

    Left out are linked folders, and files and folders whose name begins with a dot, but for Apple's files. A link that
    leads nowhere or out of the folder is listed without an ETag, and so is a folder that cannot be read, as `folder/.`:
    `get` says why it cannot be had.
    """

    def __init__(self, allowed: Iterable[Path]) -> None:
        self._allowed = [expanded(path).resolve() for path in allowed]

    def list(self, bucket: str, prefix: str, start_after: str | None = None) -> Iterator[list[ImageRef]]:
        """See `ObjectStore.list`. Files that vanish meanwhile are left out."""
        root = self._root(bucket)
        if not root.is_dir():
            raise ConfigurationError(f"{root} is not a folder", hint="check the path, on the machine of the workers")
        page: list[ImageRef] = []
        for key in _walk(root, "", prefix, start_after or ""):
            try:
                ref = self._look(root, bucket, key)
            except (ImageRejected, ObjectGone):  # becomes an item, which says why it cannot be read
                if os.path.isdir(root / key) and not key.endswith("/."):  # noqa: PTH112 - Path's own may raise
                    continue  # a link to a folder outside
                ref = ImageRef(bucket=bucket, key=key, etag="")
            if ref is None and (root / key).is_symlink() and not (root / key).exists():
                ref = ImageRef(bucket=bucket, key=key, etag="")
            if ref is not None:
                page.append(ref)
            if len(page) == _PAGE:
                yield page
                page = []
        if page:
            yield page

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `ObjectStore.get`."""
        now = self.head(ref.bucket, ref.key)
        if ref.etag and ref.etag != now.etag:
            raise ObjectChanged(f"{ref.key} was overwritten", current=now)
        if not now.size:
            raise ImageRejected(Reason.EMPTY, "the file has no bytes")
        if now.size > max_bytes:
            raise ImageRejected(Reason.TOO_MANY_BYTES, f"{now.size} bytes, at most {max_bytes}")
        data = self.read_part(now, 0, now.size + 1)
        after = self.head(ref.bucket, ref.key)
        if after.etag != now.etag:
            raise ObjectChanged(f"{ref.key} was overwritten while it was read", current=after)
        return Fetched(data=data, etag=now.etag, version_id=None, last_modified=now.last_modified)

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ImageRef:  # noqa: ARG002
        """See `ObjectStore.head`."""
        ref = self._look(self._object_root(bucket), bucket, key)
        if ref is None:
            raise ObjectGone(f"{bucket}/{key} is gone")
        return ref

    def read_part(self, ref: ImageRef, start: int, n_bytes: int) -> bytes:
        """See `ObjectStore.read_part`."""
        path = _inside(self._object_root(ref.bucket), ref.key)
        if path is None:
            raise ObjectGone(f"{ref.bucket}/{ref.key} is gone")
        try:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(n_bytes)
        except OSError as error:
            raise _mapped(error, ref.key) from None

    def check(self, bucket: str) -> None:
        """Raise `ConfigurationError` where the folder may not be read."""
        self._root(bucket)

    def _root(self, bucket: str) -> Path:
        """Return the folder of a bucket. Raises `ConfigurationError` where it may not be read."""
        path = folder_path(bucket).resolve()
        if not any(path.is_relative_to(allowed) for allowed in self._allowed):
            raise ConfigurationError(
                f"{path} may not be read in place",
                hint=f"start workers, API and this command with DPIQA_FOLDERS={path}",
            )
        return path

    def _object_root(self, bucket: str) -> Path:
        try:
            return self._root(bucket)
        except ConfigurationError as error:  # of one image, such as one that a forged event names
            raise ImageRejected(Reason.ACCESS_DENIED, error.message) from None

    def _look(self, root: Path, bucket: str, key: str) -> ImageRef | None:
        """Describe a file as it is now; None if it does not exist. Raises `ImageRejected` outside the folder."""
        path = _inside(root, key)
        if path is None:
            raise ImageRejected(Reason.ACCESS_DENIED, "the path, or a link in it, leads out of the folder")
        try:
            status = path.stat()
            if key.endswith("/.") and stat.S_ISDIR(status.st_mode):
                os.scandir(path).close()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _mapped(error, key) from None
        if not stat.S_ISREG(status.st_mode):
            return None
        return ImageRef(
            bucket=bucket,
            key=key,
            etag=f"{status.st_mtime_ns:x}-{status.st_size:x}",
            size=status.st_size,
            last_modified=datetime.fromtimestamp(status.st_mtime, UTC),
        )


def _inside(root: Path, key: str) -> Path | None:
    """Return the path of a key, links followed; None outside the folder. Raises `ObjectGone` for a circle of links."""
    try:
        path = (root / key).resolve()
    except RuntimeError:
        raise ObjectGone(f"{key} is a link that leads in a circle") from None
    except (OSError, ValueError):  # a NUL, say
        return None
    return path if path.is_relative_to(root) else None


def _walk(root: Path, below: str, prefix: str, after: str) -> Iterator[str]:
    """Yield the keys of files in byte order, as S3 lists them, after a key. Linked folders are not entered."""
    last = ""
    while True:
        try:
            names = heapq.nsmallest(_MAX_NAMES, _names(root / below, last, below, prefix, after), key=os.fsencode)
        except PermissionError as error:
            if not below:
                hint = "grant the workers access"
                raise ConfigurationError(f"{root} cannot be read: {error.strerror}", hint=hint) from None
            if os.fsencode(f"{below}.") > os.fsencode(after) and f"{below}.".startswith(prefix):
                yield f"{below}."
            return
        for name in names:
            if name.endswith("/"):
                yield from _walk(root, below + name, prefix, after)
            else:
                yield below + name
        if len(names) < _MAX_NAMES:
            return
        last = names[-1]


def _names(folder: Path, last: str, below: str, prefix: str, after: str) -> Iterator[str]:
    """Yield the names of a folder that come after `last`, folders with a `/` at their end. Raises `PermissionError`."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        raise StoreUnavailable(f"{folder} cannot be read: {error.strerror}") from None
    with entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name.startswith(".") and (is_folder or not entry.name.startswith(_APPLES)):
                continue
            name = entry.name + "/" if is_folder else entry.name
            key = below + name
            is_wanted = key.startswith(prefix) or (is_folder and prefix.startswith(key))
            is_late = os.fsencode(key) > os.fsencode(after) or (is_folder and after.startswith(key))
            if is_wanted and is_late and os.fsencode(name) > os.fsencode(last):
                yield name


def _mapped(error: OSError, key: str) -> DpiqaError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ObjectGone(f"{key} is gone")
    if error.errno == errno.ELOOP:
        return ObjectGone(f"{key} is a link that leads in a circle")
    if isinstance(error, PermissionError):
        return ImageRejected(Reason.ACCESS_DENIED, "the file may not be read")
    return StoreUnavailable(f"{key} cannot be read: {error.strerror}")
