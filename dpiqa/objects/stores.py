"""All stores as one: the bucket says which of them holds an object."""

from collections.abc import Iterator

from dpiqa.addresses import is_folder
from dpiqa.objects.folder import FolderStore
from dpiqa.objects.s3 import S3Store
from dpiqa.objects.store import Fetched, ObjectStore
from dpiqa.settings import Settings
from dpiqa.types import ImageRef


def open_stores(settings: Settings) -> "Stores":
    """Return the stores of the settings. Raises `ConfigurationError`."""
    return Stores(S3Store.from_settings(settings), FolderStore(settings.folder_paths))


class Stores:
    """The `ObjectStore` of buckets and of folders."""

    def __init__(self, s3: ObjectStore, folders: FolderStore) -> None:
        self._s3, self._folders = s3, folders

    def _of(self, bucket: str) -> ObjectStore:
        return self._folders if is_folder(bucket) else self._s3

    def list(self, bucket: str, prefix: str, start_after: str | None = None) -> Iterator[list[ImageRef]]:
        """See `ObjectStore.list`."""
        return self._of(bucket).list(bucket, prefix, start_after)

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `ObjectStore.get`."""
        return self._of(ref.bucket).get(ref, max_bytes)

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ImageRef:
        """See `ObjectStore.head`."""
        return self._of(bucket).head(bucket, key, version_id)

    def read_part(self, ref: ImageRef, start: int, n_bytes: int) -> bytes:
        """See `ObjectStore.read_part`."""
        return self._of(ref.bucket).read_part(ref, start, n_bytes)
