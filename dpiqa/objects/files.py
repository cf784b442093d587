"""Files of the local disk, named one by one."""

from pathlib import Path

from dpiqa.errors import ImageRejected, ObjectGone
from dpiqa.objects.store import Fetched
from dpiqa.types import ImageRef, Reason


class LocalFiles:
    """The `get` of an object store for files: the key is a path."""

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """Read one file. Raises `ImageRejected`, `ObjectGone`: one unreadable file must not end the run."""
        try:
            with Path(ref.key).open("rb") as file:
                data = file.read(max_bytes + 1)
        except FileNotFoundError as error:
            raise ObjectGone(f"{ref.key} is gone") from error
        except OSError as error:
            raise ImageRejected(Reason.ACCESS_DENIED, f"the file cannot be read: {error.strerror}") from error
        if not data:
            raise ImageRejected(Reason.EMPTY, "the file has no bytes")
        if len(data) > max_bytes:
            raise ImageRejected(Reason.TOO_MANY_BYTES, f"more than {max_bytes} bytes")
        return Fetched(data=data, etag="", version_id=None, last_modified=None)
