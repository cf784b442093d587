"""An object store within grants: what a job of a limited key reads is checked where it is read."""

from collections.abc import Iterator

from dpiqa.access import Grants
from dpiqa.errors import ConfigurationError, ImageRejected
from dpiqa.objects.store import Fetched, ObjectStore
from dpiqa.types import ImageRef, Reason


def within(store: ObjectStore, grants: Grants) -> ObjectStore:
    """Return the store; with a limit, one that denies all else as S3 denies what a policy forbids."""
    return GrantedStore(store, grants) if grants.are_limited else store


class GrantedStore:
    """An `ObjectStore` of the granted buckets and prefixes. Raises as the store, and as if all else were forbidden."""

    def __init__(self, store: ObjectStore, grants: Grants) -> None:
        self._store, self._grants = store, grants

    def list(self, bucket: str, prefix: str, start_after: str | None = None) -> Iterator[list[ImageRef]]:
        """See `ObjectStore.list`."""
        if not self._grants.cover(bucket, prefix):
            raise ConfigurationError(
                f"s3://{bucket}/{prefix} is not within the buckets and prefixes of the key that submitted this",
                hint="`dpiqa keys list` shows them",
            )
        return self._store.list(bucket, prefix, start_after)

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `ObjectStore.get`."""
        self._require(ref.bucket, ref.key)
        return self._store.get(ref, max_bytes)

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ImageRef:
        """See `ObjectStore.head`."""
        self._require(bucket, key)
        return self._store.head(bucket, key, version_id)

    def read_part(self, ref: ImageRef, start: int, n_bytes: int) -> bytes:
        """See `ObjectStore.read_part`."""
        self._require(ref.bucket, ref.key)
        return self._store.read_part(ref, start, n_bytes)

    def _require(self, bucket: str, key: str) -> None:
        if not self._grants.cover(bucket, key):
            message = "it is not within the buckets and prefixes of the key that submitted this"
            raise ImageRejected(Reason.ACCESS_DENIED, message)
